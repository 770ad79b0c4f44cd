"""Writing files so that a reader never sees half of one, and what to call them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath

from gseg_ns.errors import GsegError

_MACHINE = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
_TEMPORARY = re.compile(
    r"\..+\.((?P<machine>[0-9a-f]{8})-)?(?P<process>\d+)(-[0-9a-f]{8})?\.tmp(\.[A-Za-z0-9]+)?", re.DOTALL
)
_FORGOTTEN = 7 * 24 * 3600.0
"""Seconds after which a temporary file is nobody's, whatever lives by the number of its process."""

_mine: set[Path] = set()
"""Temporary files and folders that this process is writing."""

_swept: set[Path] = set()
"""Folders that this process has swept."""


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that no other call gets, here or on a machine that shares the folder.

    It keeps the suffix, so that writers which choose a format by it still do; `sweep` knows whose it is.
    """
    stem = path.stem.encode()[:120].decode(errors="ignore")
    return path.with_name(f".{stem}.{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what has it in the end is removed. Missing parent folders are made.

    Raises:
        GsegError: something cannot be written: no permission, or the disk is full.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _swept:
            _swept.add(path.parent)
            sweep(path.parent)
        _mine.add(temporary)
        yield temporary
    except OSError as error:
        raise GsegError(f"Cannot write {path}: {error.strerror or error}. Check free space and permissions.") from error
    finally:
        # A folder that cannot be written to cannot be cleaned either; the error above says so already.
        with suppress(OSError):
            _remove(temporary)
        _mine.discard(temporary)


@contextmanager
def atomic_path(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on failure removed.

    Args:
        path: the file to write. Missing parent folders are made.
        durable: wait until the disk has it, for what cannot be made again: then it outlives a power cut, too.

    Raises:
        GsegError: the folder cannot be written or the disk is full.
    """
    with temporary_beside(path) as temporary:
        yield temporary
        if durable:
            flush(temporary)
        temporary.replace(path)
        if durable:
            flush(path.parent)


def flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    # A folder cannot be opened on Windows, and its names need no flush there.
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse it for folders; a file that cannot be written says so.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def is_full(path: Path) -> bool:
    """Whether nothing can be added to a file, so that what wrote it and says nothing of a full disk may not have ended.

    It stays as it is.
    """
    size = path.stat().st_size
    try:
        with path.open("ab") as stream:
            stream.write(b"\0")
            stream.flush()
            stream.truncate(size)
    except OSError:
        return True
    return False


def sweep(folder: Path) -> None:
    """Remove temporary files and folders directly in a folder that a killed process left.

    Those of processes that live are left alone. Whether one of another machine lives is not known: its files go when
    they have not changed for a week.
    """
    with suppress(OSError):
        for path in folder.glob(".*.tmp*"):
            match = _TEMPORARY.fullmatch(path.name)
            if match is None or path in _mine:
                continue
            here, process = match["machine"] == _MACHINE, int(match["process"])
            dead = here and (process == os.getpid() or not _alive(process))
            with suppress(OSError):
                if dead or time.time() - path.stat().st_mtime > _FORGOTTEN:
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def name_aside(path: Path) -> Path:
    """A name for what a file held before, that nothing has: `edits.json.bak` for `edits.json`, or `.bak2` and so on."""
    names = (path.with_name(f"{path.name}.bak{'' if number == 1 else number}") for number in count(1))
    return next(name for name in names if not name.exists())


def is_below(name: str) -> bool:
    """Whether a name, or a relative path, stays below any folder that it is joined to, on every system."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in kinds)


def slug(name: str, longest: int = 80) -> str:
    """A name as part of a file name: letters, digits and dashes, short enough for any file system; may be empty.

    Args:
        name: what a user calls something.
        longest: bytes, which is what file systems count; a letter takes up to four.
    """
    words = "-".join(re.findall(r"\w+", name))
    return words.encode()[:longest].decode(errors="ignore").rstrip("-")


def unique_slugs(names: Iterable[str], nameless: str) -> dict[str, str]:
    """A slug for each of several names, `nameless` where there is nothing to make one of; no two are the same.

    Not even but for capital letters, which some file systems do not tell apart.
    """
    slugs: dict[str, str] = {}
    for name in names:
        taken = {other.casefold() for other in slugs.values()}
        plain = slug(name) or nameless
        candidates = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
        slugs[name] = next(candidate for candidate in candidates if candidate.casefold() not in taken)
    return slugs
