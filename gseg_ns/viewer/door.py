"""Who comes in to a viewer: what viser 0.2.7 leaves open is shut while we are installed, for all methods.

viser serves any file of the machine to `GET /../..`, and obeys a WebSocket that a page of any other site opens.
docs/safety.md says what is checked here and what is not.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from nerfstudio.viewer import viewer as upstream
from nerfstudio.viewer_legacy.server import viewer_state as upstream_legacy
from viser import ViserServer
from viser.infra import _infra

from gseg_ns.compat import with_globals
from gseg_ns.terminal import CONSOLE, warn
from gseg_ns.viewer.entrance import LOOPBACK, TOKEN, Answer, Door, in_address, is_loopback, origins_of_environment

_LEGACY = "https://viewer.nerf.studio"
"""Where the page of Nerfstudio's legacy viewer comes from."""


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
            address += f"/?token={in_address(door.token)}"
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
