"""Named selections on disk, tied to the run that they were made in."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.selection.packed import PackedMask

SELECTIONS_FILE = "selections.npz"
"""Name of the file beside a run's `config.yml`."""

_FORMAT = "gseg-selections-1"
_NAME = re.compile(r"[^\x00-\x1f/\\]{1,64}")


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
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise GsegError(
            f"{name!r} cannot name a selection. Use 1 to 64 characters without slashes, not starting with a dot."
        )
    return name


def save_selections(path: Path, selections: Mapping[str, Tensor | PackedMask], fingerprint: Fingerprint) -> None:
    """Write named selections into one .npz, replacing it in one step.

    Args:
        path: the file; see `SELECTIONS_FILE`.
        selections: name -> bool [N] mask.
        fingerprint: of the Gaussians that the masks are over.

    Raises:
        GsegError: a bad name, a mask over another number of Gaussians, or a file that cannot be written.
    """
    rows = []
    for name, mask in selections.items():
        check_name(name)
        packed = mask if isinstance(mask, PackedMask) else PackedMask.pack(mask)
        if packed.length != fingerprint.count:
            raise GsegError(
                f"Selection {name!r} is over {packed.length} Gaussians, the run has {fingerprint.count}. "
                "Undo edits that add Gaussians, or isolate the selection to a new run."
            )
        rows.append(np.frombuffer(packed.bits(), dtype=np.uint8))
    width = (fingerprint.count + 7) // 8
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.array(_FORMAT),
            count=np.array(fingerprint.count, dtype=np.int64),
            digest=np.array(fingerprint.digest),
            names=np.array(list(selections), dtype=str) if selections else np.zeros(0, dtype="U1"),
            masks=np.stack(rows) if rows else np.zeros((0, width), dtype=np.uint8),
        )


def load_selections(path: Path, fingerprint: Fingerprint) -> dict[str, PackedMask]:
    """Read what `save_selections` wrote.

    Args:
        path: the .npz file.
        fingerprint: of the Gaussians at hand.

    Raises:
        GsegError: no such file, not a selection file, or one of other Gaussians.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["format"]) != _FORMAT:
                raise ValueError(f"format {archive['format']}")
            made_for = Fingerprint(int(archive["count"]), str(archive["digest"]))
            names = [str(name) for name in archive["names"]]
            masks = np.asarray(archive["masks"], dtype=np.uint8)
        fingerprint.check(made_for, path)
        if masks.ndim != 2 or len(masks) != len(names):
            raise ValueError("names and masks differ in number")
        return {
            check_name(name): PackedMask.from_bits(made_for.count, row.tobytes())
            for name, row in zip(names, masks, strict=True)
        }
    except FileNotFoundError as error:
        raise GsegError(f"There is no selection file {path}. Save a selection first.") from error
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise GsegError(f"{path} is not a selection file that can be read ({error}). Save it again.") from error
