"""What a process says: what matters on the terminal, and all that others print in a log file beside the run."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from rich.console import Console
from rich.markup import escape

T = TypeVar("T")

VERBOSE = "GSEG_VERBOSE"
"""Environment variable: 1 lets what upstream prints through to the terminal."""

_EVERY = 0.2
"""Seconds between two looks of the live line."""

_REMEMBERED = 15.0
"""Seconds whose speed says how long the rest takes."""

UPSTREAM = r"(nerfstudio|torch|torchvision|torchmetrics|gsplat|nerfacc|viser|open3d|pytorch_msssim)(\.|$)"
"""Modules whose deprecations are not the user's concern."""


def is_verbose() -> bool:
    """Whether the user wants to see everything."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


class Log(io.TextIOBase):
    """A file for what is printed, opened when something is: a run that cannot be written to has none."""

    def __init__(self, path: Path | None, mode: str = "a") -> None:
        """Note where it is (None: nowhere), and whether it is added to ("a") or replaced ("w")."""
        self.path = path
        self._mode = mode
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._failed = False

    def write(self, text: str) -> int:
        """Add a text. Never raises: nobody who prints expects that."""
        with self._lock:
            if self._file is None and not self._failed and self.path is not None:
                try:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = self.path.open(self._mode, encoding="utf-8", errors="replace", buffering=1)
                except OSError:
                    self._failed = True
            if self._file is not None:
                with suppress(OSError, ValueError):
                    self._file.write(text)
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file; what is printed afterwards is lost."""
        with self._lock:
            self._failed = True
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
                self._file = None
        super().close()


class _Terminal:
    """Where prints of this process go."""

    log: Log | None = None
    messages_on_stderr = False
    stdout: Any = None
    """The real one, while `sys.stdout` is the log."""


class TerminalConsole(Console):
    """A console that is on the terminal also while what others print goes to a log, which then has its lines, too."""

    @property
    def file(self) -> IO[str]:
        """What is written to."""
        if self.stderr or _Terminal.messages_on_stderr:
            return sys.stderr
        hidden = _Terminal.log is not None and not getattr(_Terminal.stdout, "closed", False)
        return _Terminal.stdout if hidden else sys.stdout

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        """It has none of its own."""
        raise AttributeError("this console follows the terminal")

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, above the live line."""
        LINE.clear()
        super().print(*objects, **options)
        if _Terminal.log is not None:
            log = cast(IO[str], _Terminal.log)
            Console(file=log, width=200, highlight=False, soft_wrap=True).print(*objects, **options)


# A file or a pipe has no width; rich's 80 columns would fold the cells of wide tables.
CONSOLE = TerminalConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
ERRORS = TerminalConsole(stderr=True, highlight=False, soft_wrap=True)


def hide_deprecations(modules: str = UPSTREAM) -> None:
    """Let nobody see what modules say to their own authors, as a rule when they are imported. May be called again.

    Not where the user wants to see everything, or has said (`-W`, PYTHONWARNINGS) what they want to see.

    Args:
        modules: whose, a regular expression; "" are all.
    """
    if is_verbose() or sys.warnoptions:
        return
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=modules)


def is_quiet() -> bool:
    """Whether prints go to a log."""
    return _Terminal.log is not None


def log_path() -> Path | None:
    """The log that prints go to."""
    return None if _Terminal.log is None else _Terminal.log.path


@contextmanager
def quietly(path: Path | None, verbose: bool = False, mode: str = "w") -> Iterator[None]:
    """Within this block, prints and warnings go to a log; `CONSOLE` and errors are seen.

    Does nothing where the user wants to see everything, or within another such block.

    Args:
        path: the log. It is made when something is printed. None: prints are dropped.
        verbose: whether the user does.
        mode: "w" replaces the file, "a" adds to it.
    """
    if verbose or is_verbose() or is_quiet():
        yield
        return
    log, stdout, show = Log(path, mode), sys.stdout, warnings.showwarning

    def showwarning(message: Any, category: Any, filename: str, lineno: int, *_: Any, **__: Any) -> None:
        log.write(warnings.formatwarning(message, category, filename, lineno))

    _Terminal.log, _Terminal.stdout = log, stdout
    sys.stdout, warnings.showwarning = log, showwarning
    try:
        yield
    finally:
        LINE.clear()
        _Terminal.log = _Terminal.stdout = None
        # A test, or a notebook, may have put another in place meanwhile.
        if sys.stdout is log:
            sys.stdout = stdout
        if warnings.showwarning is showwarning:
            warnings.showwarning = show
        log.close()


@contextmanager
def messages_on_stderr(wanted: bool = True) -> Iterator[None]:
    """Within this block, messages leave stdout to what another program reads."""
    before = _Terminal.messages_on_stderr
    _Terminal.messages_on_stderr = wanted
    try:
        yield
    finally:
        _Terminal.messages_on_stderr = before


class _Line:
    """The last line of the terminal, written over and over. Nothing where there is no terminal."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, text: str) -> None:
        if CONSOLE.is_terminal and not CONSOLE.is_dumb_terminal:
            self._shown = True
            self._write(f"\r\x1b[2K{text[: CONSOLE.width - 1]}")

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            CONSOLE.file.write(text)
            CONSOLE.file.flush()


LINE = _Line()


class Progress:
    """A job of so many steps, told on the live line; without a terminal in a few lines, or in none."""

    def __init__(self, total: int, lines: int = 0) -> None:
        """Begin.

        Args:
            total: steps of the job.
            lines: how many lines are written where there is no terminal.
        """
        self.total = total
        self._lines = lines
        self._written = 0
        self._next = 0.0
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def start_at(self, done: int) -> None:
        """A job that was begun earlier goes on."""
        self.time_from(done)
        self._written = done * self._lines // max(self.total, 1)

    def time_from(self, done: int) -> None:
        """What came before says nothing about the time that is left: kernels were compiled, or masks associated."""
        self._seen = deque([(time.monotonic(), done)])

    def is_due(self, done: int) -> bool:
        """Whether an update now would be seen: what it says may be costly to know."""
        return self._is_line_due(done) if self._without_terminal() else time.monotonic() >= self._next

    def update(self, what: str, done: int, more: str = "") -> None:
        """Say how far it is, if it is time to.

        Args:
            what: is done.
            done: steps.
            more: to say beside.
        """
        if not self.is_due(done):
            return
        parts = [f"{what} {done}/{self.total}", more, self._left(done)]
        text = "   ".join(part for part in parts if part)
        if self._without_terminal():
            self._written = done * self._lines // max(self.total, 1)
            CONSOLE.print(f"  {text}", markup=False)
        else:
            self._next = time.monotonic() + _EVERY
            LINE.show(f"  {text}")

    def _without_terminal(self) -> bool:
        return not CONSOLE.is_terminal or CONSOLE.is_dumb_terminal

    def _is_line_due(self, done: int) -> bool:
        return done * self._lines // max(self.total, 1) > self._written

    def _left(self, done: int) -> str:
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > _REMEMBERED:
            self._seen.popleft()
        begun, before = self._seen[0]
        if done <= before or done >= self.total or now - begun < 0.5:
            return ""
        return f"{duration((self.total - done) * (now - begun) / (done - before))} left"


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Go through items, and tell on the live line how far one is.

    Args:
        items: any.
        what: is done with them.
        total: their number, where they have no length.
    """
    progress = Progress(total if total is not None else len(items) if isinstance(items, Sized) else 0)
    progress.update(what, 0)
    for done, item in enumerate(items, start=1):
        yield item
        progress.update(what, done)
    LINE.clear()


def duration(seconds: float) -> str:
    """A time as one says it: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def say(text: str) -> None:
    """Write a line that matters to the terminal."""
    CONSOLE.print(text, markup=False)


def warn(text: str) -> None:
    """Write a warning to the terminal."""
    CONSOLE.print(f"[yellow]{escape(text)}")
