"""Which way is up in a splat, and along which axes its walls stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

Floats = NDArray[np.float64]

_LOOKED_AT = 20_000
"""Points that directions are tried on."""
_DIRECTIONS = 1500
_BEST = 12
"""Directions that are improved."""
_STANDS_OUT = 1.4
"""Times as much as the fullest layers across nearly all directions, that a floor holds at least: 1.7 to 3.5 in rooms,
turned or not, and a garden, 1.2 in a capture that was trained from random points, a fog, and 1.0 in a ball."""
_NEAR_AXIS = np.cos(np.radians(6))
"""A direction that is meant to be an axis of the file, but for what was measured of it."""


@dataclass(frozen=True)
class Frame:
    """A frame that stands upright."""

    turn: Floats
    """[3, 3], from the file's coordinates to those in which z is up and x across most walls."""
    is_certain: bool
    """Whether something tells up from down."""
    reason: str
    """What does, for people."""

    @property
    def up(self) -> Floats:
        """[3], in the file's coordinates."""
        return self.turn[2]


def frame_of_up(up: Floats, points: Floats, bin_size: float) -> Frame:
    """The frame of an up that somebody knows.

    Args:
        up: [3], of any length above 0.
        points: [n, 3], solid.
        bin_size: thickness of a layer.
    """
    up = up / np.linalg.norm(up)
    points = _some(points)
    return Frame(_turn(up, _walls(points, up, bin_size)), True, "given")


def find_frame(points: Floats, bin_size: float) -> Frame:
    """Up from the layer that holds most: a floor, or the ground.

    Normals are not asked: the shortest axes of trained Gaussians are far from the normals of what they show. Where no
    layer stands out there is no floor, and the one that holds most lies anyhow: the file's z is the better guess.

    Args:
        points: [n, 3], middles of solid voxels.
        bin_size: their side.
    """
    some = _some(points)
    fullest, stands_out = _fullest(some, bin_size)
    if not stands_out:
        up = np.array([0.0, 0.0, 1.0])
        return Frame(_turn(up, _walls(some, up, bin_size)), False, "z of the file, for no layer stands out as a floor")
    up, is_certain = _sign(points, fullest, bin_size)
    return Frame(_turn(up, _walls(some, up, bin_size)), is_certain, "the floor")


def find_standing_frame(points: Floats, bin_size: float) -> Frame:
    """Up of a thing without a floor: along an axis of the file, if it is one that the thing is built along.

    Its largest layer may be a seat, the top of a table or the back of a cupboard. It stands on what its lowest part
    spans, above which its middle lies; where both ends would do, the file's axis says which. All that is a guess.

    Args:
        points: [n, 3], middles of solid voxels.
        bin_size: their side.
    """
    some = _some(points)
    slab = _fullest(some, bin_size)[0]
    side = _walls(some, slab, bin_size)
    up, reason = slab, "its largest side"
    built = [slab, side, np.cross(slab, side)]
    # z where most viewers and Nerfstudio have it, y as SPZ and glTF have it.
    for axis in (2, 1):
        along = max(built, key=lambda way: abs(way[axis]))
        if abs(along[axis]) > _NEAR_AXIS:
            up, reason = along * np.sign(along[axis]), "an axis of the file"
            break
    stands, falls = (_stability(points, end) for end in (up, -up))
    if stands < 0.5 * falls:
        up, reason = -up, "what it could stand on"
    return Frame(_turn(up, _walls(some, up, bin_size)), False, reason)


def _fullest(some: Floats, bin_size: float) -> tuple[Floats, bool]:
    """The direction across the layer that holds most, and whether that holds much more than those of others."""
    fan = sphere(2 * _DIRECTIONS)[:_DIRECTIONS]
    peaks = np.array([_peak(some, way, 2 * bin_size) for way in fan])
    first = np.argsort(-peaks, kind="stable")[:_BEST]
    up = max((_climb(some, fan[i], bin_size) for i in first), key=lambda pair: pair[0])[1]
    return up, bool(_peak(some, up, 2 * bin_size) > _STANDS_OUT * np.percentile(peaks, 95))


def _sign(points: Floats, up: Floats, bin_size: float) -> tuple[Floats, bool]:
    """Which end of an axis is up by the layer that holds most, and whether that is certain where that is a floor."""
    height = points @ up
    counts = np.bincount(((height - height.min()) / bin_size).astype(int))
    pairs = counts + np.append(counts[1:], 0)
    layer = height.min() + (pairs.argmax() + 1) * bin_size
    low, high = np.percentile(height, [0.5, 99.5])
    if layer - low > high - layer:
        up, height, layer, low, high = -up, -height, -layer, -high, -low
    # A ceiling would be as large as a floor: what stands on a floor fills the space next to it.
    third = (high - 2 * bin_size - layer) / 3
    other = np.abs(height - high) < 3 * bin_size
    if other.sum() <= 0.5 * (np.abs(height - layer) < 3 * bin_size).sum():
        return up, True
    above = int(((height > layer + 3 * bin_size) & (height < layer + third)).sum())
    under = int(((height < high - 3 * bin_size) & (height > high - third)).sum())
    return (up if above >= under else -up), max(above, under) > 1.25 * min(above, under)


def _stability(points: Floats, up: Floats) -> float:
    """How wide a thing stands: the distance from its middle to the edge of what is lowest, by how wide it is."""
    height = points @ up
    foot = height < height.min() + 0.04 * np.ptp(height)
    a, b = _across(up)
    flat = np.stack([points @ a, points @ b], axis=1)
    try:
        hull = ConvexHull(flat[foot])
    except (QhullError, ValueError):
        return 0.0
    middle = flat.mean(axis=0)
    reach = -(hull.equations[:, :2] @ middle + hull.equations[:, 2]).max()
    return max(float(reach), 0.0) / max(float(np.ptp(flat, axis=0).max()), 1e-9)


def _some(points: Floats) -> Floats:
    return points[np.random.default_rng(1).permutation(len(points))[:_LOOKED_AT]]


def sphere(count: int) -> Floats:
    """Directions [count, 3] evenly over the sphere, the upper half first."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


def _peak(points: Floats, way: Floats, bin_size: float) -> float:
    """Share of the points in the layer of two bins that holds most."""
    height = points @ way
    counts = np.bincount(((height - height.min()) / bin_size).astype(int))
    return float((counts + np.append(counts[1:], 0)).max()) / len(points)


def _climb(points: Floats, way: Floats, bin_size: float, across: Floats | None = None) -> tuple[float, Floats]:
    """The best direction near one, also across another."""
    rng = np.random.default_rng(2)
    best = _peak(points, way, bin_size)
    for radius in (0.06, 0.03, 0.015, 0.007, 0.004):
        for _ in range(30):
            tried = way + radius * rng.normal(size=3)
            if across is not None:
                tried -= across * (tried @ across)
            tried /= np.linalg.norm(tried)
            share = _peak(points, tried, bin_size)
            if share > best:
                best, way = share, tried
    return best, way


def _across(up: Floats) -> tuple[Floats, Floats]:
    """Two directions across another and across each other."""
    a = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    a /= np.linalg.norm(a)
    return a, np.cross(up, a)


def _walls(points: Floats, up: Floats, bin_size: float) -> Floats:
    """The direction across `up` along which points pile up most."""
    a, b = _across(up)
    angles = np.linspace(0, np.pi, 180, endpoint=False)
    ring = np.cos(angles)[:, None] * a + np.sin(angles)[:, None] * b
    best = ring[int(np.argmax([_peak(points, way, 2 * bin_size) for way in ring]))]
    return _climb(points, best, bin_size, up)[1]


def _turn(up: Floats, side: Floats) -> Floats:
    side = side - up * (side @ up)
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(up, side), up])
