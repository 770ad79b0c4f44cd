"""What there is to say of each object: one table for exports and other programs.

The pure part of the job: Gaussians, groups and what the views said go in, records come out. Which run they are of, and
what is done with them, is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.objects.boxes import OrientedBox, box_around, half_transparent, sides_around
from gseg_ns.objects.evidence import Evidence
from gseg_ns.objects.floaters import find_floaters, is_shown
from gseg_ns.objects.surface import Surfaces
from gseg_ns.splats import Splats

Vector = tuple[float, float, float]

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic: color = 0.5 + C0 * coefficient."""

SURFACE = 0.7
"""Of the part that an object's Gaussians usually have in the nearer half of pixels, what one of its surface has at
least."""

OWN = 0.8
"""Part of what a Gaussian gives to pictures that falls on its object's pixels where it says how far the object goes.
Less is at a border, where pixels also show what lies beside the object or in the gap below it."""

SURE = 0.75
"""Of the part that masks usually give to an object of what they say of its Gaussians, what one has at least that says
how far the object goes. In the dark gap under a thing that leans on something are opaque Gaussians that cover the
ground behind them: pixels are called the thing's there, and masks say so from below, and not from above."""

SHADES = 12
"""Steps of a color channel within which colors count as the same."""


@dataclass(frozen=True)
class ObjectRecord:
    """One object."""

    id: int
    """Number of its group, 1 or more."""
    name: str
    """What it was called, or "object ID"."""
    count: int
    """Gaussians, without floaters."""
    floaters: int
    """Gaussians of the group that float."""
    centre: Vector
    """Mean of the Gaussians' centres, by how much the views see of each."""
    low: Vector
    """Robust extents along the scene's axes: lower ends ..."""
    high: Vector
    """... and upper ends."""
    box: OrientedBox
    """The smallest box in an ordinary orientation (see `box_around`)."""
    volume: float
    """Of that box, in cubic units."""
    color: tuple[int, int, int]
    """The dominant color, sRGB 0..255."""
    views: int | None
    """Training views that show it; None where the views could not be asked."""
    confidence: float | None
    """How far the views agree with the object, 0..1: of all that its Gaussians draw and all that is called it, the part
    that is both; None where the views could not be asked."""
    units: str
    """What lengths are in: "scene" (the run's own coordinates), "capture" (the poses' own), or "m"."""
    parent: int | None = None
    """The larger object that it is part of, where the method knows: the group at `parent_scale` of the table."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as `schema()` describes them."""
        return {
            "id": self.id,
            "name": self.name,
            "count": self.count,
            "floaters": self.floaters,
            "centre": list(self.centre),
            "extents": {"low": list(self.low), "high": list(self.high)},
            "box": {
                "centre": list(self.box.centre),
                "half_sizes": list(self.box.half_sizes),
                "rotation": list(self.box.rotation),
            },
            "volume": self.volume,
            "dominant_color": list(self.color),
            "views": self.views,
            "confidence": self.confidence,
            "units": self.units,
            "parent": self.parent,
        }

    def as_row(self) -> dict[str, Any]:
        """Plain values without nesting, for a table of columns: `centre_x`, `box_half_sizes_y`, `box_rotation_w`."""
        row: dict[str, Any] = {}
        for key, value in self.as_dict().items():
            for name, part in _flat(key, value):
                row[name] = part
        return row


def _flat(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for name, part in value.items() for pair in _flat(f"{key}_{name}", part)]
    if isinstance(value, list):
        axes = {"dominant_color": "rgb", "box_rotation": "wxyz"}.get(key, "xyz")
        return [(f"{key}_{axis}", part) for axis, part in zip(axes, value, strict=True)]
    return [(key, value)]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `objects.json`."""
    return json.loads((files("gseg_ns.objects") / "objects.schema.json").read_text(encoding="utf-8"))


@torch.no_grad()
def object_records(
    splats: Splats,
    groups: Tensor,
    evidence: Evidence | None = None,
    names: Mapping[int, str] | None = None,
    floating: Tensor | None = None,
    units: str = "scene",
    parents: Tensor | None = None,
    only: Sequence[int] | None = None,
    up: NDArray[np.float64] | None = None,
) -> list[ObjectRecord]:
    """Describe every object.

    Args:
        splats: N Gaussians.
        groups: int [N]; 0 = none.
        evidence: what the views say of these rows.
        names: what some groups are called.
        floating: bool [N], see `find_floaters`, which is asked where None. All False keeps floaters in counts, centres
            and boxes.
        units: see `ObjectRecord.units`.
        parents: int [N], groups at a coarser scale.
        only: these groups; all where None.
        up: [3] in the scene, see `fit_box`.

    Returns:
        One record a group that has a Gaussian which does not float, by id.
    """
    splats, groups = splats.to("cpu"), groups.to("cpu", torch.int64)
    evidence = None if evidence is None else evidence.to("cpu")
    floating = find_floaters(splats, groups, evidence) if floating is None else floating.to("cpu")
    order = groups.argsort(stable=True)
    ids, counts = groups[order].unique_consecutive(return_counts=True)
    surfaces = None if evidence is None else Surfaces(splats, groups, evidence)
    parents = None if parents is None else parents.to("cpu", torch.int64)
    sizes = None if parents is None else torch.bincount(parents.clamp_min(0))
    records = []
    for group, rows in zip(ids.tolist(), order.split(counts.tolist()), strict=True):
        kept = rows[~floating[rows]]
        if group <= 0 or len(kept) == 0 or (only is not None and group not in only):
            continue
        part, weights, seen, confidence, body = splats.subset(kept), None, None, None, None
        if evidence is not None and surfaces is not None:
            known = evidence.rows(kept)
            shown = is_shown(known)
            weights = _surface(known, shown) if bool(shown.any()) else None
            seen, confidence = _seen(evidence, group, known)
            body = None if weights is None else surfaces.of(kept, weights, up)
        body = half_transparent(part, weights) if body is None else body
        box = box_around(body, up)
        low, high = sides_around(body, up)
        records.append(
            ObjectRecord(
                id=group,
                name=(names or {}).get(group, f"object {group}"),
                count=len(kept),
                floaters=len(rows) - len(kept),
                centre=_middle(part, weights),
                low=low,
                high=high,
                box=box,
                volume=box.volume,
                color=dominant_color(part, weights),
                views=seen,
                confidence=confidence,
                units=units,
                parent=None if parents is None or sizes is None else _parent(parents[kept], parents[rows], sizes),
            )
        )
    return records


def _surface(known: Evidence, shown: Tensor) -> Tensor:
    """What of an object counts where it ends: its surface, and not what is seen through it.

    Of a surface, a good part is in the nearer half of what pixels show; how large a part depends on how sharp the scene
    is. Of a reflection in it, or of what lies under the floor, there is much less. A faint film before it is all in
    that half and never makes half of a pixel: none counts for more than the pixels whose surface it is. What is seen as
    something else, too, or is something else to many masks, does not count; but where that is most of the surface, of a
    wire, for one, all of it counts.

    Args:
        known: of the object's n Gaussians.
        shown: bool [n], those that count at all; at least one.

    Returns:
        weights [n].
    """
    own = torch.where(shown, known.own, 0)
    share = (known.front / known.own.clamp_min(1e-6)).clamp(0, 1)
    weights = torch.where(share >= SURFACE * _usual(share, own), own * share, 0).minimum(known.ends)
    clear = torch.where(known.own >= OWN * known.total, weights, 0)
    if known.sure is not None and bool(weights.any()):
        clear = torch.where(known.sure >= SURE * _usual(known.sure, weights), clear, 0)
    if float(clear.sum()) >= 0.5 * float(weights.sum()):
        weights = clear
    return weights if bool(weights.any()) else own


def _usual(values: Tensor, weights: Tensor) -> Tensor:
    """The median of values [n] by weight [n], of which some is above 0."""
    order = values.argsort()
    passed = weights[order].cumsum(0)
    return values[order][int((passed < passed[-1] / 2).sum())]


def _seen(evidence: Evidence, group: int, known: Evidence) -> tuple[int, float]:
    """How many views show a group, and the soft IoU of what it draws and what is called it."""
    if group >= len(evidence.pixels):
        return 0, 0.0
    both = float(known.own.double().sum())
    either = float(known.total.double().sum()) + int(evidence.pixels[group]) - both
    return int(evidence.views[group]), min(both / either, 1.0) if either > 0 else 0.0


def _middle(splats: Splats, weights: Tensor | None) -> Vector:
    weights = torch.ones(len(splats)) if weights is None else weights
    x, y, z = ((splats.means.double() * weights[:, None]).sum(dim=0) / weights.double().sum()).tolist()
    return x, y, z


def dominant_color(splats: Splats, weights: Tensor | None = None) -> tuple[int, int, int]:
    """The color that most of an object has, to the eye: sRGB 0..255.

    Args:
        splats: N > 0 Gaussians.
        weights: [N], how much of each is seen; by opacity and size where None.
    """
    colors = (0.5 + SH_C0 * splats.sh[:, 0]).clamp(0, 1)
    if weights is None:
        weights = splats.opacities.sigmoid() * splats.scales.sort(dim=1).values[:, 1:].sum(dim=1).exp()
    bins = (colors * SHADES).long().clamp_max(SHADES - 1)
    place = (bins * torch.tensor([SHADES * SHADES, SHADES, 1])).sum(dim=1)
    heavy = torch.zeros(SHADES**3).index_add_(0, place, weights.float()).view(1, 1, SHADES, SHADES, SHADES)
    # With its neighbours: a color at the border of two shades is not split in two.
    around = torch.nn.functional.avg_pool3d(heavy, 3, stride=1, padding=1).view(-1)
    peak = int(around.argmax())
    middle = torch.tensor([peak // SHADES**2, peak // SHADES % SHADES, peak % SHADES])
    near = ((bins - middle).abs() <= 1).all(dim=1)
    share = torch.where(near, weights.float(), 0)
    red, green, blue = (
        ((colors * share[:, None]).sum(dim=0) / share.sum().clamp_min(1e-12) * 255).round().int().tolist()
    )
    return red, green, blue


def _parent(kept: Tensor, own: Tensor, sizes: Tensor) -> int | None:
    """The larger group that holds most of a group and clearly more beside it.

    Args:
        kept: int64 [n > 0], the larger groups of what of the group does not float.
        own: int64 [m], those of all of it.
        sizes: of all larger groups.
    """
    found = int(kept.mode().values)
    if found <= 0:
        return None
    others = int(sizes[found]) - int((own == found).sum())
    return found if others >= 0.1 * len(kept) else None
