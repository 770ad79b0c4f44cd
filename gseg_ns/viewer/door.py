"""Who comes in to a viewer: what viser 0.2.7 leaves open is shut while we are installed, for all methods.

viser serves any file of the machine to `GET /../..`, and obeys a WebSocket that a page of any other site opens.
docs/safety.md says what is checked here and what is not.
"""

from __future__ import annotations

import functools
import hmac
import http
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from nerfstudio.viewer import viewer as upstream
from nerfstudio.viewer_legacy.server import viewer_state as upstream_legacy
from viser import ViserServer
from viser.infra import _infra

from gseg_ns.compat import with_globals
from gseg_ns.terminal import CONSOLE, warn

ORIGINS = "GSEG_VIEWER_ORIGINS"
"""Environment variable: further origins, with commas between them, whose pages may drive the viewer."""

TOKEN = "GSEG_VIEWER_TOKEN"
"""Environment variable: what is asked of every browser; empty: nothing is."""

LOOPBACK = "127.0.0.1"

_LEGACY = "https://viewer.nerf.studio"
"""Where the page of Nerfstudio's legacy viewer comes from."""

Answer = tuple[http.HTTPStatus, Any, bytes]
"""Status, headers and body with which a request ends."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def origins_of_environment() -> frozenset[str]:
    """The origins that the user lists."""
    listed = os.environ.get(ORIGINS, "").split(",")
    return frozenset(origin.strip().rstrip("/").lower() for origin in listed if origin.strip())


@dataclass
class Door:
    """What is asked of those who come to one server."""

    host: str
    """What the server is bound to."""
    root: Path | None = None
    """Folder whose files are served; None: none are."""
    token: str = ""
    """To be brought by every request, in the address of the first one and in a cookie afterwards; "": none is."""
    origins: set[str] = field(default_factory=set)
    """Origins that may come, beside the server's own."""
    framed: bool = True
    """Whether pages of other sites may show the viewer in a frame."""
    cookie: str = "gseg-viewer-token"
    """Name of the cookie. Cookies know hosts and no ports, so that it has the port in it."""

    def answer(self, path: str, headers: Any) -> Answer | None:
        """The answer to a request that may not come in as it is, or None. Never raises.

        Args:
            path: of the request, with its query.
            headers: of the request, `websockets.datastructures.Headers`.
        """
        try:
            # Asked as viser asks, which serves a file to everything else.
            if headers.get("Upgrade") == "websocket":
                return self._refuse_origin(headers) or self._refuse_token(path, headers)
            return self._refuse_file(path) or self._take_token(path) or self._refuse_token(path, headers)
        except Exception:  # a header that comes twice, for one
            return _refusal(http.HTTPStatus.BAD_REQUEST, "This request is not understood.")

    def _refuse_file(self, path: str) -> Answer | None:
        missing = _refusal(http.HTTPStatus.NOT_FOUND, "404")
        relative = path.partition("?")[0]
        if self.root is None or not relative.startswith("/") or "\\" in relative or "\0" in relative:
            return missing
        parts = relative[1:].split("/")
        if any(part in (".", "..") for part in parts) or relative.startswith("//"):
            return missing
        file = self.root.joinpath(*parts) if any(parts) else self.root / "index.html"
        try:
            inside = file.is_file() and file.resolve().is_relative_to(self.root.resolve())
        except (OSError, ValueError):  # too long a name
            return missing
        return None if inside else missing

    def _refuse_origin(self, headers: Any) -> Answer | None:
        """A browser names the site of the page that opens a WebSocket; programs need not, and say what they like."""
        origin = headers.get("Origin")
        if origin is None:
            return None
        if origin.lower() in self.origins:
            return None
        asked, came = urlsplit(f"//{headers.get('Host', '')}"), urlsplit(origin)
        usual = {"http": 80, "https": 443}.get(came.scheme)
        same = came.hostname is not None and (came.hostname, came.port or usual) == (
            asked.hostname,
            asked.port or usual,
        )
        if usual is not None and same and (self.token or not is_loopback(self.host) or self._is_mine(asked.hostname)):
            return None
        return _refusal(
            http.HTTPStatus.FORBIDDEN,
            f"A page of {origin} may not drive this viewer. If it shall, start the viewer with {ORIGINS}={origin}",
        )

    def _is_mine(self, name: str | None) -> bool:
        """Whether a host name means this machine in any case; another may be made to by whoever owns it."""
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            mine = socket.gethostname().lower()
            return name in ("localhost", mine, mine.partition(".")[0]) or name.endswith(".localhost")
        return True

    def _refuse_token(self, path: str, headers: Any) -> Answer | None:
        if not self.token or self._brought(path) or self._kept(headers):
            return None
        return _refusal(
            http.HTTPStatus.UNAUTHORIZED,
            "This viewer asks for a token: open the address with ?token=... that it wrote to the terminal.",
        )

    def _take_token(self, path: str) -> Answer | None:
        """Turn the token in an address into a cookie: viser's page tells its address to a counter of visits."""
        if not self.token or not self._brought(path):
            return None
        file, _, query = path.partition("?")
        rest = urlencode([(name, value) for name, value in parse_qsl(query) if name != "token"])
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
        said = [("Location", f"{file}?{rest}" if rest else file), ("Set-Cookie", cookie), ("Cache-Control", "no-store")]
        return http.HTTPStatus.SEE_OTHER, said, b""

    def _brought(self, path: str) -> bool:
        return any(self._is_token(token) for token in parse_qs(path.partition("?")[2]).get("token", []))

    def _kept(self, headers: Any) -> bool:
        try:
            cookies = SimpleCookie("; ".join(headers.get_all("Cookie")))
        except CookieError:
            return False
        return self.cookie in cookies and self._is_token(cookies[self.cookie].value)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self.token.encode())

    def headers(self) -> list[tuple[str, str]]:
        """What is said with a file that is served."""
        if self.framed:
            return []
        return [("Content-Security-Policy", " ".join(["frame-ancestors 'self'", *sorted(self.origins)]))]


def _refusal(status: http.HTTPStatus, text: str) -> Answer:
    return status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode()


def guarded(door: Door, process: Callable[[str, Any], Awaitable[Answer | None]] | None) -> Any:
    """The `process_request` of viser behind a door."""

    async def process_request(path: str, headers: Any) -> Answer | None:
        answered = door.answer(path, headers)
        if answered is not None or process is None:
            return answered
        answer = await process(path, headers)
        if answer is None:
            return None
        status, said, body = answer
        return status, [*dict(said).items(), *door.headers()], body

    return process_request


async def _consume(websocket: Any, handle_message: Callable[[Any], None], message_class: Any) -> None:
    """As `_message_consumer` of viser, but a message that is none is passed over.

    It would end the connection's handler without what is called when a browser goes: Nerfstudio's thread that renders
    for it would stay.
    """
    while True:
        raw = await websocket.recv()
        try:
            if not isinstance(raw, bytes):  # a text
                continue
            message = message_class.deserialize(raw)
        except Exception:  # whatever those bytes make viser and msgspec stumble over
            continue
        handle_message(message)


@dataclass(frozen=True)
class _Rules:
    """How the next server of this thread is guarded."""

    token: str | None = None
    framed: bool = True
    origins: frozenset[str] = frozenset()


_USUAL = _Rules()
_rules: ContextVar[_Rules] = ContextVar("rules", default=_USUAL)
_host_chosen: ContextVar[bool] = ContextVar("host_chosen", default=False)


@contextmanager
def _ruled(rules: _Rules) -> Iterator[None]:
    before = _rules.set(rules)
    try:
        yield
    finally:
        _rules.reset(before)


def door_of(server: ViserServer) -> Door:
    """The door of a server that runs."""
    return server._websock_server._gseg_door  # type: ignore[attr-defined]


def guard_viewers() -> None:
    """Put a door before every viewer that this process opens. May be called again."""
    if getattr(_infra.WebsockServer.start, "_gseg_guards", False):
        return
    start, work = _infra.WebsockServer.start, _infra.WebsockServer._background_worker
    share = ViserServer.request_share_url

    @functools.wraps(start)
    def guarded_start(self: Any) -> None:
        rules = _rules.get()
        token = os.environ.get(TOKEN, rules.token or "")
        origins = {*origins_of_environment(), *rules.origins}
        self._gseg_door = Door(self._host, self._http_server_root, token, origins, rules.framed)
        start(self)
        self._gseg_door.cookie += f"-{self._port}"

    @functools.wraps(work)
    def guarded_work(self: Any, ready: Any) -> None:
        serve = _infra.websockets.server.serve  # type: ignore[attr-defined]

        def guarded_serve(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
            return serve(*arguments, process_request=guarded(self._gseg_door, process_request), **options)

        websockets = SimpleNamespace(
            server=SimpleNamespace(serve=guarded_serve), exceptions=_infra.websockets.exceptions
        )
        with_globals(work, websockets=websockets, _message_consumer=_consume)(self, ready)

    @functools.wraps(share)
    def shared(self: Any, *arguments: Any, **options: Any) -> str | None:
        url = share(self, *arguments, **options)
        if url is not None:  # asked for by who is in already
            door_of(self).origins.add("://".join(urlsplit(url)[:2]).lower())
        return url

    guarded_start._gseg_guards = True  # type: ignore[attr-defined]
    _infra.WebsockServer.start = guarded_start  # type: ignore[method-assign]
    _infra.WebsockServer._background_worker = guarded_work  # type: ignore[method-assign, assignment]
    ViserServer.request_share_url = shared  # type: ignore[method-assign]
    _guard_nerfstudio()


def _guard_nerfstudio() -> None:
    """Let Nerfstudio's viewers of our methods be bound to this machine alone, unless asked, and say what is open."""
    make, make_legacy = upstream.Viewer.__init__, upstream_legacy.ViewerLegacyState.__init__

    @functools.wraps(make)
    def guarded_make(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        from gseg_ns.models.base import SegmentationModel

        given = dict(zip(("log_filename", "datapath", "pipeline", "trainer"), arguments, strict=False)) | options
        ours = isinstance(given["pipeline"].model, SegmentationModel)
        # ns-viewer has a default of its own, which is all of the network.
        if ours and given.get("trainer") is None and not (_is_host_given() or _host_chosen.get()):
            config.websocket_host = LOOPBACK
        is_open = not is_loopback(config.websocket_host)
        rules = _Rules(secrets.token_urlsafe(24) if ours and is_open else None, framed=not ours)
        with _ruled(rules):
            make(self, config, *arguments, **options)
        door = door_of(self.viser_server)
        port = self.viser_server.get_port()
        address = f"http://{socket.gethostname() if is_open else config.websocket_host}:{port}"
        if door.token:
            address += f"/?token={door.token}"
        # Another port is taken silently, and of that which was asked for it is said that the viewer is there.
        wanted = getattr(config, "websocket_port", None) or getattr(config, "websocket_port_default", port)
        if door.token or port != wanted:
            self.viewer_info = [f"Viewer at: {address}", *self.viewer_info[1:]]
        if port != wanted:
            warn(
                f"Port {wanted} is in use, by another viewer perhaps: this one is at {address}. To choose its port: "
                "--viewer.websocket-port N"
            )
        if is_open:
            who = "everyone who has this address" if door.token else "EVERYONE on the network, without any token,"
            CONSOLE.print(
                f"[bold yellow]The viewer is open to the network[/] (bound to {config.websocket_host}): {who} can see "
                f"and change this scene.\n  {address}"
            )

    @functools.wraps(make_legacy)
    def guarded_make_legacy(self: Any, *arguments: Any, **options: Any) -> None:
        with _ruled(_Rules(origins=frozenset({_LEGACY}))):
            make_legacy(self, *arguments, **options)

    upstream.Viewer.__init__ = guarded_make  # type: ignore[method-assign]
    upstream_legacy.ViewerLegacyState.__init__ = guarded_make_legacy  # type: ignore[method-assign]


@contextmanager
def host_chosen() -> Iterator[None]:
    """Viewers that are made within are bound to the host that their configuration names: somebody chose it."""
    before = _host_chosen.set(True)
    try:
        yield
    finally:
        _host_chosen.reset(before)


def _is_host_given() -> bool:
    return any(argument.replace("_", "-").partition("=")[0] == "--viewer.websocket-host" for argument in sys.argv[1:])
