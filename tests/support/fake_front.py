"""A front end of the tab without browsers, which remembers."""

from __future__ import annotations

import threading
from typing import Any

from gseg_ns.viewer.answers import Answers


class FakeFront:
    """What browsers would see."""

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}
        self.told: list[tuple[int, str, bool]] = []
        self.threads: set[str] = set()
        """In which it was told to follow."""
        self.final = True
        self.cameras: Any = None

    def show(self, **state: Any) -> None:
        self.shown.update(state)

    def notify(self, client: int, text: str, well: bool) -> None:
        self.told.append((client, text, well))

    def draw(self) -> None:
        pass

    def follow(self) -> None:
        self.threads.add(threading.current_thread().name)

    def is_final(self) -> bool:
        return self.final

    def photographs(self) -> Any:
        return self.cameras


def finish(answers: Answers) -> None:
    """Wait until all that was asked for is done."""
    for _ in range(2):  # what takes long ends in the first thread
        for thread in (answers._acts, answers._slow, answers._beside):
            thread.submit(lambda: None).result(60)
