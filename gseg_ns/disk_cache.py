"""Results kept on disk by what they are made of: computed once, found again by every later command.

Entries lie in the user's cache folder, or where GSEG_CACHE_DIR says, and take at most GSEG_CACHE_GIB GiB there (8; 0
keeps none): beyond that the ones that were not asked for longest go. The folder may be removed at any time.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path

LOCATION = "GSEG_CACHE_DIR"
"""Environment variable: the folder."""
BOUND = "GSEG_CACHE_GIB"
"""Environment variable: how much it may hold."""
_GIB = 8.0
_DIGEST = 16


def cache_folder() -> Path:
    """Where entries lie."""
    from platformdirs import user_cache_path

    return Path(os.environ[LOCATION]) if os.environ.get(LOCATION) else user_cache_path("gseg-ns", appauthor=False)


def cache_bound() -> int:
    """Bytes that the folder may hold.

    Raises:
        GsegError: GSEG_CACHE_GIB is no such number.
    """
    text = os.environ.get(BOUND) or str(_GIB)
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not 0 <= gib < 2**20:
        raise GsegError(f"{BOUND} is {text[:40]!r}: give the GiB that cached results may take, or 0 to keep none")
    return int(gib * 2**30)


class DiskCache:
    """Contents by key, for one kind of result. May be used by several threads and processes at once.

    An entry is written beside and moved, and has a checksum: one that is damaged is as if it were not there. A disk
    that is full or cannot be written to only means that nothing is kept.
    """

    def __init__(self, kind: str) -> None:
        """Keep results of a kind, which names their folder."""
        self._bound = cache_bound()
        self._folder = cache_folder() / kind

    def get(self, key: str) -> bytes | None:
        """What was put under a key; None where nothing was, or it is damaged."""
        if not self._bound:
            return None
        path = self._folder / key
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if _checksum(content[_DIGEST:]) != content[:_DIGEST]:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # the time tells `trim` what is in use
            os.utime(path)
        return content[_DIGEST:]

    def put(self, key: str, content: bytes) -> None:
        """Keep a content."""
        if not self._bound:
            return
        with suppress(GsegError), atomic_path(self._folder / key) as temporary:
            temporary.write_bytes(_checksum(content) + content)

    def trim(self) -> None:
        """Remove what was not asked for longest, until the rest is within the bound: after some results were put."""
        entries = []
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(OSError):  # another process trims, too
                    status = path.stat()
                    entries.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in entries) - self._bound
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            with suppress(OSError):
                path.unlink()
            excess -= size


def key_of(*parts: object) -> str:
    """A name for what is made of these parts: texts, numbers and digests, whose `repr` says all of them."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=_DIGEST).hexdigest()


def file_digest(path: Path) -> str:
    """A digest of a file's bytes; of one that did not change in between, computed once in a process.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_digest(path: Path, size: int, changed: int) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
