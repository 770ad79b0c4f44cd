"""Where a scene lies in a page, and from where it is looked at first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from gseg_ns.splats import Placement, Splats
from gseg_ns.splats.scene import placed_means
from gseg_ns.splats.spz import spz_placement

if TYPE_CHECKING:
    from gseg_ns.objects import ObjectRecord

_FOV = 50.0
"""Degrees, vertical, where no camera says another."""

_DIGITS = 6
"""Of lengths in the page's list."""


@dataclass(frozen=True)
class View:
    """Where a page opens, in the coordinates of the splats that it is written from."""

    eye: Sequence[float]  # [3]
    target: Sequence[float]  # [3]
    fov: float = _FOV
    """Vertical, in degrees."""


def page_placement(splats: Splats, placement: Placement) -> Placement:
    """Y up as in SPZ, and around the origin, where numbers of few bits are densest."""
    where = spz_placement(placement)
    return replace(where, translation=where.translation - placed_means(splats.means, where).median(dim=0).values)


def first_view(placed: Splats, records: Sequence[ObjectRecord], where: Placement, view: View | None) -> dict[str, Any]:
    """Where the page opens, in its own coordinates."""
    if view is not None:
        points = torch.tensor([list(view.eye), list(view.target)], dtype=torch.float64)
        eye, target = placed_means(points, where).tolist()
        return {"eye": short(eye), "target": short(target), "fov": view.fov}
    if records:
        low = torch.tensor([record.low for record in records], dtype=torch.float64).amin(dim=0)
        high = torch.tensor([record.high for record in records], dtype=torch.float64).amax(dim=0)
    else:
        low, high = torch.quantile(
            placed.means[:: max(1, len(placed) // 10_000)].double(), torch.tensor([0.05, 0.95]).double(), dim=0
        )
    middle, radius = (low + high) / 2, max(float((high - low).norm()) / 2, 1e-3)
    slant = torch.nn.functional.normalize(torch.tensor([0.45, 0.55, 1.0], dtype=torch.float64), dim=0)
    eye = middle + slant * radius / math.sin(math.radians(_FOV / 2))
    return {"eye": short(eye.tolist()), "target": short(middle.tolist()), "fov": _FOV}


def short(numbers: Iterable[float]) -> list[float]:
    """Lengths with as many digits as a page needs."""
    return [float(f"{number:.{_DIGITS}g}") for number in numbers]
