"""A real server of viser behind its door: files, origins, tokens."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import viser
import websockets
from nerfstudio.viewer import viewer as upstream
from viser import _messages
from websockets.datastructures import Headers

from gseg_ns.method_configs.gaga import gaga
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.viewer import door as door_module
from gseg_ns.viewer.door import door_of, guarded
from gseg_ns.viewer.entrance import LOOPBACK, ORIGINS, TOKEN, Door, is_loopback
from three_balls import build_model


def serve(host: str = LOOPBACK) -> viser.ViserServer:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    return viser.ViserServer(host=host, port=port, verbose=False)


@pytest.fixture(scope="module")
def server() -> Iterator[viser.ViserServer]:
    server = serve()
    yield server
    server.stop()


@pytest.fixture
def guarded_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[viser.ViserServer]:
    """One with a token and a foreign origin that may come."""
    monkeypatch.setenv(TOKEN, "s3cret")
    monkeypatch.setenv(ORIGINS, "https://hub.example, http://b.example:81/")
    server = serve()
    yield server
    server.stop()


def get(server: viser.ViserServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Without a client that tidies paths up."""
    connection = http.client.HTTPConnection(LOOPBACK, server.get_port(), timeout=20)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    result = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return result


def status_of_socket(server: viser.ViserServer, origin: str | None, query: str = "", **headers: str) -> int:
    """101 for a WebSocket that is opened."""

    async def connect() -> int:
        address = f"ws://{LOOPBACK}:{server.get_port()}/{query}"
        try:
            async with websockets.connect(
                address, origin=None if origin is None else websockets.Origin(origin), additional_headers=headers
            ) as socket:
                await asyncio.wait_for(socket.recv(), 20)  # what the viewer shows
                return 101
        except websockets.InvalidStatus as refused:
            return refused.response.status_code

    return asyncio.run(connect())


def test_files_of_the_viewer_are_served_and_no_others(server: viser.ViserServer, tmp_path: Path) -> None:
    status, _, index = get(server, "/")
    assert status == 200
    assert b"<html" in index
    for path in ("/index.html", "/index.html?a=b", "/manifest.json", "/hdri/city.hdr"):
        assert get(server, path)[0] in (200, 404)
    (script,) = re.findall('src="(/assets/[^"]+)"', index.decode())
    assert get(server, script)[0] == 200
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    up = "/.." * 30
    for path in (
        f"{up}{secret}",
        f"/assets{up}{secret}",
        f"/.{up}{secret}",
        f"{up}{secret}?x",
        f"/{secret}",
        f"//{secret}",
        f"/%2e%2e/%2e%2e{secret}",
        f"{'/%2E%2E' * 30}{secret}",
        f"{'/%252e%252e' * 30}{secret}",
        f"{'/..%2f' * 30}{secret}",
        f"{'/..%5c' * 30}{secret}",
        f"{'/..;' * 30}{secret}",
        f"{'/%c0%ae%c0%ae' * 30}{secret}",
        f"/index.html#/..{up}{secret}",
        f"/index.html%00{up}{secret}",
        f"{up}/etc/passwd",
        "/assets/../index.html",
        "/..",
        "/assets",
        "/\\..\\x",
        "/" + "a" * 5000,
        f"http://localhost{up}{secret}",
    ):
        for upgrade in ({}, {"Upgrade": "h2c"}, {"Upgrade": "WebSocket"}):
            status, _, body = get(server, path, **upgrade)
            assert status in (400, 404), path
            assert b"secret" not in body
            assert b"root:" not in body


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1.evil.example:{port}",
        "http://evil.example:{port}",
        "https://viewer.nerf.studio",
        "file://",
        "",
        "http://[",
        "NULL",
        "null, http://127.0.0.1:{port}",
        "http://127.0.0.1:{port}@evil.example",
        "http://evil.example#127.0.0.1:{port}",
        "http://127.0.0.1:{port}x",
        "http://127.0.0.1:0{port}0",
        "https://127.0.0.1",
        "ws://127.0.0.1:{port}",
        "chrome-extension://127.0.0.1:{port}",
        "HTTP://EVIL.EXAMPLE:{port}",
        "http://[::1]:{port}",
        "http://[::ffff:127.0.0.1]:{port}",
        "http://0x7f.1:{port}",
        "http://2130706433:{port}",
        "http://localhost.evil.example:{port}",
        "//127.0.0.1:{port}",
    ],
)
def test_pages_of_other_sites_are_refused(server: viser.ViserServer, origin: str) -> None:
    status = status_of_socket(server, origin.format(port=server.get_port()))
    assert status in (400, 403), status


def test_the_own_page_comes_in(server: viser.ViserServer) -> None:
    port = server.get_port()
    assert status_of_socket(server, f"http://{LOOPBACK}:{port}") == 101
    assert status_of_socket(server, None) == 101


def test_a_token_is_asked_of_every_request(guarded_server: viser.ViserServer) -> None:
    server, port = guarded_server, guarded_server.get_port()
    for path in ("/", "/index.html", "/?token=", "/?token=s3cre", "/?Token=s3cret", "/?token=wr%00ng"):
        assert get(server, path)[0] == 401
    assert status_of_socket(server, f"http://{LOOPBACK}:{port}") == 401
    assert status_of_socket(server, None) == 401
    status, headers, _ = get(server, "/?token=s3cret")
    # away from the address, which the page tells to others
    assert (status, headers["location"]) == (303, "/")
    assert get(server, "/?a=b%20c&token=s3cret&d=")[1]["location"] == "/?a=b+c"
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    kept = cookie.split(";")[0]
    assert get(server, "/index.html", Cookie=f"other=1; {kept}")[0] == 200
    assert status_of_socket(server, f"http://{LOOPBACK}:{port}", Cookie=kept) == 101
    assert status_of_socket(server, None, "?token=s3cret") == 101
    # the token does not let a foreign page in, and a listed one needs it too
    assert status_of_socket(server, "http://evil.example", Cookie=kept) == 403
    for origin in ("https://hub.example", "https://HUB.example", "http://b.example:81"):
        assert status_of_socket(server, origin, Cookie=kept) == 101
        assert status_of_socket(server, origin) == 401


def headers(**named: str) -> Headers:
    return Headers({"Upgrade": "websocket", **named})


def test_a_host_name_that_another_made_mean_this_machine() -> None:
    """A page of evil.example whose owner lets the name mean 127.0.0.1: origin and host are the same then."""
    door = Door(LOOPBACK)
    mine = socket.gethostname()
    for host in ("localhost", "127.0.0.1", "[::1]", mine, "a.localhost", "10.0.0.1"):
        assert door.answer("/", headers(Host=f"{host}:7007", Origin=f"http://{host}:7007")) is None, host
        shouted = headers(Host=f"{host.upper()}:7007", Origin=f"HTTP://{host.upper()}:7007")
        assert door.answer("/", shouted) is None, host
    for host in (
        *("evil.example", "EVIL.example", "evil.example.", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("notlocalhost", "localhost.", f"{mine}.evil.example", "0x7f.1", "", "user@evil.example"),
    ):
        refused = door.answer("/", headers(Host=f"{host}:7007", Origin=f"http://{host}:7007"))
        assert refused is not None, host
        assert refused[0] == 403
    # behind a token, or where others may come in any case, the name of the host is anything
    for door in (Door(LOOPBACK, token="t"), Door("0.0.0.0")):
        came = headers(Host="gpu.example", Origin="https://gpu.example", Cookie="gseg-viewer-token=t")
        assert door.answer("/", came) is None


def test_ports_that_go_without_saying() -> None:
    door = Door("0.0.0.0")
    assert door.answer("/", headers(Host="a.example", Origin="http://a.example:80")) is None
    assert door.answer("/", headers(Host="a.example:443", Origin="https://a.example")) is None
    assert door.answer("/", headers(Host="a.example", Origin="http://a.example:81")) is not None
    assert door.answer("/", headers(Origin="http://a.example")) is not None
    twice = Headers([("Upgrade", "websocket"), ("Origin", "http://a"), ("Origin", "http://b"), ("Host", "a")])
    refused = door.answer("/", twice)
    assert refused is not None
    assert refused[0] == 400


def test_what_is_this_machine_alone() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "", "::", "10.0.0.1", "example.org")))


def test_messages_that_are_none_are_passed_over() -> None:
    """And who leaves after them is seen to leave: else the thread that renders for a browser would stay."""
    server = serve()
    left, came = threading.Event(), threading.Event()
    server._websock_server.on_client_disconnect(lambda _: left.set())
    server._websock_server.register_handler(_messages.ViewerCameraMessage, lambda *_: came.set())
    encode = msgspec.msgpack.encode
    camera = {"type": "ViewerCameraMessage", "wxyz": [1, 0, 0, 0], "position": [0, 0, 1], "fov": 1, "aspect": 1}
    whole = {**camera, "look_at": [0, 0, 0], "up_direction": [0, 0, 1]}

    async def connect() -> None:
        async with websockets.connect(f"ws://{LOOPBACK}:{server.get_port()}/") as socket:
            for message in (
                "a text",
                b"",
                b"\xc1",
                b"\x91" * 5000,
                encode(None),
                encode([1, 2]),
                encode({}),
                encode({"type": "Nothing"}),
                encode({"type": ["a"]}),
                encode({"type": "Message"}),
                encode(camera),
                encode({**whole, "more": 1}),
                encode({**whole, "fov": "wide"}),
                encode({**whole, "wxyz": 1}),
            ):
                await socket.send(message)
            assert not came.wait(0.2)
            await socket.send(encode(whole))
            assert await asyncio.to_thread(came.wait, 20)
            assert not left.is_set()

    asyncio.run(connect())
    assert left.wait(20)
    server.stop()


def test_frames_of_other_sites() -> None:
    def serve_file(framed: bool) -> dict[str, str]:
        async def process(path: str, headers: Any) -> Any:
            return 200, {"Content-Type": "text/html"}, b""

        door = Door(LOOPBACK, Path(viser.__file__).parent / "client/build", framed=framed)
        door.origins.add("https://hub.example")
        answer = asyncio.run(guarded(door, process)("/", Headers()))
        return dict(answer[1])

    assert serve_file(False)["Content-Security-Policy"] == "frame-ancestors 'self' https://hub.example"
    assert "Content-Security-Policy" not in serve_file(True)


def test_a_shared_address_comes_in(server: viser.ViserServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tunnel = SimpleNamespace(get_status=lambda: "connected", get_url=lambda: "https://abc.share.example", close=int)
    monkeypatch.setattr(server, "_share_tunnel", tunnel)
    assert status_of_socket(server, "https://abc.share.example") == 403
    assert server.request_share_url() == "https://abc.share.example"
    assert status_of_socket(server, "https://abc.share.example") == 101


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("trainer", [None, object()])
@pytest.mark.parametrize("given", [True, False])
def test_what_a_viewer_is_bound_to(
    ours: bool,
    trainer: object,
    given: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nerfstudio's own constructor is left out here, but for the server."""

    def make(self: Any, config: Any, pipeline: Any, **_: Any) -> None:
        self.viewer_info = ["Viewer running locally"]
        self.viser_server = serve(config.websocket_host)

    monkeypatch.setattr(upstream.Viewer, "__init__", make)
    door_module._guard_nerfstudio()
    host = "0.0.0.0"
    options = [f"--viewer.websocket_host={host}"] if given else []
    monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load-config", "x", *options])
    model = build_model(GagaModelConfig()) if ours else object()
    config: Any = SimpleNamespace(websocket_host=host)
    viewer: Any = upstream.Viewer(config, pipeline=SimpleNamespace(model=model), trainer=trainer)  # type: ignore
    try:
        door = door_of(viewer.viser_server)
        closed = ours and not given and trainer is None
        assert door.host == (LOOPBACK if closed else host)
        assert bool(door.token) == (ours and not closed)
        assert door.framed != ours
        said = capsys.readouterr().out
        assert ("open to the network" in said) != closed
        if door.token:
            assert door.token in viewer.viewer_info[0]
            assert door.token in said
            assert get(viewer.viser_server, "/")[0] == 401
        else:
            assert get(viewer.viser_server, "/")[0] == 200
    finally:
        viewer.viser_server.stop()


def test_another_port_than_the_one_that_is_wanted_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(self: Any, config: Any, pipeline: Any, **_: Any) -> None:
        self.viewer_info = [f"Viewer running locally at: http://localhost:{config.websocket_port}"]
        self.viser_server = serve(config.websocket_host)

    monkeypatch.setattr(upstream.Viewer, "__init__", make)
    door_module._guard_nerfstudio()
    config: Any = SimpleNamespace(websocket_host=LOOPBACK, websocket_port=1, websocket_port_default=7007)
    viewer: Any = upstream.Viewer(config, pipeline=SimpleNamespace(model=object()), trainer=object())  # type: ignore
    try:
        address = f"http://{LOOPBACK}:{viewer.viser_server.get_port()}"
        said = capsys.readouterr().out
        assert f"Port 1 is in use, by another viewer perhaps: this one is at {address}" in said
        assert "--viewer.websocket-port" in said
        assert viewer.viewer_info == [f"Viewer at: {address}"]
        config.websocket_port = viewer.viser_server.get_port()
    finally:
        viewer.viser_server.stop()


def test_our_methods_are_bound_to_this_machine() -> None:
    assert gaga.config.viewer.websocket_host == LOOPBACK
