"""Folders whose files belong together: they change as one, and one process at a time works in them."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gseg_ns.errors import GsegError
from gseg_ns.files import flush, sweep, temporary_beside

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PENDING = ".gseg-pending"
"""In a folder: files that are written and belong in it, put here by one rename. What is here is newer than its namesake
in the folder; see `newest`."""


def newest(path: Path) -> Path:
    """Where a file is to be read that was written by `atomic_folder`: a kill may have left it in `PENDING`."""
    pending = path.parent / PENDING / path.name
    return pending if pending.is_file() and not pending.parent.is_symlink() else path


def settle(folder: Path) -> None:
    """Put the files in place that a killed process had written into a folder and not put in place.

    Raises:
        GsegError: the folder cannot be written.
    """
    if not _is_pending(folder):
        return
    try:
        with _locked(folder):
            _settle(folder)
    except OSError as error:
        raise GsegError(f"Cannot write into {folder}: {error.strerror or error}.") from error


@contextmanager
def atomic_folder(
    folder: Path, former: Callable[[], Collection[Path]] = tuple, index: str | None = None, durable: bool = True
) -> Iterator[Path]:
    """Yield an empty folder to write into; on success `folder` gets its files, on failure nothing changes.

    A folder that is new, or holds nothing but `former` files, changes in one instant (where the system can exchange
    two folders). Where others' files are in it, all new files are put into `PENDING` by one rename, which our own
    readers see through, and from there into place; an index is taken away before and put back last, so that whoever
    reads it alone never finds it beside files that it does not speak of.

    Args:
        folder: where to; made if need be.
        former: tells which files in it are removed unless they are written anew; asked at the end, too.
        index: name of the file in it that lists the others.
        durable: wait until the disk has all of it.

    Raises:
        GsegError: something cannot be written.
    """
    folder = folder.resolve() if folder.is_symlink() else folder.absolute()
    whole = _is_exchangeable(folder, former())
    if not whole:
        settle(folder)
    sweep(folder.parent if whole else folder)
    with temporary_beside(folder if whole else folder / PENDING) as staging:
        try:
            staging.mkdir()
            yield staging
        except (OSError, GsegError) as error:
            # The user knows nothing of the hidden folder.
            reason = f"Cannot write into {staging}: {error.strerror or error}." if isinstance(error, OSError) else error
            raise GsegError(str(reason).replace(str(staging), str(folder))) from error
        if durable:
            for path in (staging, *staging.rglob("*")):
                flush(path)
        if folder.exists():
            shutil.copymode(folder, staging)
        if whole and not (folder.exists() and any(folder.iterdir())):
            if folder.exists():
                folder.rmdir()  # a rename onto an empty folder is not possible everywhere
            staging.rename(folder)
        elif not (whole and _is_exchangeable(folder, former()) and _exchange(staging, folder)):
            _merge(staging, folder, former, index)
        if durable:
            flush(folder.parent)


@contextmanager
def sole_use(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder for this process; the system lets go of it when the process ends, however it ends.

    Args:
        folder: made if need be.
        doing: for the message, e.g. "trains into".

    Raises:
        GsegError: another process holds it, or it cannot be written.
    """
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _lock_file(lock)
    except BlockingIOError as error:
        raise GsegError(f"Another process {doing} {folder}: wait for it, end it, or name another folder.") from error
    except OSError as error:
        raise GsegError(f"Cannot write into {folder}: {error.strerror or error}.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process holds a folder (`sole_use`) now. Never raises."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(descriptor, wait=False)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_file(path: Path) -> int:
    """Make a file and hold it. Returns its descriptor.

    Raises:
        BlockingIOError: another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            _lock(descriptor, wait=False)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who held it has removed it meanwhile


def _lock(descriptor: int, wait: bool) -> None:
    """Lock what is open. Where the system has no such locks (Windows, some network file systems): nothing."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for a folder's own lock and hold it."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _is_exchangeable(folder: Path, former: Collection[Path]) -> bool:
    """Whether another folder can take the place of this one without anything being lost."""
    if not folder.exists():
        return True
    if os.path.ismount(folder) or not os.access(folder.parent, os.W_OK) or Path.cwd().is_relative_to(folder.resolve()):
        return False
    with suppress(OSError):  # it changes, or is not ours to see
        return {path for path in folder.rglob("*") if not path.is_dir()} <= {folder / path for path in former}
    return False


def _files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())


def _is_pending(folder: Path) -> bool:
    """Whether files are pending; a link of that name was made by somebody else, and leads to the files of others."""
    return (folder / PENDING).is_dir() and not (folder / PENDING).is_symlink()


def _check_links(folder: Path, names: Collection[Path]) -> None:
    """Refuse to put files into a folder's subfolder that is a link to elsewhere: a foreign run may have such.

    Raises:
        GsegError: there is one.
    """
    inside = folder.resolve()
    for parent in {folder / name.parent for name in names}:
        if not parent.resolve().is_relative_to(inside):
            raise GsegError(f"{parent} is a link that leads out of {folder}: remove it, or name another folder.")


def _merge(staging: Path, folder: Path, former: Callable[[], Collection[Path]], index: str | None) -> None:
    written = {folder / path for path in _files(staging)}
    _check_links(folder, _files(staging))
    with _locked(folder):
        _settle(folder)
        obsolete = {folder / path for path in former()} - written
        if index is not None:
            (folder / index).unlink(missing_ok=True)
        staging.rename(folder / PENDING)
        flush(folder)
        _settle(folder, last=index)
        for path in obsolete:
            path.unlink(missing_ok=True)


def _settle(folder: Path, last: str | None = None) -> None:
    if not _is_pending(folder):
        return
    pending = folder / PENDING
    names = _files(pending)
    _check_links(folder, names)
    # Files directly in the folder come last: an index is one of them.
    for name in sorted(names, key=lambda path: (len(path.parts) == 1, path.name == last)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (pending / name).replace(folder / name)
    flush(folder)
    shutil.rmtree(pending)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one instant. Returns whether the system could."""
    names = os.fsencode(one), os.fsencode(other)
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return library.renamex_np(*names, ctypes.c_uint(2)) == 0
        if sys.platform == "linux":
            here = ctypes.c_int(-100)  # AT_FDCWD
            return library.renameat2(here, names[0], here, names[1], ctypes.c_uint(2)) == 0
    return False
