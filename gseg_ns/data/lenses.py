"""Lenses: where a pixel of an undistorted view lies in the photograph, and back.

Points are pixels x, y from the upper left corner, so that the first pixel's centre is (0.5, 0.5), in photographs and
views alike. The views are those that Nerfstudio's datamanager trains on.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

Points = np.ndarray
"""float64 [P, 2]."""

Pinhole = tuple[float, float, float, float]
"""fx, fy, cx, cy."""

_STEPS = 30
"""Of Newton's method; it stands still after about five."""


class Lens(Hashable, Protocol):
    """One photograph's lens and the view made of it."""

    def distort(self, points: Points) -> Points:
        """From the view to the photograph, also beyond the view's borders."""
        ...

    def undistort(self, points: Points) -> Points:
        """From the photograph to the view, which may lie beyond its borders; NaN for what no pinhole camera sees."""
        ...

    def shifted(self, left: int, top: int) -> Lens:
        """For a view whose upper left corner lies at (left, top) of this one."""
        ...


@dataclass(frozen=True)
class _Modelled:
    """A lens that is a function of the direction seen by a pinhole camera."""

    photo: Pinhole
    view: Pinhole

    def _bend(self, rays: Points) -> Points:
        raise NotImplementedError

    def _straighten(self, bent: Points) -> Points:
        raise NotImplementedError

    def distort(self, points: Points) -> Points:
        """See `Lens`."""
        return _pixels(self._bend(_rays(points, self.view)), self.photo)

    def undistort(self, points: Points) -> Points:
        """See `Lens`."""
        return _pixels(self._straighten(_rays(points, self.photo)), self.view)

    def shifted(self, left: int, top: int) -> Lens:
        """See `Lens`."""
        fx, fy, cx, cy = self.view
        return replace(self, view=(fx, fy, cx - left, cy - top))


@dataclass(frozen=True)
class BrownLens(_Modelled):
    """Brown's model: OpenCV's radial k1, k2, k3 and tangential p1, p2."""

    k: tuple[float, float, float] = (0.0, 0.0, 0.0)
    p: tuple[float, float] = (0.0, 0.0)

    def _bend(self, rays: Points) -> Points:
        x, y = rays[:, 0], rays[:, 1]
        square = x * x + y * y
        radial = self._radial(square)
        p1, p2 = self.p
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
                y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=1,
        )

    def _radial(self, square: np.ndarray) -> np.ndarray:
        k1, k2, k3 = self.k
        return 1 + square * (k1 + square * (k2 + square * k3))

    @cached_property
    def _largest(self) -> float:
        """Radius from which the polynomial folds back, so that two directions would be one pixel."""
        k1, k2, k3 = self.k
        # The derivative of r + k1 r^3 + k2 r^5 + k3 r^7 in r^2.
        roots = np.roots([7 * k3, 5 * k2, 3 * k1, 1.0])
        real = roots[np.abs(roots.imag) < 1e-9].real if len(roots) else roots.real
        positive = real[real > 0]
        return float(np.sqrt(positive.min())) if len(positive) else np.inf

    def _straighten(self, bent: Points) -> Points:
        k1, k2, k3 = self.k
        p1, p2 = self.p
        rays = bent.copy()
        for _ in range(_STEPS):
            x, y = rays[:, 0], rays[:, 1]
            square = x * x + y * y
            radial, slope = self._radial(square), k1 + square * (2 * k2 + 3 * square * k3)
            error = self._bend(rays) - bent
            xx = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
            yy = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
            xy = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
            determinant = xx * yy - xy * xy
            determinant = np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)
            step = (
                np.stack([yy * error[:, 0] - xy * error[:, 1], xx * error[:, 1] - xy * error[:, 0]], axis=1)
                / determinant[:, None]
            )
            rays = rays - step
            if np.isfinite(self._largest):
                radius = np.linalg.norm(rays, axis=1, keepdims=True)
                rays = rays * np.minimum(1.0, self._largest / np.maximum(radius, 1e-12))
            if np.abs(step).max(initial=0.0) < 1e-10:
                break
        lost = np.abs(self._bend(rays) - bent).max(axis=1, initial=0.0) > 1e-4
        return np.where(lost[:, None], np.nan, rays)


@dataclass(frozen=True)
class FisheyeLens(_Modelled):
    """OpenCV's fisheye model: k1 to k4 on the angle from the optical axis."""

    k: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def _bent_angle(self, angle: np.ndarray) -> np.ndarray:
        square = angle * angle
        k1, k2, k3, k4 = self.k
        return angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))

    def _bend(self, rays: Points) -> Points:
        radius = np.linalg.norm(rays, axis=1)
        bent = self._bent_angle(np.arctan(radius))
        return rays * np.where(radius > 1e-8, bent / np.maximum(radius, 1e-8), 1.0)[:, None]

    def _straighten(self, bent: Points) -> Points:
        # Angles up to where a pinhole camera ends or the polynomial folds back, tabulated and interpolated: monotonic.
        angles = np.linspace(0, np.pi / 2 - 1e-3, 100_000)
        table = self._bent_angle(angles)
        falls = np.flatnonzero(np.diff(table) <= 0)
        end = int(falls[0]) + 1 if len(falls) else len(table)
        radius = np.linalg.norm(bent, axis=1)
        angle = np.interp(radius, table[:end], angles[:end], right=np.nan)
        return bent * np.where(radius > 1e-8, np.tan(angle) / np.maximum(radius, 1e-8), 1.0)[:, None]


class SampledLens:
    """Any other lens: known by the photograph's point of each pixel of the view, and to the pixel alone."""

    def __init__(self, points: np.ndarray, left: int = 0, top: int = 0) -> None:
        """Take points [H, W, 2]; NaN where a pixel of the view lies outside of the photograph."""
        self._points, self._left, self._top = points, left, top

    def distort(self, points: Points) -> Points:
        """See `Lens`; NaN beyond the view's borders."""
        height, width = self._points.shape[:2]
        column = np.floor(points[:, 0] + self._left).astype(int)
        row = np.floor(points[:, 1] + self._top).astype(int)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = self._points[row.clip(0, height - 1), column.clip(0, width - 1)]
        return np.where(inside[:, None], found, np.nan)

    def undistort(self, points: Points) -> Points:
        """See `Lens`; NaN beyond the view's borders."""
        distance, nearest = self._tree.query(points, distance_upper_bound=1.5)
        found = self._centres[nearest.clip(0, len(self._centres) - 1)] - (self._left, self._top)
        return np.where(np.isfinite(distance)[:, None], found, np.nan)

    @cached_property
    def _known(self) -> np.ndarray:
        return np.isfinite(self._points).all(axis=2)

    @cached_property
    def _centres(self) -> np.ndarray:
        row, column = np.nonzero(self._known)
        return np.stack([column, row], axis=1) + 0.5

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self._points[self._known])

    def shifted(self, left: int, top: int) -> Lens:
        """See `Lens`."""
        return SampledLens(self._points, self._left + left, self._top + top)


def _rays(points: Points, pinhole: Pinhole) -> Points:
    fx, fy, cx, cy = pinhole
    return (points - (cx, cy)) / (fx, fy)


def _pixels(rays: Points, pinhole: Pinhole) -> Points:
    fx, fy, cx, cy = pinhole
    return rays * (fx, fy) + (cx, cy)
