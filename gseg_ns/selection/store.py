"""Named selections and names of groups on disk, tied to the run that they were made in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.folders import newest, settle
from gseg_ns.reading import integer, is_one_line, number, read_json, read_npz, reading, shown, text
from gseg_ns.selection.packed import PackedMask

SELECTIONS_FILE = "selections.npz"
"""Name of the file beside a run's `config.yml`."""

GROUP_NAMES_FILE = "group_names.json"
"""Name of the file beside a run's `config.yml` that holds the names which the user gave to groups."""

UNITS_FILE = "units.json"
"""Name of the file beside a run's `config.yml` that says how long a unit of its scene is."""

GroupKey = tuple[int, "float | None"]
"""A group's id, and the scale at which it has this id; None for methods without scales."""

_FORMAT = "gseg-selections-2"
_FORMAT_WITHOUT_COPIES = "gseg-selections-1"  # the same but for `lengths` and `appended`
_NAMES_FORMAT = "gseg-group-names-1"
_UNITS_FORMAT = "gseg-units-1"
_LONGEST_NAME = 64
_MOST = 2**28
"""Bytes of all selections together, as they are in memory."""
_METRES = (1e-6, 1e6)
"""A unit of a scene is longer and shorter than these."""


@dataclass(frozen=True)
class Fingerprint:
    """Which Gaussians a selection speaks of: indices mean nothing in another run."""

    count: int
    digest: str

    @classmethod
    def of(cls, means: Tensor) -> Fingerprint:
        """The fingerprint of Gaussians with these centres (float [N, 3])."""
        values = np.ascontiguousarray(means.detach().to("cpu", torch.float32).numpy())
        return cls(len(values), hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest())

    def check(self, other: Fingerprint, file: Path) -> None:
        """Raise a GsegError unless a file with fingerprint `other` belongs to these Gaussians."""
        if other.count != self.count:
            raise GsegError(
                f"{file} was made for {other.count} Gaussians, this run has {self.count}. "
                "Load it with the run (and checkpoint) that it was saved from."
            )
        if other.digest != self.digest:
            raise GsegError(
                f"{file} was made for another run or another checkpoint with as many Gaussians ({self.count}). "
                "Load it with the run (and checkpoint) that it was saved from."
            )


def check_name(name: str) -> str:
    """Return `name` without outer spaces, if it can name a selection and a file.

    Raises:
        GsegError: it is empty, longer than 64 characters, starts with a dot, or has slashes or control characters.
    """
    name = name.strip()
    fits = is_one_line(name) and 1 <= len(name) <= _LONGEST_NAME
    if not fits or "/" in name or "\\" in name or name.startswith("."):
        raise GsegError(
            f"{name!r} cannot name a selection. Use 1 to 64 characters without slashes, not starting with a dot."
        )
    return name


class SavedSelections(dict[str, PackedMask]):
    """Named selections as a file has them. A mask is over the run's Gaussians, or over the rows of its edited scene."""

    def __init__(self, masks: Mapping[str, PackedMask], file: Path, stale: Sequence[str] = ()) -> None:
        """Hold what was read.

        Args:
            masks: those that fit the Gaussians at hand.
            file: where they came from, for messages.
            stale: names of those that hold copies which the scene at hand does not have.
        """
        super().__init__(masks)
        self.file = file
        self.stale = tuple(stale)

    def take(self, name: str) -> PackedMask:
        """The selection of a name.

        Raises:
            GsegError: there is none, or it holds copies that are not there.
        """
        if name in self.stale:
            raise GsegError(
                f"The selection {name!r} in {self.file} holds copies of Gaussians that edits made, and these edits are "
                "not at hand: give the edit list that belongs to it (edits.json beside config.yml), or select anew."
            )
        if name not in self:
            names = ", ".join([*self, *self.stale])
            raise GsegError(f"{self.file} has no selection {name!r}. It has: {names or 'none'}")
        return self[name]


def save_selections(
    path: Path,
    selections: Mapping[str, Tensor | PackedMask],
    fingerprint: Fingerprint,
    appended: Tensor | None = None,
) -> None:
    """Write named selections into one .npz, replacing it in one step.

    Args:
        path: the file; see `SELECTIONS_FILE`.
        selections: name -> bool [N] mask, or [N + A] over the rows of an edited scene.
        fingerprint: of the N Gaussians that the masks are over.
        appended: int64 [A], of what each row is a copy that edits appended (`Edited.source`); needed for masks that
            have such rows. By it a reader knows whether its own edited scene has the same ones.

    Raises:
        GsegError: a bad name, a mask over another number of Gaussians, or a file that cannot be written.
    """
    count = fingerprint.count
    sources = np.zeros(0, np.int64) if appended is None else appended.detach().cpu().numpy().astype(np.int64)
    packed = {
        check_name(name): mask if isinstance(mask, PackedMask) else PackedMask.pack(mask)
        for name, mask in selections.items()
    }
    for name, mask in packed.items():
        if not count <= mask.length <= count + len(sources):
            raise GsegError(
                f"Selection {name!r} is over {mask.length} Gaussians, the run has {count}. "
                "Select anew in this run, or isolate the selection to a new run."
            )
        if mask.resized(count).resized(mask.length) == mask:
            packed[name] = mask.resized(count)  # without copies in it, it can do without the edits
    longest = max((mask.length for mask in packed.values()), default=count)
    rows = [np.frombuffer(mask.resized(longest).bits(), dtype=np.uint8) for mask in packed.values()]
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "count": np.array(count, dtype=np.int64),
        "digest": np.array(fingerprint.digest),
        "names": np.array(list(packed), dtype=str) if packed else np.zeros(0, dtype="U1"),
        "lengths": np.array([mask.length for mask in packed.values()], dtype=np.int64),
        "masks": np.stack(rows) if rows else np.zeros((0, (longest + 7) // 8), dtype=np.uint8),
        "appended": sources[: longest - count],
    }
    if sum(array.nbytes for array in arrays.values()) > _MOST:
        raise GsegError(
            f"Cannot write {path}: {len(packed)} selections of {longest:,} Gaussians are more than are read again."
        )
    settle(path.parent)
    with atomic_path(path, durable=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_selections(path: Path, fingerprint: Fingerprint, appended: Tensor | None = None) -> SavedSelections:
    """Read what `save_selections` wrote.

    Args:
        path: the .npz file.
        fingerprint: of the Gaussians at hand.
        appended: as for `save_selections`, of the edited scene at hand; None: there are no edits.

    Raises:
        GsegError: no such file, not a selection file, or one of other Gaussians.
    """
    here = np.zeros(0, np.int64) if appended is None else appended.detach().cpu().numpy()
    about = ("a selection file", "Save it again.")
    needed = ("format", "count", "digest", "names", "masks")
    missing = f"There is no selection file {path}. Save a selection first."
    with reading(path, *about):
        archive = read_npz(newest(path), needed, *about, optional=("lengths", "appended"), missing=missing, most=_MOST)
        form = _text(archive["format"])
        if form not in (_FORMAT, _FORMAT_WITHOUT_COPIES):
            raise ValueError(f"format {form!r}")
        fingerprint.check(Fingerprint(integer(archive["count"].item()), _text(archive["digest"])), path)
        count, masks = fingerprint.count, archive["masks"]
        if archive["names"].ndim != 1 or masks.ndim != 2 or masks.dtype != np.uint8:
            raise ValueError("names that are no list, or masks that are no table of bits")
        names = [check_name(str(name)) for name in archive["names"]]
        lengths, there = np.full(len(names), count), np.zeros(0, np.int64)
        if form == _FORMAT:
            lengths, there = archive["lengths"], archive["appended"]
        if not (lengths.dtype == there.dtype == np.int64 and lengths.ndim == there.ndim == 1):
            raise ValueError("lengths that are no list")
        if ((there < -1) | (there >= count)).any():
            raise ValueError("copies of Gaussians that there are not")
        if not len(masks) == len(names) == len(lengths) or len(set(names)) != len(names):
            raise ValueError("names and masks differ in number")
        longest = count + len(there)
        found, stale = {}, []
        for name, length, row in zip(names, lengths.tolist(), masks, strict=True):
            mask = PackedMask.from_bits(longest, row.tobytes())
            copies = length - count
            if not 0 <= copies <= len(there) or mask.resized(length).resized(longest) != mask:
                raise ValueError(f"selection {name!r} is over {length} Gaussians")
            if copies and not np.array_equal(there[:copies], here[:copies]):
                stale.append(name)
            else:
                found[name] = mask.resized(length)
        return SavedSelections(found, path, stale)


def _text(array: np.ndarray) -> str:
    """The one text of an array [] of text."""
    if array.ndim or array.dtype.kind != "U":
        raise ValueError("a table where a text should be")
    return str(array)


def save_group_names(path: Path, names: Mapping[GroupKey, str], fingerprint: Fingerprint) -> None:
    """Write the names of groups as JSON, replacing the file in one step.

    Args:
        path: the file; see `GROUP_NAMES_FILE`.
        names: what the groups are called.
        fingerprint: of the Gaussians of the run: group ids mean nothing in another one.

    Raises:
        GsegError: a bad name, or a file that cannot be written.
    """
    for group, _ in names:
        check_group(group)
    entries = [
        {"group": group, **({} if scale is None else {"scale": scale}), "name": check_name(name)}
        for (group, scale), name in names.items()
    ]
    made_for = {"count": fingerprint.count, "digest": fingerprint.digest}
    document = {"format": _NAMES_FORMAT, "gaussians": made_for, "names": entries}
    settle(path.parent)
    with atomic_path(path, durable=True) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


def load_group_names(path: Path, fingerprint: Fingerprint) -> dict[GroupKey, str]:
    """Read what `save_group_names` wrote; no file means no names.

    Raises:
        GsegError: not such a file, or one of other Gaussians.
    """
    about = ("a list of group names", "Remove it.")
    with reading(path, *about):
        if not newest(path).exists():
            return {}
        document = read_json(newest(path), *about)
        if document["format"] != _NAMES_FORMAT:
            raise ValueError("another format")
        made_for = document["gaussians"]
        fingerprint.check(Fingerprint(integer(made_for["count"]), str(made_for["digest"])), path)
        return {
            (integer(entry["group"]), number(entry["scale"], 0, 1) if "scale" in entry else None): check_name(
                text(entry["name"])
            )
            for entry in document["names"]
        }


def check_group(group: int) -> int:
    """Return the number of a group if it can be one: names of others would be written, and not read again.

    Raises:
        GsegError: it cannot.
    """
    if not 0 <= group < 2**31:
        raise GsegError(f"There is no group {shown(group)}: groups are numbered from 0.")
    return group


def names_at(names: Mapping[GroupKey, str], scale: float | None) -> dict[int, str]:
    """The names that hold at a scale (None for methods without scales)."""
    return {group: name for (group, at), name in names.items() if at == scale}


def check_metres(metres: float) -> float:
    """Return the length of a unit if it can be one.

    Raises:
        GsegError: it cannot.
    """
    if not _METRES[0] <= metres <= _METRES[1]:
        raise GsegError(f"A unit of {metres:g} m cannot be: give a length from {_METRES[0]:g} to {_METRES[1]:g} m.")
    return float(metres)


def save_units(path: Path, metres: float | None) -> None:
    """Write how long a unit of a scene is, replacing the file in one step.

    Args:
        path: the file; see `UNITS_FILE`.
        metres: per unit of the run's frame; None: not known.

    Raises:
        GsegError: the file cannot be written.
    """
    settle(path.parent)
    with atomic_path(path, durable=True) as temporary:
        temporary.write_text(json.dumps({"format": _UNITS_FORMAT, "metres_per_unit": metres}), encoding="utf-8")


def load_units(path: Path) -> float | None:
    """Read what `save_units` wrote: metres per unit; None where that is not known, or there is no file.

    Raises:
        GsegError: not such a file.
    """
    about = ("the length of a unit", "Remove it.")
    with reading(path, *about):
        if not newest(path).exists():
            return None
        document = read_json(newest(path), *about)
        if document["format"] != _UNITS_FORMAT:
            raise ValueError("another format")
        metres = document["metres_per_unit"]
        return None if metres is None else number(metres, *_METRES)
