"""Oriented boxes of objects made of Gaussians.

A box is drawn around where an object ends to the eye: a Gaussian ends where it becomes half transparent, not at its
centre (large flat ones make a smooth face, with no centre near its edge) nor at three standard deviations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError
from scipy.spatial.transform import Rotation
from torch import Tensor

from gseg_ns.splats import Splats

FloatArray = NDArray[np.float64]
Corner = tuple[float, float, float]

TRIMMED = 0.005
"""Part of an object's weight that may stick out of its box on each of the six sides."""

SEARCHED = 1000
"""Gaussians among which the orientation is searched; the sizes are those of all."""

_FEW = 32
"""Ends of Gaussians among which the part that may stick out is looked for first."""

CLEARLY = 0.9
"""A less ordinary orientation is taken where its box has at most this part of the volume: upright before lying at an
angle, along the scene's axes before turned. The sides of what is round or ragged would point anywhere else."""


@dataclass(frozen=True)
class OrientedBox:
    """A box in any orientation."""

    centre: tuple[float, float, float]
    half_sizes: tuple[float, float, float]
    """Along the box's own axes x, y, z."""
    rotation: tuple[float, float, float, float]
    """Quaternion w, x, y, z of unit length, w >= 0: from the box's axes to the scene's."""

    @property
    def volume(self) -> float:
        """In cubic units of the scene."""
        x, y, z = self.half_sizes
        return 8 * x * y * z

    @property
    def axes(self) -> FloatArray:
        """[3, 3], the box's axes as columns."""
        w, x, y, z = self.rotation
        return Rotation.from_quat([x, y, z, w]).as_matrix()

    def corners(self) -> FloatArray:
        """[8, 3] in the scene."""
        signs = np.array(list(product((-1.0, 1.0), repeat=3)))
        return np.asarray(self.centre) + signs * np.asarray(self.half_sizes) @ self.axes.T

    def contains(self, points: FloatArray, margin: float = 0.0) -> NDArray[np.bool_]:
        """Which points [n, 3] lie inside, or no farther outside than `margin` along each axis: bool [n]."""
        local = (np.asarray(points, np.float64) - np.asarray(self.centre)) @ self.axes
        return (np.abs(local) <= np.asarray(self.half_sizes) + margin).all(axis=1)

    def moved(self, rotation: FloatArray, shift: FloatArray, scale: float = 1.0) -> OrientedBox:
        """The box after x -> scale (rotation x + shift), the similarities of Nerfstudio's frames."""
        centre = scale * (rotation @ np.asarray(self.centre) + shift)
        return _box(centre, scale * np.asarray(self.half_sizes), rotation @ self.axes)


def box_iou(a: OrientedBox, b: OrientedBox) -> float:
    """Volume of what two boxes share, over that of what they fill together: 0..1, exactly."""
    centre, axes = np.asarray(a.centre), a.axes
    faces = []
    for box in (a, b):
        for axis, half in zip(box.axes.T, box.half_sizes, strict=True):
            # In the frame of the first box, where its sizes say what is small.
            normal, middle = axes.T @ axis, axis @ (np.asarray(box.centre) - centre)
            faces += [[*normal, -(middle + half)], [*-normal, middle - half]]
    inside = _deepest(np.asarray(faces))
    if inside is None:
        return 0.0
    try:
        shared = float(ConvexHull(HalfspaceIntersection(np.asarray(faces), inside).intersections).volume)
    except QhullError:  # they touch in a face and no more
        return 0.0
    return shared / (a.volume + b.volume - shared)


def _deepest(faces: FloatArray) -> FloatArray | None:
    """The point [3] farthest inside all half spaces [n, 4], or None where nothing is inside."""
    from scipy.optimize import linprog

    norms = np.linalg.norm(faces[:, :3], axis=1, keepdims=True)
    found = linprog([0, 0, 0, -1], np.hstack([faces[:, :3], norms]), -faces[:, 3], bounds=(None, None))
    return found.x[:3] if found.success and found.x[3] > 1e-9 else None


def box_of_points(points: FloatArray, up: FloatArray | None = None) -> OrientedBox:
    """The box of points [n, 3], n > 0, without a tolerance: of the vertices of a mesh, or points on one.

    Args:
        points: finite.
        up: [3], see `fit_box`.
    """
    points = np.asarray(points, np.float64)
    return _fit(points, np.zeros((len(points), 3, 3)), np.ones(len(points)), up, trimmed=0.0)


def fit_box(splats: Splats, weights: Tensor | None = None, up: FloatArray | None = None) -> OrientedBox:
    """The box of an object.

    Args:
        splats: N > 0 Gaussians.
        weights: [N], how much of each is seen; all count the same where None, or where nothing is seen.
        up: [3] in the scene; +z where None. A box stands upright, and along the scene's axes, unless another
            orientation is clearly smaller.
    """
    return _fit(*_ellipsoids(splats, weights), up, TRIMMED)


def fit_sides(splats: Splats, weights: Tensor | None = None) -> tuple[Corner, Corner]:
    """As `fit_box`, along the scene's axes: the lower and the upper corner."""
    low, high = _sides(*_ellipsoids(splats, weights), TRIMMED, np.eye(3)[None])
    return _corner(low[0]), _corner(high[0])


def _ellipsoids(splats: Splats, weights: Tensor | None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centres [N, 3], half axes as columns [N, 3, 3] and weights [N] of Gaussians where they are half transparent."""
    means = splats.means.detach().cpu().double().numpy()
    rotations = Rotation.from_quat(splats.quats.detach().cpu().double().numpy()[:, [1, 2, 3, 0]]).as_matrix()
    opacities = splats.opacities.detach().cpu().double().sigmoid().numpy()
    reach = np.sqrt(2 * np.log(np.maximum(2 * opacities, 1)))
    spread = rotations * (reach[:, None] * splats.scales.detach().cpu().double().exp().numpy())[:, None, :]
    seen = np.ones(len(means)) if weights is None else weights.detach().cpu().double().numpy()
    return means, spread, seen if seen.sum() > 0 else np.ones(len(means))


def _fit(
    means: FloatArray, spread: FloatArray, weights: FloatArray, up: FloatArray | None, trimmed: float
) -> OrientedBox:
    """As `fit_box`, of ellipsoids whose half axes are the columns of `spread` [n, 3, 3]."""
    base = _upright(np.array([0.0, 0.0, 1.0]) if up is None else np.asarray(up, np.float64))
    few = slice(None) if len(means) <= SEARCHED else _evenly(len(means), SEARCHED)

    def smallest(candidates: FloatArray) -> tuple[float, FloatArray]:
        low, high = _sides(means[few], spread[few], weights[few], trimmed, candidates)
        volumes = (high - low).prod(axis=1)
        return float(volumes.min()), candidates[volumes.argmin()]

    def refined(axes: FloatArray, degrees: Iterable[float], turns: FloatArray) -> tuple[float, FloatArray]:
        for step in degrees:
            axes = smallest(axes @ Rotation.from_rotvec(np.radians(step) * turns).as_matrix())[1]
        return smallest(axes[None])

    # Along the scene's axes; turned about the vertical; any.
    best, axes = refined(base, (1, 0.5), _TURNS)
    upright = smallest(base @ Rotation.from_euler("z", np.arange(0, 90, 3)[:, None], degrees=True).as_matrix())[1]
    lying = smallest(base @ _ALL_AROUND)[1]
    for start, degrees in ((upright, (1.5, 1, 0.5)), (lying, (6, 3, 1.5, 1, 0.5))):
        volume, found = refined(start, degrees, _TURNS)
        if volume < CLEARLY * best:
            best, axes = volume, found
    low, high = (side[0] for side in _sides(means, spread, weights, trimmed, axes[None]))
    return _box(axes @ ((low + high) / 2), (high - low) / 2, axes)


def _sides(
    means: FloatArray, spread: FloatArray, weights: FloatArray, trimmed: float, axes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Lower and upper side [R, 3] along the columns of each of some axes [R, 3, 3]."""
    count = len(means)
    ends = np.empty((2, len(axes), 3, count))
    half_axes = spread.transpose(0, 2, 1).reshape(-1, 3)
    for place, turned in enumerate(axes):
        middle = (means @ turned).T
        reach = np.sqrt(((half_axes @ turned) ** 2).reshape(count, 3, 3).sum(axis=1)).T
        np.subtract(reach, middle, out=ends[0, place])
        np.add(reach, middle, out=ends[1, place])
    low, high = _reached(ends.reshape(-1, count), weights, trimmed).reshape(2, len(axes), 3)
    return -low, high


def _reached(ends: FloatArray, weights: FloatArray, trimmed: float) -> FloatArray:
    """The largest of each row of `ends` [K, n], without the part `trimmed` of the weight [n] beyond: [K]."""
    if trimmed == 0:
        return np.asarray(ends.max(axis=1))
    most, few = trimmed * weights.sum(), max(_FEW, ends.shape[1] // 32)
    if few < ends.shape[1]:
        # What lies beyond is little: the order of the farthest is enough, but where these weigh next to nothing.
        farthest = np.argpartition(ends, -few, axis=1)[:, -few:]
        found, known = _first(np.take_along_axis(ends, farthest, axis=1), weights[farthest], most)
        if known.all():
            return found
    return _first(ends, np.broadcast_to(weights, ends.shape), most)[0]


def _first(ends: FloatArray, weights: FloatArray, most: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The end [K] of each row [K, n] up to which, from the largest, more than `most` of the weight has come.

    Also whether that much comes at all: bool [K].
    """
    order = np.argsort(-ends, axis=1)
    enough = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1) > most
    place = np.take_along_axis(order, enough.argmax(axis=1)[:, None], axis=1)
    return np.take_along_axis(ends, place, axis=1)[:, 0], enough[:, -1]


def _evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` rows of `count`, the same ones each time."""
    return np.linspace(0, count - 1, wanted).astype(np.int64)


def _upright(up: FloatArray) -> FloatArray:
    """Axes [3, 3] whose z is `up`, turned as little as can be from the scene's."""
    turn = Rotation.align_vectors([up / np.linalg.norm(up)], [[0.0, 0.0, 1.0]])[0]
    return turn.as_matrix()


def _box(centre: FloatArray, half_sizes: FloatArray, axes: FloatArray) -> OrientedBox:
    """A box with its axes named so that they differ least from the scene's: one box, one set of numbers."""
    order = max(permutations(range(3)), key=lambda names: sum(abs(axes[row, name]) for row, name in enumerate(names)))
    named = axes[:, order]
    named = named * np.where(np.diag(named) < 0, -1.0, 1.0)
    if np.linalg.det(named) < 0:
        named[:, np.abs(np.diag(named)).argmin()] *= -1
    x, y, z, w = Rotation.from_matrix(named).as_quat()
    sign = -1.0 if w < 0 else 1.0
    sizes = np.asarray(half_sizes)[list(order)]
    return OrientedBox(
        _corner(centre),
        _corner(sizes),
        (float(sign * w), float(sign * x), float(sign * y), float(sign * z)),
    )


def _corner(values: FloatArray) -> Corner:
    return float(values[0]), float(values[1]), float(values[2])


def _orientations(step: float) -> FloatArray:
    """Orientations of a box, none farther than about `step` degrees from one of them: [R, 3, 3].

    A box is the same after quarter turns, so that a third of a half sphere of directions for one axis is enough.
    """
    angles = np.arange(-45, 45 + step / 2, step)
    found = Rotation.from_euler("xyz", list(product(angles, angles, np.arange(0, 90, step))), degrees=True)
    return found.as_matrix()


_ALL_AROUND = _orientations(12)
_TURNS = np.array(list(product((-1.0, 0.0, 1.0), repeat=3)))
"""Rotation vectors that the search tries about a place, itself among them."""
