"""A program that speaks to a viewer as a page does, and says what no page would."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class ViewerClient:
    """A connection to a viewer of this process."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        server = viewer.viser_server
        known = set(server.get_clients())
        self.received: list[dict[str, Any]] = []
        self._socket = connect(f"ws://127.0.0.1:{server.get_port()}", max_size=None)
        threading.Thread(target=self._listen, daemon=True).start()
        self.look()
        self.wait(lambda: bool(set(server.get_clients()) - known), "the viewer to know the client")

    def __enter__(self) -> ViewerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _listen(self) -> None:
        try:
            for raw in self._socket:
                assert isinstance(raw, bytes)
                self.received += msgspec.msgpack.decode(raw)
        except ConnectionClosed:
            pass

    def wait(self, done: Any, what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"waited in vain for {what}: {getattr(self, '_asked', [])[-1:]}"
            time.sleep(0.02)

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def look(self, **fields: Any) -> None:
        usual = {"wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.0, 0.0, 10.0], "fov": 1.0, "aspect": 1.5}
        usual |= {"look_at": [0.0, 0.0, 0.0], "up_direction": [0.0, 0.0, 1.0]}
        self.send("ViewerCameraMessage", **{**usual, **fields})

    def handles(self) -> list[Any]:
        """All fields and buttons that every page has."""
        return list(self.viewer.viser_server.gui._gui_input_handle_from_id.values())

    def handle(self, label: str, nth: int = -1) -> Any:
        """The field or button of a label; Nerfstudio's own tabs come first and may have the same ones."""
        return [handle for handle in self.handles() if handle._impl.label == label][nth]

    def update(self, handle: Any, **updates: Any) -> None:
        self.send("GuiUpdateMessage", id=handle._impl.id, updates=updates)

    def fill(self, label: str, value: Any, nth: int = -1) -> None:
        """Fill a field, and wait until the viewer has it."""
        handle = self.handle(label, nth)
        self.update(handle, value=value)
        self.wait(lambda: handle.value == value, f"{label} to be {value!r}")

    def press(self, label: str, value: Any = True, nth: int = -1) -> str:
        """Press a button of the Segment tab and return what it says."""
        return self.answer(lambda: self.update(self.handle(label, nth), value=value))

    def ask(self, *command: Any) -> None:
        """Ask for something as the script of the tab does."""
        # viser's threads may overtake each other: what was asked for before goes along, as from the page.
        self._asked = [*getattr(self, "_asked", []), command]
        numbered = [[number, *asked] for number, asked in enumerate(self._asked, 1)][-12:]
        while len(numbered) > 1 and len(json.dumps(numbered)) > 3000:
            numbered = numbered[1:]
        text = json.dumps(["test", numbered])
        self.update(self.handle("Segment"), value=text)

    def command(self, *command: Any) -> str:
        """Ask for something as the script of the tab does, and return what the tab says."""
        return self.answer(lambda: self.ask(*command))

    def answer(self, act: Any) -> str:
        """Do something that the tab answers."""
        status = self.viewer.pipeline.model.panel.answers.said
        status.content = "waiting"
        act()
        self.wait(lambda: status.content != "waiting", "an answer")
        return str(status.content)
