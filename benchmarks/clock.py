"""What a piece of work costs: processor seconds of all threads, and the peak of resident memory."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gseg_ns.errors import GsegError


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
