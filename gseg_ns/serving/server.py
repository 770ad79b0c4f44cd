"""One port for the page, its splats and what is asked over a websocket.

Bound to this machine unless asked; every request brings the token of the address, and names this host and this origin.
"""

from __future__ import annotations

import asyncio
import errno
import http
import json
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, broadcast
from websockets.asyncio.server import serve as listen
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from gseg_ns.errors import GsegError
from gseg_ns.page.served import POLICY
from gseg_ns.serving.desk import Desk
from gseg_ns.serving.messages import LONGEST, read_message
from gseg_ns.viewer.entrance import LOOPBACK, TOKEN, Answer, Door, in_address, is_loopback, origins_of_environment

SOCKET = "/session"
"""Path of the websocket."""

_HEADERS = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Connection", "close"),
]
_WAITING = 64
"""Things that one browser may have asked for that are not done yet."""


@dataclass
class PageDoor(Door):
    """As Nerfstudio's viewer is guarded, and more: a token always, and no name of a host but those of this machine."""

    paths: frozenset[str] = frozenset()
    """What is given out."""

    def answer(self, path: str, headers: Any) -> Answer | None:
        """See `Door`."""
        if is_loopback(self.host) and not self._is_here(headers):
            return http.HTTPStatus.FORBIDDEN, [], b"This server is for this machine, by its own names.\n"
        return super().answer(path, headers)

    def _is_here(self, headers: Any) -> bool:
        try:
            named = urlsplit(f"//{headers.get('Host', '')}").hostname
        except Exception:  # two of them, or what is none
            return False
        return self._is_mine(named)

    def _refuse_file(self, path: str) -> Answer | None:
        known = path.partition("?")[0] in self.paths
        return None if known else (http.HTTPStatus.NOT_FOUND, [], b"404\n")


@dataclass
class PageServer:
    """Gives out the page, and lets all browsers work at one desk."""

    desk: Desk
    files: Mapping[str, tuple[bytes, str]]
    """Path -> content and its type."""
    door: PageDoor
    _connections: set[ServerConnection] = field(default_factory=set)
    _acts: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="gseg-page"))
    _slow: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="gseg-slow"))
    _writes: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="gseg-writes"))

    async def start(self, host: str, port: int) -> tuple[Server, int]:
        """Listen.

        Returns:
            the server, and its port: another than was asked for where that is in use.
        """
        loop = asyncio.get_running_loop()

        def tell(frames: list[bytes | str]) -> None:
            loop.call_soon_threadsafe(self._broadcast, frames)

        self.desk.listen(tell, self._slow.submit)

        # Neither splats nor marks become smaller enough to wait for it.
        def begin(port: int) -> Awaitable[Server]:
            return listen(
                self._talk,
                host,
                port,
                process_request=self._request,
                compression=None,
                max_size=LONGEST,
                max_queue=_WAITING,
            )

        try:
            server = await begin(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise GsegError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
            server = await begin(0)
        found: int = next(iter(server.sockets)).getsockname()[1]
        self.door.cookie += f"-{found}"
        loop.run_in_executor(self._slow, self.desk.prepare)
        return server, found

    def close(self) -> None:
        """Leave what has not begun, and wait for what has: what it did is still to be saved."""
        self.desk.end()
        pools = (self._slow, self._acts, self._writes)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no websocket, and refuse who may not come in."""
        refused = self.door.answer(request.path, request.headers)
        if refused is not None:
            status, said, body = refused
            return _response(status, list(said), body)
        path = request.path.partition("?")[0]
        if request.headers.get("Upgrade") == "websocket":
            return None if path == SOCKET else _response(http.HTTPStatus.NOT_FOUND, [], b"404\n")
        content, kind = self.files[path]
        return _response(http.HTTPStatus.OK, [("Content-Type", kind)], content)

    def _broadcast(self, frames: list[bytes | str]) -> None:
        for frame in frames:
            broadcast(self._connections, frame)

    async def _talk(self, connection: ServerConnection) -> None:
        """Serve one browser until it goes."""
        loop = asyncio.get_running_loop()
        here: asyncio.Future[None] = loop.create_future()

        def arrive(frames: list[bytes | str]) -> None:
            for frame in frames:
                broadcast([connection], frame)
            self._connections.add(connection)
            if not here.done():
                here.set_result(None)

        def greet(frames: list[bytes | str]) -> None:
            loop.call_soon_threadsafe(arrive, frames)

        await loop.run_in_executor(self._acts, self.desk.greet, greet)
        await here
        waiting: set[asyncio.Task[None]] = set()
        try:
            async for raw in connection:
                task = asyncio.create_task(self._answer(connection, raw))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                while len(waiting) >= _WAITING:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)

    async def _answer(self, connection: ServerConnection, raw: Any) -> None:
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            loop.call_soon_threadsafe(broadcast, [connection], json.dumps({"state": {"said": text}}))

        try:
            asked = read_message(raw)
        except ValueError:
            said = "The page asked for something that the viewer does not understand. Reload it."
            answer: Any = {"answers": None, "said": said, "well": False}
        else:
            # One thing after the other, in the order in which browsers ask; what takes long has a thread of its own.
            thread = self._slow if asked.name in self.desk.SLOW else self._acts
            answer = await loop.run_in_executor(thread, self.desk.begin, asked, say)
            if callable(answer):  # what there was is known; it is written beside
                answer = await loop.run_in_executor(self._writes, answer)
        try:
            await connection.send(json.dumps(answer))
        except ConnectionClosed:
            pass


def _response(status: http.HTTPStatus, said: list[tuple[str, str]], body: bytes) -> Response:
    named = {name.lower() for name, _ in said}
    usual = [(name, text) for name, text in _HEADERS if name.lower() not in named]
    kind = [] if "content-type" in named else [("Content-Type", "text/plain; charset=utf-8")]
    headers = Headers([*said, *kind, *usual, ("Content-Length", str(len(body)))])
    return Response(status, status.phrase, headers, body)


def serve(
    desk: Desk,
    files: Mapping[str, tuple[bytes, str]],
    port: int,
    host: str | None = None,
    ready: Callable[[str, int], None] = lambda address, port: None,
    until: Callable[[], Any] | None = None,
) -> None:
    """Serve a page until the program is stopped.

    Args:
        desk: what pages work at.
        files: of the page, see `page_files`.
        port: another is taken where it is in use.
        host: that it is bound to; this machine alone unless given.
        ready: is told the address with its token, and the port.
        until: is waited for in place of the end of the program.

    Raises:
        GsegError: it cannot listen there.
    """
    host = LOOPBACK if host is None else host
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    origins = set(origins_of_environment())
    door = PageDoor(host, None, token, origins, framed=False, cookie="gseg-page-token", paths=frozenset(files))

    async def run() -> None:
        pages = PageServer(desk, files, door)
        server, found = await pages.start(host, port)
        name = host if is_loopback(host) else socket.gethostname()
        ready(f"http://{f'[{name}]' if ':' in name else name}:{found}/?token={in_address(token)}", found)
        try:
            async with server:
                if until is None:
                    await asyncio.get_running_loop().create_future()
                else:
                    await asyncio.get_running_loop().run_in_executor(None, until)
        finally:
            pages.close()

    try:
        asyncio.run(run())
    finally:
        desk.close()
