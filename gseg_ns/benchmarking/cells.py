"""Results of single runs on disk, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.reading import read_text

PACKAGE = "gseg-ns"


class CellStore:
    """A folder of JSON files, one a finished cell, named by everything that decides its result."""

    def __init__(self, folder: Path, redo: bool = False, warn: Callable[[str], None] = lambda _: None) -> None:
        """Use a folder, which is made when the first cell is finished.

        Args:
            folder: of the cells.
            redo: find nothing, so that every cell is computed again.
            warn: is told about files that cannot be used.
        """
        self.folder = folder
        self.redo = redo
        self.warn = warn
        self._fresh: set[Path] = set()
        """Cells finished by this process: they count even with `redo`."""

    @staticmethod
    def complete(key: Mapping[str, Any]) -> dict[str, Any]:
        """The key with the versions of this package and of torch, as JSON would give it back."""
        return json.loads(json.dumps({**key, "version": version(PACKAGE), "torch": version("torch")}, sort_keys=True))

    def path(self, key: Mapping[str, Any]) -> Path:
        """The file of a cell: a readable part (kind and name, where the key has them) and a digest of the whole key."""
        text = json.dumps(self.complete(key), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        words = "-".join(str(key[name]) for name in ("kind", "name", "method", "seed") if name in key)
        readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in words)
        return self.folder / f"{readable}-{digest}.json"

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of a finished cell; None where there is none, or its file is damaged or of another key."""
        path = self.path(key)
        if not path.is_file() or (self.redo and path not in self._fresh):
            return None
        try:
            # Scores that are not defined are NaN, which JSON does not have but Python writes.
            cell = json.loads(read_text(path, "a finished cell"))
            if cell["key"] == self.complete(key) and isinstance(cell["result"], dict):
                return cell["result"]
            reason = "it is of other settings"
        except (GsegError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = str(error)
        self.warn(f"{path} cannot be used ({reason}): the cell is computed again")
        return None

    def put(self, key: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Save a finished cell.

        Raises:
            GsegError: the folder cannot be written.
        """
        path = self.path(key)
        with atomic_path(path) as temporary:
            temporary.write_text(
                json.dumps({"key": self.complete(key), "result": dict(result)}, indent=1), encoding="utf-8"
            )
        self._fresh.add(path)

    def run(self, key: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The result of a cell, computed where it is not there yet."""
        found = self.get(key)
        if found is None:
            found = json.loads(json.dumps(dict(compute())))
            self.put(key, found)
        return found


def digest_files(*paths: Path) -> str:
    """Digest of the names and contents of files and of the files directly in folders, so that new masks are new cells.

    Raises:
        GsegError: a path does not exist or cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            folder = path.is_dir()
            for file in sorted(path.iterdir()) if folder else [path]:
                if file.is_file() or not folder:
                    digest.update(file.name.encode())
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise GsegError(f"{path} cannot be read ({error.strerror}): give a file or folder that exists") from error
    return digest.hexdigest()[:16]
