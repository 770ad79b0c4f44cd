"""A viewer as a user starts it, killed while things are done in it through a WebSocket as a page does them."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gseg_ns.runs import load_run
from gseg_ns.viewer.controller import SegmentController

FIRST = 600.0
"""Seconds within which a viewer begins, on a machine with much else to do."""


class Page:
    """What the script of the tab is to a viewer of another process."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self._field = ""
        self._asked: list[tuple[Any, ...]] = []
        self.told = threading.Event()
        self.done = 0
        """Number of the last name that the viewer said it gave."""
        deadline = time.monotonic() + FIRST
        usual = {"wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.0, 0.0, 10.0], "fov": 1.0, "aspect": 1.5}
        while not self.told.is_set():
            assert process.poll() is None, "the viewer ended"
            assert time.monotonic() < deadline, "no viewer, or its tab has no script"
            # One that came too early is let go of, or told nothing: a page connects again, too.
            try:
                self._socket = connect(f"ws://127.0.0.1:{port}", max_size=None)
                threading.Thread(target=self._listen, args=(self._socket,), daemon=True).start()
                self._send("ViewerCameraMessage", **usual, look_at=[0.0, 0.0, 0.0], up_direction=[0.0, 0.0, 1.0])
                self.told.wait(20)
            except (OSError, ConnectionClosed):
                time.sleep(0.2)

    def _listen(self, connection: ClientConnection) -> None:
        try:
            for raw in connection:
                assert isinstance(raw, bytes)
                for message in msgspec.msgpack.decode(raw):
                    if message.get("label") == "Segment" and "id" in message:
                        self._field = message["id"]
                    # The script comes when what is asked is heard; a page's own commands cannot come before.
                    if self._field and (message.get("source") or "").startswith("(0,eval)("):
                        self.told.set()
                    for number in re.findall(r"is now \\u201cname (\d+)", message.get("source") or ""):
                        self.done = max(self.done, int(number))
                        self.told.set()
        except ConnectionClosed:
            pass

    def _send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def name(self, number: int) -> None:
        """Call group 1 by a number, and wait until the viewer says that it is."""
        self._asked.append((len(self._asked) + 1, "name", 1, f"name {number}"))
        self._send("GuiUpdateMessage", id=self._field, updates={"value": json.dumps(["test", self._asked[-12:]])})
        while self.done < number:  # one answer may be told twice
            assert self.told.wait(60), f"no answer to {number}"
            self.told.clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(0)
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_viewer_loses_the_last_action_at_most(
    constructed_run: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(0)
    model = load_run(constructed_run).model
    number = 0
    for kill in range(request.config.getoption("--kills")):
        port = free_port()
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "gseg"), "view", str(constructed_run), "--nerfstudio",
                    "--port", str(port),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
            )  # fmt: skip
        try:
            page = Page(port, process)
            page.name(number := number + 1)
            threading.Timer(chance.uniform(0.01, 1.5), process.send_signal, (signal.SIGKILL,)).start()
            try:
                while process.poll() is None:
                    page.name(number := number + 1)
            except (ConnectionClosed, AssertionError):  # killed before it could answer
                pass
            assert process.wait(60) == -signal.SIGKILL, (tmp_path / "log").read_text()[-3000:]
        finally:
            process.kill()
            process.wait()
        session = SegmentController(model)
        said = session.load(constructed_run.parent)
        # Where nothing but the last action was done, nothing is left of it.
        assert said.startswith("Restored") or page.done <= 1, said
        assert "\n" not in said
        (found,) = re.findall(r"name (\d+)", dict(session.state().labels).get((1, None), "name 0"))
        assert page.done - 1 <= int(found) <= number, f"kill {kill}"
        assert page.done >= number - 1
