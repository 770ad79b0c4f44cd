"""A folder `NAME.gseg` as files: a manifest that says what is in it, of which version, and the checksum of everything.

Nothing in it is a checkpoint, and nothing is unpickled. What the manifest does not list (a viewer's saved selections,
what views were asked) may lie beside it and has its own readers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gseg_ns import __version__
from gseg_ns.errors import GsegError
from gseg_ns.reading import check_tensors, integer, is_one_line, read_json, reading, shown, text

SUFFIX = ".gseg"
MANIFEST = "manifest.json"
SCHEMA = "gseg-result"
VERSION = 1
"""Of the layout."""

SPLATS = "splats.ply"
LABELS = "labels.safetensors"
MODEL = "model.safetensors"
OBJECTS = "objects.json"
CAMERAS = "cameras/transforms.json"
FRAME = "dataparser_transforms.json"

_LEFT_OUT = ("geometry", "geometry_frame", "geometry_in_checkpoint", "camera_optimizer")
"""Options of a model that say where it came from."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_CHUNK = 2**22
_AGAIN = "Make it again with `gseg pack` or `gseg segment`, or copy it anew."


@dataclass(frozen=True)
class Result:
    """The files of a result that was opened, all of them as they were written."""

    folder: Path
    about: dict[str, Any]
    """What the manifest says beside the files."""
    files: frozenset[str]
    """Paths below the folder."""

    def path(self, name: str) -> Path:
        """Where a file is.

        Raises:
            GsegError: the manifest lists none of that name.
        """
        if name not in self.files:
            raise GsegError(f"{self.folder / MANIFEST} lists no {name}. {_AGAIN}")
        return self.folder / name


def is_option(name: str, value: Any, usual: Any) -> bool:
    """Whether a value of an option of a model is kept in a result, and taken from one.

    Args:
        name: of the option, with dots where it is one of a part of the model.
        value: of it.
        usual: its default.
    """
    if name.rpartition(".")[2].startswith("_") or name.partition(".")[0] in _LEFT_OUT:
        return False
    if isinstance(usual, bool | str):
        return value is None or type(value) is type(usual)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(usual, int | float | None) and (number or value is None)


def is_result(path: Path) -> bool:
    """Whether a path is a result: its folder or its manifest."""
    return (path.name == MANIFEST and path.is_file()) or (
        path.is_dir() and ((path / MANIFEST).is_file() or path.suffix.lower() == SUFFIX)
    )


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Describe the files that are in a folder now.

    Args:
        folder: with all files of a result, each name of letters, digits, points, lines and dashes.
        about: plain values: how it was made, and what its readers need.

    Raises:
        OSError: the manifest cannot be written.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {"schema": SCHEMA, "version": VERSION, "program": f"gseg-ns {__version__}", **about, "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_result(path: Path) -> Result:
    """Read the manifest of a result, and see that every file it lists is there as it was written.

    Args:
        path: the folder, or its manifest.json.

    Raises:
        GsegError: no result, one of a newer version, or a file that is missing, damaged, or leads out of the folder.
    """
    folder = path.parent if path.name == MANIFEST else path
    manifest = folder / MANIFEST
    what = ("the manifest of a result", _AGAIN)
    missing = f"{folder} has no {MANIFEST}: it is no result of `gseg pack` or `gseg segment`, or was not copied whole."
    content = read_json(manifest, *what, missing=missing)
    with reading(manifest, *what):
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError("another schema")
        version = integer(content["version"], 1, what="its version")
        if version > VERSION:
            raise GsegError(
                f"{manifest} is of version {version} of its layout, and this gseg-ns {__version__} reads up to "
                f"{VERSION}: upgrade gseg-ns."
            )
        listed = content["files"]
        if not isinstance(listed, dict) or not listed:
            raise ValueError("no files")
        for name, entry in listed.items():
            _check_name(folder, name)
            _check_file(folder / name, integer(entry["bytes"], 0, 2**60), text(entry["sha256"]))
        return Result(folder, {key: value for key, value in content.items() if key != "files"}, frozenset(listed))


def listed_files(folder: Path) -> set[Path]:
    """The files of a result that is in a folder already, whatever became of them; none where there is none."""
    try:
        listed = read_json(folder / MANIFEST, "a manifest")
        names = [name for name in listed["files"] if listed["schema"] == SCHEMA and _is_name(name)]
    except (GsegError, KeyError, TypeError):
        return set()
    return {folder / name for name in (*names, MANIFEST)}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, on the CPU.

    Raises:
        OSError: they cannot be written.
    """
    from safetensors.torch import save

    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote.

    Raises:
        GsegError: the file is damaged, or a tensor has numbers that are not finite.
    """
    from safetensors.torch import load_file

    with reading(path, "safetensors", _AGAIN):
        tensors = load_file(path)
        check_tensors(tensors)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} has numbers that are not finite")
        return tensors


def column(tensors: Mapping[str, Tensor], name: str, count: int, kind: torch.dtype) -> Tensor:
    """One number a Gaussian.

    Raises:
        ValueError: it is missing, or of another shape or kind.
    """
    found = tensors[name]
    if found.shape != (count,) or found.dtype != kind:
        raise ValueError(f"{name} is {found.dtype} of shape {tuple(found.shape)}, needed {kind} [{count}]")
    return found


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and len(name) <= 256 and _NAME.fullmatch(name) is not None and ".." not in name


def _check_name(folder: Path, name: Any) -> None:
    """Refuse a path that leads elsewhere, by its letters or by a link.

    Raises:
        GsegError: it does.
    """
    inside = _is_name(name) and (folder / name).resolve().is_relative_to(folder.resolve())
    if not inside:
        said = shown(name) if not isinstance(name, str) or is_one_line(name) else "a name with control characters"
        raise GsegError(f"{folder / MANIFEST} lists {said}, which leads out of its folder: it is not opened.")


def _check_file(path: Path, size: int, digest: str) -> None:
    """Raise a GsegError that names the file unless it is what the manifest says."""
    if not path.is_file():
        raise GsegError(f"{path} is missing. {_AGAIN}")
    if path.stat().st_size != size or _digest(path) != digest:
        raise GsegError(f"{path} is damaged or was changed: its checksum is not that of {MANIFEST}. {_AGAIN}")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
