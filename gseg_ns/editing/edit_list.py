"""Lists of operations on disk: JSON, with the masks packed into it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from gseg_ns.choices import EditKind
from gseg_ns.editing.operations import (
    MOST_ROWS,
    Duplicate,
    Hide,
    Isolate,
    Operation,
    Recolor,
    Remove,
    SetOpacity,
    Show,
    ShowAll,
    Swap,
    Transform,
)
from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.folders import newest, settle
from gseg_ns.reading import file_path, inflate, integer, number, read_json, reading, text
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.store import Fingerprint

EDITS_FILE = "edits.json"
"""Name of the file beside a run's `config.yml`."""

_FORMAT = "gseg-edits-1"
_MOST = 2**28
"""Bytes of a list: some thousand edits of a scene of some million Gaussians."""
_ABOUT = ("a list of edits", "Save it again.")
_KINDS: dict[EditKind, Any] = {
    "recolor": Recolor,
    "opacity": SetOpacity,
    "transform": Transform,
    "duplicate": Duplicate,
    "swap": Swap,
    "remove": Remove,
    "hide": Hide,
    "isolate": Isolate,
    "show": Show,
    "show-all": ShowAll,
}
_FORMER = {"recolour": "recolor", "colour": "color"}
"""Words of lists that were saved before they were spelled as gsplat spells them."""
_NAMES = {kind: name for name, kind in _KINDS.items()}


def describe(operation: Operation) -> str:
    """The operation in a few words, for lists and reports."""
    mask = getattr(operation, "mask", None)
    count = "" if mask is None else f" {int(mask.unpack().sum()):,} Gaussians"
    return _NAMES[type(operation)] + count


def to_json(operations: Sequence[Operation], fingerprint: Fingerprint, folder: Path | None = None) -> dict[str, Any]:
    """The list as plain JSON values.

    Args:
        operations: what was done, in order.
        fingerprint: of the Gaussians that it was done to.
        folder: where the list will lie. Files below it are named relative to it, so that both can be moved together.
    """
    entries = []
    for operation in operations:
        entry: dict[str, Any] = {"kind": _NAMES[type(operation)]}
        for f in fields(operation):  # type: ignore[arg-type]
            if f.init:
                value = getattr(operation, f.name)
                entry[f.name] = _mask_to_json(value) if isinstance(value, PackedMask) else value
                if isinstance(value, str) and folder is not None and Path(value).is_relative_to(folder.absolute()):
                    entry[f.name] = Path(value).relative_to(folder.absolute()).as_posix()
        entries.append(entry)
    made_for = {"count": fingerprint.count, "digest": fingerprint.digest}
    return {"format": _FORMAT, "gaussians": made_for, "operations": entries}


def from_json(document: Any, fingerprint: Fingerprint, file: Path) -> list[Operation]:
    """Read what `to_json` made.

    Args:
        document: parsed JSON.
        fingerprint: of the Gaussians at hand.
        file: where it came from, for messages.

    Raises:
        GsegError: not an edit list, or one made for other Gaussians.
    """
    with reading(file, *_ABOUT):
        if document["format"] != _FORMAT:
            raise ValueError("another format")
        gaussians = document["gaussians"]
        fingerprint.check(Fingerprint(integer(gaussians["count"]), str(gaussians["digest"])), file)
        if not isinstance(document["operations"], list):
            raise ValueError("operations that are no list")
        return [_operation(dict(entry), file.parent.absolute()) for entry in document["operations"]]


def save_edits(
    path: Path, operations: Sequence[Operation], fingerprint: Fingerprint, folder: Path | None = None
) -> None:
    """Write a list of operations, replacing the file in one step.

    Args:
        path: the file.
        operations: what was done, in order.
        fingerprint: of the Gaussians that it was done to.
        folder: where the file will lie in the end; where it is written unless given.

    Raises:
        GsegError: the file cannot be written, or would be larger than one that is read.
    """
    document = json.dumps(to_json(operations, fingerprint, folder or path.parent), indent=1)  # in ASCII
    if len(document) > _MOST:
        raise GsegError(
            f"Cannot write {path}: {len(operations)} edits take {len(document) / 2**20:,.0f} MiB, more than are read "
            f"again ({_MOST / 2**20:g}). Undo some, or write what they made of the scene (gseg edit --output)."
        )
    settle(path.parent)
    with atomic_path(path, durable=True) as temporary:
        temporary.write_text(document, encoding="utf-8")


def load_edits(path: Path, fingerprint: Fingerprint) -> list[Operation]:
    """Read what `save_edits` wrote.

    Raises:
        GsegError: no such file, not an edit list, or one made for other Gaussians.
    """
    missing = f"There is no edit list {path}. Save edits in the viewer or with `gseg edit` first."
    return from_json(read_json(newest(path), *_ABOUT, missing=missing, most=_MOST), fingerprint, path)


def _mask_to_json(mask: PackedMask) -> dict[str, Any]:
    return {"length": mask.length, "zlib": base64.b64encode(mask.data).decode("ascii")}


def _operation(entry: dict[str, Any], folder: Path) -> Operation:
    entry = {_FORMER.get(name, name): value for name, value in entry.items()}
    named = text(entry.pop("kind"))
    kind = _KINDS[cast(EditKind, _FORMER.get(named, named))]
    values: dict[str, Any] = {}
    for f in fields(kind):
        if not f.init or f.name not in entry:
            continue
        value = entry.pop(f.name)
        if isinstance(value, dict):
            length = integer(value["length"], most=MOST_ROWS, what="the length of a mask")
            bits = inflate(base64.b64decode(text(value["zlib"]), validate=True), (length + 7) // 8)
            value = PackedMask.from_bits(length, bits)
        elif isinstance(value, list):
            value = tuple(number(v) for v in value)
        elif isinstance(value, str):
            value = str(folder / file_path(value))
        values[f.name] = value
    if entry:
        raise ValueError(f"unknown fields {sorted(entry)}")
    return kind(**values)
