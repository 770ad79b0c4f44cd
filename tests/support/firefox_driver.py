"""Firefox with a window that nobody sees, driven by WebDriver BiDi: nothing but Firefox and Xvfb is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
XVFB = shutil.which("Xvfb")
_SECONDS = 90
_PREFERENCES = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
    "webgl.force-enabled": True,
}


class Firefox:
    """A page in it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._sent = 0
        self.heard: list[str] = []
        """What was written to the console, and addresses that were asked for."""
        self._do("session.new", capabilities={})
        self._do("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self._context = self._do("browsingContext.getTree")["contexts"][0]["context"]

    def size(self, width: int, height: int) -> None:
        """Of what the page sees."""
        viewport = {"width": width, "height": height}
        self._do("browsingContext.setViewport", context=self._context, viewport=viewport)

    def goto(self, address: str) -> None:
        self._do("browsingContext.navigate", context=self._context, url=address, wait="complete")

    def ask(self, expression: str) -> Any:
        """What an expression is in the page, as JSON says it."""
        said = self._do(
            "script.evaluate",
            expression=f"JSON.stringify({expression})",
            target={"context": self._context},
            awaitPromise=True,
        )
        if said["type"] == "exception":
            raise AssertionError(said["exceptionDetails"]["text"])
        return json.loads(said["result"].get("value", "null"))

    def wait(self, condition: str) -> None:
        end = time.monotonic() + _SECONDS
        while not self.ask(condition):
            assert time.monotonic() < end, f"waited in vain for {condition}: {self.ask('document.body.innerText')}"
            time.sleep(0.05)

    def move(self, x: float, y: float) -> None:
        self._act("pointer", "mouse", [{"type": "pointerMove", "x": round(x), "y": round(y)}])

    def click(self, x: float, y: float, *keys: str) -> None:
        """Click, with keys held (WebDriver's code points)."""
        held = [{"type": "keyDown", "value": key} for key in keys]
        freed = [{"type": "keyUp", "value": key} for key in keys]
        mouse = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._act("key", "keys", held)
        self._act("pointer", "mouse", mouse)
        self._act("key", "keys", freed)

    def press(self, key: str, *held: str) -> None:
        keys = [*held, key]
        self._act("key", "keys", [{"type": "keyDown", "value": one} for one in keys])
        self._act("key", "keys", [{"type": "keyUp", "value": one} for one in reversed(keys)])

    def _act(self, kind: str, name: str, steps: list[dict[str, Any]]) -> None:
        if steps:
            source = {"type": kind, "id": name, "actions": steps}
            self._do("input.performActions", context=self._context, actions=[source])

    def _do(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=_SECONDS))
            if said.get("method") == "log.entryAdded":
                self.heard.append(f"console: {said['params'].get('text')}")
            elif said.get("method") == "network.beforeRequestSent":
                self.heard.append(f"request: {said['params']['request']['url']}")
            elif said.get("id") == self._sent:
                if said["type"] == "error":
                    raise AssertionError(f"{method}: {said['message']}")
                return dict(said["result"])


@contextmanager
def firefox() -> Iterator[Firefox]:
    """Firefox with a profile of its own, which knows no network."""
    assert FIREFOX is not None
    assert XVFB is not None
    with tempfile.TemporaryDirectory() as folder, _display() as display:
        profile = Path(folder) / "profile"
        profile.mkdir()
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in _PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
        said = Path(folder) / "said.txt"
        with said.open("wb") as log:
            browser = subprocess.Popen(
                [FIREFOX, "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0", "about:blank"],
                env={**os.environ, "DISPLAY": display, "HOME": folder, "LIBGL_ALWAYS_SOFTWARE": "1"},
                stdout=log,
                stderr=log,
            )
        try:
            with connect(f"{_address(browser, said)}/session", max_size=None, open_timeout=_SECONDS) as socket:
                yield Firefox(socket)
        finally:
            browser.terminate()
            try:
                browser.wait(20)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


def _address(browser: subprocess.Popen[bytes], said: Path) -> str:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and browser.poll() is None:
        found = re.search(r"WebDriver BiDi listening on (ws://\S+)", said.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"Firefox does not listen: {said.read_text(errors='replace')[-2000:]}")


@contextmanager
def _display() -> Iterator[str]:
    """A screen that nobody sees."""
    assert XVFB is not None
    ready, write = os.pipe()
    command = [XVFB, "-displayfd", str(write), "-screen", "0", "1000x800x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(ready) as said:
            number = said.readline().strip()
        assert number, "Xvfb does not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()
