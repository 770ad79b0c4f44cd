"""What is drawn on a picture, and which Gaussians lie under it: polygons, lassos and strokes of a brush.

All are in pixels x, y from the upper left corner, so that the first pixel's centre is (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.shapes import SEEN, image_points, in_front
from gseg_ns.splats import Splats

Points = Sequence[tuple[float, float]]

_WIDEST = 1e6
"""Pixels; the square of a radius is a number, too."""


@dataclass(frozen=True)
class Outline:
    """A polygon or a lasso: a line that ends where it begins, and all that it goes around.

    Where it crosses itself, what it goes around twice is inside too, unless it does so once each way.

    Raises:
        GsegError: fewer than three points, or one that is none.
    """

    points: Points

    def __post_init__(self) -> None:
        _check(self.points, 3, "An outline")

    def contains(self, pixels: Tensor) -> Tensor:
        """Which points [N, 2] lie inside; bool [N], false for NaN."""
        corners = np.array(self.points, dtype=np.float64)
        low, high = (pixels.new_tensor(bound) for bound in (corners.min(axis=0), corners.max(axis=0)))
        rows = torch.nonzero(((pixels >= low) & (pixels <= high)).all(dim=1))[:, 0]
        x, y = pixels[rows].double().unbind(dim=1)
        winding = torch.zeros(len(rows), dtype=torch.int64, device=pixels.device)
        for (ax, ay), (bx, by) in zip(corners.tolist(), np.roll(corners, -1, axis=0).tolist(), strict=True):
            side = (bx - ax) * (y - ay) - (x - ax) * (by - ay)
            if by > ay:
                winding += (ay <= y) & (y < by) & (side > 0)
            elif by < ay:
                winding -= ((by <= y) & (y < ay) & (side < 0)).long()
        inside = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
        inside[rows] = winding != 0
        return inside


@dataclass(frozen=True)
class Stroke:
    """A stroke of a round brush; a single point is a dab.

    Raises:
        GsegError: no point, one that is none, or a radius that is not above zero.
    """

    points: Points
    radius: float
    """In pixels."""

    def __post_init__(self) -> None:
        _check(self.points, 1, "A stroke")
        if not 0 < self.radius < _WIDEST:
            raise GsegError(f"A brush has a radius above zero pixels, and below {_WIDEST:g}; {self.radius:g} is none.")

    def contains(self, pixels: Tensor) -> Tensor:
        """Which points [N, 2] the brush goes over; bool [N], false for NaN."""
        points = np.array(self.points, dtype=np.float64)
        low, high = points.min(axis=0) - self.radius, points.max(axis=0) + self.radius
        rows = torch.nonzero(((pixels >= pixels.new_tensor(low)) & (pixels <= pixels.new_tensor(high))).all(dim=1))
        rows = rows[:, 0]
        asked = pixels[rows].double()
        near = torch.zeros(len(rows), dtype=torch.bool, device=pixels.device)
        ends = points[1:] if len(points) > 1 else points
        for a, b in zip(points, ends, strict=False):
            start, along = asked.new_tensor(a), asked.new_tensor(b - a)
            from_start = asked - start
            share = ((from_start @ along) / along.square().sum().clamp_min(1e-300)).clamp(0, 1)
            near |= (from_start - share[:, None] * along).square().sum(dim=1) <= self.radius**2
        inside = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
        inside[rows] = near
        return inside


def drawn_over(
    splats: Splats,
    camera: Camera,
    drawn: Sequence[Outline | Stroke],
    visible_only: bool = True,
    min_visible: float = SEEN,
    to_drawn: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Select what lies under what was drawn on a picture of a view: Gaussians whose centre is seen there.

    Args:
        splats: the Gaussians.
        camera: the view. Nothing outside of its image is selected.
        drawn: outlines and strokes; what lies under any of them counts.
        visible_only: leave out what other Gaussians hide in this view; otherwise they are taken all the way through.
        min_visible: with `visible_only`, the least contribution to the image in pixels.
        to_drawn: from pixels [n, 2] of the view to those that were drawn on, NaN where it has none: photographs are
            not undistorted. None: they are the same.

    Returns:
        bool [N].
    """
    pixels = image_points(splats.means, camera)
    seen = ((pixels >= 0) & (pixels < pixels.new_tensor([camera.width, camera.height]))).all(dim=1)
    rows = torch.nonzero(seen)[:, 0]
    pixels = pixels[rows] if to_drawn is None else to_drawn(pixels[rows])
    under = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    for one in drawn:
        under |= one.contains(pixels)
    chosen = torch.zeros_like(seen)
    chosen[rows] = under
    return in_front(chosen, splats, camera, min_visible) if visible_only else chosen


def _check(points: Points, least: int, what: str) -> None:
    if len(points) < least:
        raise GsegError(f"{what} of {len(points)} points is none: it takes {least} at least.")
    if not bool(np.isfinite(np.array(points, dtype=np.float64)).all()):
        raise GsegError(f"{what} has a point that is no number.")
