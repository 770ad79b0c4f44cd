"""Work in a forked child that is killed, or whose files may only grow to a size."""

from __future__ import annotations

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


@dataclass
class Ended:
    """How a child ended."""

    status: int
    """Exit status; -9 where it was killed."""
    said: str
    """All that it wrote to stdout and stderr."""
    seconds: float


def in_child(work: Callable[[], object], kill_after: float | None = None, largest_file: int | None = None) -> Ended:
    """Do something in a forked child.

    Args:
        work: what to do; SystemExit is its exit status, any other exception is status 70 with a traceback.
        kill_after: seconds until SIGKILL.
        largest_file: bytes that no file may exceed: writing on fails, as on a full disk.
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


def content(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
