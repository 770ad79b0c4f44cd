"""What a piece of work costs: processor seconds of all threads, and the peak of resident memory."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from gseg_ns.errors import GsegError

S = TypeVar("S")
T = TypeVar("T")

SHORT, RUNS = 3.0, 8
"""Work that can be repeated is, until its runs together took so many seconds, or so often."""


@dataclass
class Row:
    """One figure of a stage."""

    stage: str
    what: str
    seconds: float
    """Processor time of all threads."""
    parts: int = 1
    """What it is counted by: views, mostly."""
    gib: float = 0.0
    """Peak resident memory of the process so far."""

    def line(self) -> str:
        """The row of a table."""
        each = f"{self.seconds / self.parts:10.3f} each of {self.parts}" if self.parts > 1 else ""
        return f"{self.stage:8} {self.what:52} {self.seconds:9.2f} s {self.gib:6.2f} GiB {each}"


class Clock:
    """Gathers the figures of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.rows: list[Row] = []

    @contextmanager
    def __call__(self, what: str, parts: int = 1) -> Iterator[None]:
        """Note the processor time of a block."""
        before = time.process_time()
        yield
        self.note(what, time.process_time() - before, parts)

    def least(self, what: str, work: Callable[[], T], parts: int = 1) -> T:
        """Note the processor time of work that can be done again, and return what it gave: see `least_with`."""
        return self.least_with(lambda: None, what, lambda _: work(), parts)

    def least_with(self, fresh: Callable[[], S], what: str, work: Callable[[S], T], parts: int = 1) -> T:
        """Note the processor time of work, done again where it is short; the least reading counts.

        A short one alone is hardly timed: its first run imports modules, asks for memory and starts threads, and what
        else the machine does only makes it longer.

        Args:
            fresh: makes, before each run and beside the clock, what the work takes, so that none finds what another
                run kept.
            what: what to call it.
            work: what is timed.
            parts: what it is counted by.

        Returns:
            What the last run gave.
        """
        readings: list[float] = []
        while sum(readings) < SHORT and len(readings) < RUNS:
            taken = fresh()
            before = time.process_time()
            found = work(taken)
            readings.append(time.process_time() - before)
        self.note(what, min(readings), parts)
        return found

    def note(self, what: str, seconds: float, parts: int = 1) -> None:
        """Note a figure."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.rows.append(Row(self.stage, what, seconds, parts, peak))


def in_process(arguments: list[str], environment: dict[str, str] | None = None) -> tuple[str, float, float]:
    """Run a command: what it printed, its processor seconds with those of its children, its peak memory in GiB.

    Raises:
        GsegError: it failed.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            arguments, stdout=said, env={**os.environ, "PYTHONWARNINGS": "ignore", **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        output = said.read()
    if process.returncode:
        raise GsegError(f"{' '.join(arguments)} failed ({process.returncode}): {output[-2000:]}")
    return output, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20
