"""Writing files so that a reader never sees half of one, and what to call them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath

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


def set_aside(path: Path) -> Path:
    """Rename a file to a name that nothing has: `edits.json` becomes `edits.json.bak`, or `.bak2` and so on.

    Raises:
        GsegError: the folder cannot be written.
    """
    names = (path.with_name(f"{path.name}.bak{'' if number == 1 else number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    try:
        return path.rename(aside)
    except OSError as error:
        raise GsegError(f"Cannot rename {path} to {aside.name}: {error.strerror or error}.") from error


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
