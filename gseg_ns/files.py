"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gseg_ns.errors import GsegError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on failure removed.

    The temporary name is hidden and carries the process id, so that several processes may write into one folder, and
    keeps the suffix, so that writers which choose a format by it still do.

    Args:
        path: the file to write. Missing parent folders are made.

    Raises:
        GsegError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise GsegError(f"Cannot write {path}: {error.strerror or error}. Check free space and permissions.") from error
    finally:
        # A folder that cannot be written to cannot be cleaned either; the error above says so already.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
