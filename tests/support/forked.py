"""Work in a forked child that is killed, or whose files may only grow to a size; and what has come of it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class Ended:
    """How a child ended."""

    status: int
    """Exit status; -9 where it was killed."""
    said: str
    """All that it wrote to stdout and stderr."""
    seconds: float


def in_child(
    work: Callable[[], object],
    kill_after: float | None = None,
    largest_file: int | None = None,
    as_anyone: bool = False,
) -> Ended:
    """Do something in a forked child.

    Args:
        work: what to do; SystemExit is its exit status, any other exception is status 70 with a traceback.
        kill_after: seconds until SIGKILL.
        largest_file: bytes that no file may exceed: writing on fails, as on a full disk.
        as_anyone: root asks for permission, too.
    """
    reading, writing = os.pipe()
    started = time.perf_counter()
    process = os.fork()
    if process == 0:
        status = 70
        try:
            for stream in (1, 2):
                os.dup2(writing, stream)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            if largest_file is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
            if as_anyone:
                _heed_permissions()
            work()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    said: list[bytes] = []

    def listen() -> None:
        while part := os.read(reading, 65536):
            said.append(part)

    listener = threading.Thread(target=listen)
    listener.start()
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    listener.join()
    os.close(reading)
    return Ended(os.waitstatus_to_exitcode(status), b"".join(said).decode(), time.perf_counter() - started)


def _heed_permissions() -> None:
    """Give up what lets root read and write whatever the mode of a file says (Linux)."""
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()
    if library.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for effective_or_permitted in (0, 1):
        sets[effective_or_permitted] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if library.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def content(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same, to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
