"""What can be done to Gaussians, as a list that is replayed.

An operation names its Gaussians by a mask over the rows that exist when it is applied: the scene's own N, then the
rows that earlier operations appended (`Duplicate`, `Swap`). No operation deletes a row, it only marks it, so a mask
keeps its meaning whatever comes later, and undoing is dropping operations from the end of the list. The scene's own
tensors are never written to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gseg_ns.editing.fields import check_factor, check_flag, check_masks, check_numbers, check_placement, check_shift
from gseg_ns.errors import GsegError
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.rotation import rotation_matrix
from gseg_ns.splats import Splats, transform

SH_C0 = 0.28209479177387814
"""Value of the constant spherical harmonic: rgb = 0.5 + SH_C0 * sh[0]."""

MOST_ROWS = 2**28
"""Gaussians that no scene has."""

_MOST_COPIES = 500_000
"""Rows that edits may append to any scene."""

_MOST_TIMES = 8
"""How many times a large scene's own rows edits may append to it: few edits that each double it would fill memory."""

_LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709


@dataclass(frozen=True)
class Edited:
    """A scene after a list of operations, all rows kept."""

    splats: Splats  # M rows: the scene's N, then appended ones
    source: Tensor  # int64 [M]: row of the scene that it is a copy of, -1 = from elsewhere
    appended_by: Tensor  # int64 [M]: 0 = the scene's own, k = appended by the k-th appending operation
    removed: Tensor  # bool [M]: gone, also from exports
    hidden: Tensor  # bool [M]: not drawn, but still there

    @property
    def drawn(self) -> Tensor:
        """What a picture shows, bool [M]."""
        return ~(self.removed | self.hidden)

    def __len__(self) -> int:
        return len(self.splats)


class Operation(Protocol):
    """One edit."""

    def __call__(self, scene: Edited) -> Edited:
        """The scene with the edit in it; the argument is left as it is."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that keeping the operation takes, in bytes."""
        ...


def centre_of(splats: Splats, mask: Tensor) -> Tensor:
    """The centre of an object: the opacity-weighted mean of its Gaussians' centres, [3].

    It turns and scales with the object, so that an edit about it can be taken back by the inverse edit.

    Raises:
        GsegError: no Gaussian is selected.
    """
    if not bool(mask.any()):
        raise GsegError("Nothing is selected, so there is no object to edit. Select something first.")
    weights = splats.opacities[mask].double().sigmoid()
    return ((splats.means[mask].double() * weights[:, None]).sum(0) / weights.sum()).to(splats.means.dtype)


def _rows(mask: PackedMask, scene: Edited) -> Tensor:
    """The mask on the scene's device, unset for rows appended after it was made."""
    if mask.length > len(scene):
        raise GsegError(
            f"An edit speaks of {mask.length} Gaussians where the scene has {len(scene)}. "
            "It was made for another run, or edits before it are missing."
        )
    return mask.resized(len(scene)).unpack(scene.splats.device)


def _with(scene: Edited, rows: Tensor, **fields: Tensor) -> Edited:
    """The scene with some fields of some rows replaced; the tensors of `scene` stay as they are."""
    old = scene.splats
    values = {name: getattr(old, name).clone() for name in fields}
    for name, new in fields.items():
        values[name][rows] = new
    return Edited(replace(old, **values), scene.source, scene.appended_by, scene.removed, scene.hidden)


def _append(scene: Edited, splats: Splats, source: Tensor) -> Edited:
    count = len(splats)
    own = int((scene.appended_by == 0).sum())
    if len(scene) - own + count > max(_MOST_COPIES, _MOST_TIMES * own):
        raise GsegError(
            f"Edits would add {len(scene) - own + count:,} Gaussians to a scene of {own:,}: too many. Take back some "
            "of the edits that copy or swap."
        )
    device = scene.source.device
    unset = torch.zeros(count, dtype=torch.bool, device=device)
    number = int(scene.appended_by.max()) + 1 if len(scene) else 1
    return Edited(
        Splats.cat([scene.splats, splats]),
        torch.cat([scene.source, source]),
        torch.cat([scene.appended_by, torch.full((count,), number, dtype=torch.int64, device=device)]),
        torch.cat([scene.removed, unset]),
        torch.cat([scene.hidden, unset]),
    )


def _about(
    splats: Splats,
    pivot: Tensor,
    rotation: tuple[float, float, float, float],
    translation: tuple[float, float, float],
    scale: float,
) -> Splats:
    """Turn and scale about `pivot` [3], then shift. Centres, covariances and SH turn together."""
    turn = rotation_matrix(rotation)
    centre = pivot.detach().to("cpu", torch.float64)
    shift = centre + torch.tensor(translation, dtype=torch.float64) - scale * turn @ centre
    moved = transform(splats, turn, shift, scale)
    finite = moved.means.isfinite().all(1) & moved.scales.isfinite().all(1)
    if bool((splats.means.isfinite().all(1) & splats.scales.isfinite().all(1) & ~finite).any()):
        raise GsegError("An edit would move Gaussians beyond all numbers. Give it a smaller shift or scale.")
    return moved


@dataclass(frozen=True)
class Recolor:
    """Give an object a color."""

    mask: PackedMask
    color: tuple[float, float, float]
    """Red, green, blue in 0..1."""
    amount: float = 1.0
    """0 leaves the object as it is, 1 replaces its color."""
    keep_shading: bool = True
    """Keep light and dark (and how they change with the view) as they are and replace the hue only; otherwise the
    object becomes flat."""

    def __post_init__(self) -> None:
        check_masks(self.mask)
        check_numbers("color", self.color, 0, 1, 3)
        check_numbers("amount", self.amount, 0, 1)
        check_flag("keep_shading", self.keep_shading)

    def __call__(self, scene: Edited) -> Edited:
        """Change the SH coefficients."""
        rows = _rows(self.mask, scene)
        sh = scene.splats.sh[rows]  # [M, K, 3]
        if not len(sh):
            return scene
        color = sh.new_tensor(self.color)
        target = torch.zeros_like(sh)
        if self.keep_shading:
            # Luminance is linear in the coefficients, so shading can be moved from the old hue to the new one exactly.
            luminance = sh @ sh.new_tensor(_LUMINANCE)  # [M, K]
            brightness = 0.5 + SH_C0 * luminance[:, 0]
            gain = color / brightness.mean().clamp_min(1e-3)
            target[:, 1:] = luminance[:, 1:, None] * gain
            target[:, 0] = (brightness[:, None] * gain - 0.5) / SH_C0
        else:
            target[:, 0] = (color - 0.5) / SH_C0
        return _with(scene, rows, sh=torch.lerp(sh, target, self.amount))

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class SetOpacity:
    """Make an object more or less opaque."""

    mask: PackedMask
    factor: float
    """Multiplies the opacity; results are kept in (0, 1)."""

    def __post_init__(self) -> None:
        check_masks(self.mask)
        check_factor("opacity factor", self.factor)

    def __call__(self, scene: Edited) -> Edited:
        """Change the opacity logits."""
        rows = _rows(self.mask, scene)
        opacity = scene.splats.opacities[rows].sigmoid() * self.factor
        return _with(scene, rows, opacities=torch.logit(opacity.clamp(1e-6, 1 - 1e-6)))

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class Transform:
    """Turn and scale an object about its own centre, then move it."""

    mask: PackedMask
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Quaternion (w, x, y, z); need not be normalised."""
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """World units."""
    scale: float = 1.0
    """Positive factor."""
    pivot: tuple[float, float, float] | None = None
    """World coordinates; None: the object's own centre (`centre_of`)."""

    def __post_init__(self) -> None:
        check_masks(self.mask)
        check_placement(self.translation, self.rotation, self.scale)
        if self.pivot is not None:
            check_shift("pivot", self.pivot)

    def __call__(self, scene: Edited, measured: Edited | None = None) -> Edited:
        """Change centres, covariances and view-dependent color; see `evaluate` for `measured`."""
        rows = _rows(self.mask, scene)
        if not bool(rows.any()):
            return scene
        splats = scene.splats
        pivot = (
            centre_of((measured or scene).splats, rows) if self.pivot is None else splats.means.new_tensor(self.pivot)
        )
        moved = _about(splats.subset(rows), pivot, self.rotation, self.translation, self.scale)
        return _with(scene, rows, means=moved.means, quats=moved.quats, scales=moved.scales, sh=moved.sh)

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class Duplicate:
    """Put a copy of an object somewhere. The copy is appended; the object stays."""

    mask: PackedMask
    translation: tuple[float, float, float]
    """Where to, relative to the original, world units."""
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Quaternion (w, x, y, z) about the object's own centre."""
    scale: float = 1.0
    """Positive factor about the object's own centre."""

    def __post_init__(self) -> None:
        check_masks(self.mask)
        check_placement(self.translation, self.rotation, self.scale)

    def __call__(self, scene: Edited, measured: Edited | None = None) -> Edited:
        """Append the copy; see `evaluate` for `measured`."""
        rows = _rows(self.mask, scene) & ~scene.removed
        pivot = centre_of((measured or scene).splats, rows)
        copy = _about(scene.splats.subset(rows), pivot, self.rotation, self.translation, self.scale)
        return _append(scene, copy, scene.source[rows])

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class Swap:
    """Remove an object and put another one in its place, centre on centre."""

    mask: PackedMask
    """The object that goes."""
    other: PackedMask | str
    """The object that comes: Gaussians of this scene (they also stay where they are), or the path of a PLY."""
    match_size: bool = True
    """Scale the newcomer to the extent of what it replaces."""

    def __post_init__(self) -> None:
        check_masks(self.mask, *([] if isinstance(self.other, str) else [self.other]))
        check_flag("match_size", self.match_size)

    def __call__(self, scene: Edited, measured: Edited | None = None) -> Edited:
        """Mark the old object removed and append the new one; see `evaluate` for `measured`."""
        rows = _rows(self.mask, scene) & ~scene.removed
        placed_by = (measured or scene).splats
        target = centre_of(placed_by, rows)
        if isinstance(self.other, PackedMask):
            chosen = _rows(self.other, scene) & ~scene.removed
            newcomer, source = scene.splats.subset(chosen), scene.source[chosen]
            own = placed_by.subset(chosen)
        else:
            newcomer = own = _read(self.other).to(scene.splats.device).with_sh_degree(scene.splats.sh_degree)
            source = scene.source.new_full((len(newcomer),), -1)
        everything = torch.ones(len(newcomer), dtype=torch.bool, device=newcomer.device)
        pivot = centre_of(own, everything)
        scale = 1.0
        if self.match_size:
            scale = float(_extent(placed_by.means[rows], target) / _extent(own.means, pivot).clamp_min(1e-12))
        shift = target - pivot
        if not (bool(shift.isfinite().all()) and math.isfinite(scale)):
            raise GsegError("What is to be swapped reaches beyond all numbers: choose Gaussians without the far ones.")
        placed = _about(newcomer, pivot, (1.0, 0.0, 0.0, 0.0), tuple(shift.tolist()), max(scale, 1e-12))
        without = Edited(scene.splats, scene.source, scene.appended_by, scene.removed | rows, scene.hidden)
        return _append(without, placed, source)

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes + (self.other.nbytes if isinstance(self.other, PackedMask) else len(self.other))


def _extent(means: Tensor, centre: Tensor) -> Tensor:
    """Root mean square distance from the centre: the size of an object, little moved by a stray Gaussian."""
    return (means - centre).square().sum(1).mean().sqrt()


@lru_cache(maxsize=4)
def _read(path: str) -> Splats:
    from gseg_ns.splats.ply import read_ply

    splats = read_ply(Path(path), drop_invalid=True)
    if not len(splats):
        raise GsegError(f"{path} has no Gaussians to put in the object's place. Name another PLY.")
    return replace(splats, extra={})


@dataclass(frozen=True)
class Remove:
    """Take an object out of the scene, in pictures and in exports."""

    mask: PackedMask

    def __post_init__(self) -> None:
        check_masks(self.mask)

    def __call__(self, scene: Edited) -> Edited:
        """Mark the rows."""
        removed = scene.removed | _rows(self.mask, scene)
        return Edited(scene.splats, scene.source, scene.appended_by, removed, scene.hidden)

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class Hide:
    """Do not draw an object. It is still there, and exported."""

    mask: PackedMask

    def __post_init__(self) -> None:
        check_masks(self.mask)

    def __call__(self, scene: Edited) -> Edited:
        """Mark the rows."""
        hidden = scene.hidden | _rows(self.mask, scene)
        return Edited(scene.splats, scene.source, scene.appended_by, scene.removed, hidden)

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class Isolate:
    """Draw an object and nothing else. The rest is still there, and exported."""

    mask: PackedMask

    def __post_init__(self) -> None:
        check_masks(self.mask)

    def __call__(self, scene: Edited) -> Edited:
        """Mark the other rows."""
        return Edited(scene.splats, scene.source, scene.appended_by, scene.removed, ~_rows(self.mask, scene))

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class Show:
    """Draw an object again that was hidden."""

    mask: PackedMask

    def __post_init__(self) -> None:
        check_masks(self.mask)

    def __call__(self, scene: Edited) -> Edited:
        """Clear the marks of its rows."""
        hidden = scene.hidden & ~_rows(self.mask, scene)
        return Edited(scene.splats, scene.source, scene.appended_by, scene.removed, hidden)

    @property
    def nbytes(self) -> int:
        """See `Operation`."""
        return self.mask.nbytes


@dataclass(frozen=True)
class ShowAll:
    """Draw again what was hidden."""

    nbytes: int = field(default=0, init=False)

    def __call__(self, scene: Edited) -> Edited:
        """Clear the marks."""
        return Edited(scene.splats, scene.source, scene.appended_by, scene.removed, torch.zeros_like(scene.hidden))


def begin(splats: Splats) -> Edited:
    """A scene with nothing done to it yet. The tensors are shared, never written."""
    device = splats.device
    unset = torch.zeros(len(splats), dtype=torch.bool, device=device)
    rows = torch.arange(len(splats), device=device)
    return Edited(splats, rows, torch.zeros_like(rows), unset, unset)


def evaluate(splats: Splats, operations: Sequence[Operation], measured: Splats | None = None) -> Edited:
    """The scene after `operations`, all rows kept: for the viewer, which must know what comes from where.

    Args:
        splats: the scene's N Gaussians.
        operations: what is done to it.
        measured: the N Gaussians that objects' centres and sizes are taken from, where these are others: what was
            fitted then comes to lie where the rest has it.
    """
    scene = begin(splats)
    other = None if measured is None else begin(measured)
    for operation in operations:
        if other is not None and isinstance(operation, Transform | Duplicate | Swap):
            scene = operation(scene, other)
        else:
            scene = operation(scene)
        other = None if other is None else operation(other)
    return scene


def apply(splats: Splats, operations: Sequence[Operation]) -> Splats:
    """The Gaussians to draw after `operations`. `splats` is not changed."""
    scene = evaluate(splats, operations)
    return scene.splats.subset(scene.drawn)


def bake(splats: Splats, operations: Sequence[Operation]) -> Splats:
    """The Gaussians to export after `operations`: like `apply`, but what is only hidden is there."""
    scene = evaluate(splats, operations)
    return scene.splats.subset(~scene.removed)
