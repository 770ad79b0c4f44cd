"""Oriented boxes of objects made of Gaussians.

A box is drawn around where an object ends to the eye: around the surface that views see of it (see
`gseg_ns.objects.surface`), or, where none were asked, around Gaussians where they become half transparent, not around
their centres (large flat ones make a smooth face, with no centre near its edge) nor at three standard deviations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError
from scipy.spatial.transform import Rotation
from torch import Tensor

from gseg_ns.objects import kernels
from gseg_ns.rendering import threads
from gseg_ns.splats import Splats

FloatArray = NDArray[np.float64]
Corner = tuple[float, float, float]

TRIMMED = 0.005
"""Part of an object's weight that may stick out of its box on each of the six sides."""

SEARCHED = 1000
"""Gaussians among which the orientation is searched; the sizes are those of all."""

FOOT = 0.02
"""Part of an object's weight that may lie below what it stands on: a reflection in it, and what noise there is."""

UPWARDS = 0.9
"""Cosine from which a side of a box is the one that an object stands on."""

CONTACTS = 3
"""So many places where it touches what is below it say that it stands."""

CLEARLY = 0.9
"""A less ordinary orientation is taken where its box has at most this part of the volume: upright before lying at an
angle, along the scene's axes before turned. The sides of what is round or ragged would point anywhere else."""


class Ellipsoids(NamedTuple):
    """What a box is drawn around."""

    means: FloatArray  # [n, 3]
    spread: FloatArray  # [n, 3, 3]
    """Half axes as columns."""
    weights: FloatArray  # [n]
    contacts: FloatArray | None = None  # [m, 3]
    """Where the surfaces of other things touch it ..."""
    contact_weights: FloatArray | None = None  # [m]
    """... and how much of each is seen."""


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


def box_of_points(points: FloatArray, up: FloatArray | None = None, upright: bool = False) -> OrientedBox:
    """The box of points [n, 3], n > 0, without a tolerance: of the vertices of a mesh, or points on one.

    Args:
        points: finite.
        up: [3], see `fit_box`.
        upright: whether it stands in any case.
    """
    points = np.asarray(points, np.float64)
    nothing = Ellipsoids(points, np.zeros((len(points), 3, 3)), np.ones(len(points)))
    return box_around(nothing, up, trimmed=0.0, upright=upright)


def fit_box(splats: Splats, weights: Tensor | None = None, up: FloatArray | None = None) -> OrientedBox:
    """The box of an object by its Gaussians.

    Args:
        splats: N > 0 Gaussians.
        weights: [N], how much of each is seen; all count the same where None, or where nothing is seen.
        up: [3] in the scene; +z where None. A box stands upright, and along the scene's axes, unless another
            orientation is clearly smaller.
    """
    return box_around(half_transparent(splats, weights), up)


def half_transparent(splats: Splats, weights: Tensor | None = None) -> Ellipsoids:
    """Gaussians where they are half transparent; all count the same without weights [N], or where nothing is seen."""
    means = splats.means.detach().cpu().double().numpy()
    rotations = Rotation.from_quat(splats.quats.detach().cpu().double().numpy()[:, [1, 2, 3, 0]]).as_matrix()
    opacities = splats.opacities.detach().cpu().double().sigmoid().numpy()
    reach = np.sqrt(2 * np.log(np.maximum(2 * opacities, 1)))
    spread = rotations * (reach[:, None] * splats.scales.detach().cpu().double().exp().numpy())[:, None, :]
    seen = np.ones(len(means)) if weights is None else weights.detach().cpu().double().numpy()
    return Ellipsoids(means, spread, seen if seen.sum() > 0 else np.ones(len(means)))


def sides_around(body: Ellipsoids, up: FloatArray | None = None) -> tuple[Corner, Corner]:
    """As `box_around`, along the scene's axes: the lower and the upper corner."""
    low, high = _standing(body, _up(up), np.eye(3), TRIMMED)
    return _corner(low), _corner(high)


def box_around(
    body: Ellipsoids, up: FloatArray | None = None, trimmed: float = TRIMMED, upright: bool = False
) -> OrientedBox:
    """The box of an object, however it was measured.

    Args:
        body: n > 0 ellipsoids.
        up: see `fit_box`.
        trimmed: part of the weight that may stick out on each side.
        upright: whether it stands in any case.
    """
    up = _up(up)
    base = _upright(up)
    few = slice(None) if len(body.means) <= SEARCHED else _evenly(len(body.means), SEARCHED)
    some = Ellipsoids(body.means[few], body.spread[few], body.weights[few])

    def smallest(candidates: FloatArray) -> tuple[float, FloatArray]:
        low, high = _sides(some, trimmed, candidates)
        volumes = (high - low).prod(axis=1)
        return float(volumes.min()), candidates[volumes.argmin()]

    def refined(axes: FloatArray, degrees: Iterable[float], turns: FloatArray) -> tuple[float, FloatArray]:
        for step in degrees:
            axes = smallest(axes @ Rotation.from_rotvec(np.radians(step) * turns).as_matrix())[1]
        return smallest(axes[None])

    # Along the scene's axes; turned about the vertical; any.
    turns = _LEVEL_TURNS if upright else _TURNS
    best, axes = refined(base, (1, 0.5), turns)
    turned = smallest(base @ Rotation.from_euler("z", np.arange(0, 90, 3)[:, None], degrees=True).as_matrix())[1]
    starts: list[tuple[FloatArray, tuple[float, ...]]] = [(turned, (1.5, 1, 0.5))]
    if not upright:
        starts.append((smallest(base @ _ALL_AROUND)[1], (6, 3, 1.5, 1, 0.5)))
    for start, degrees in starts:
        volume, found = refined(start, degrees, turns)
        if volume < CLEARLY * best:
            best, axes = volume, found
    low, high = _standing(body, up, axes, trimmed)
    return _box(axes @ ((low + high) / 2), (high - low) / 2, axes)


def _standing(body: Ellipsoids, up: FloatArray, axes: FloatArray, trimmed: float) -> tuple[FloatArray, FloatArray]:
    """Lower and upper side [3] along the columns of `axes` [3, 3]; a body ends where it stands on something.

    What views put below that is seen through the body, or noise: a reflection in a tray, the back of a thin rug. Only
    as little as `FOOT` can be cut off, so that what hangs over an edge or is let into a table stays whole.
    """
    low, high = (side[0] for side in _sides(body, trimmed, axes[None]))
    if body.contacts is None or body.contact_weights is None:
        return low, high
    cosines = axes.T @ up
    place = int(np.abs(cosines).argmax())
    if abs(cosines[place]) >= UPWARDS:
        sign = float(np.sign(cosines[place]))
        heights, others = (sign * points @ axes[:, place] for points in (body.means, body.contacts))
        order = heights.argsort()
        passed = body.weights[order].cumsum()
        lowest = heights[order[int((passed > FOOT * passed[-1]).argmax())]]
        below = others < lowest
        if below.sum() >= CONTACTS:
            level = sign * _middle(others[below], body.contact_weights[below])
            if sign > 0:
                low[place] = max(low[place], level)
            else:
                high[place] = min(high[place], level)
    return low, high


def _sides(body: Ellipsoids, trimmed: float, axes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lower and upper side [R, 3] along the columns of each of some axes [R, 3, 3]."""
    weights = body.weights
    if trimmed == 0:
        weights = np.ones(len(weights))  # all lie inside, what weighs nothing, too
    most = float(trimmed * weights.sum())
    means, spread = body.means, body.spread
    if (weights > 0).any() and not (weights > 0).all():
        means, spread, weights = (values[weights > 0] for values in (means, spread, weights))
    products = spread @ spread.transpose(0, 2, 1)
    shapes = np.ascontiguousarray(products.reshape(-1, 9)[:, _UPPER].T)
    low, high = np.empty((len(axes), 3)), np.empty((len(axes), 3))
    scene = np.ascontiguousarray(means.T), shapes, np.ascontiguousarray(weights)
    threads.share(kernels.sides, len(axes), np.ascontiguousarray(axes), *scene, most, low, high, grain=64)
    return low, high


def _middle(values: FloatArray, weights: FloatArray) -> float:
    """The median of values [n] by weight [n]."""
    order = values.argsort()
    passed = weights[order].cumsum()
    return float(values[order[int((passed >= passed[-1] / 2).argmax())]])


def _evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` rows of `count`, the same ones each time."""
    return np.linspace(0, count - 1, wanted).astype(np.int64)


def _up(up: FloatArray | None) -> FloatArray:
    """Of length 1; +z where None."""
    up = np.array([0.0, 0.0, 1.0]) if up is None else np.asarray(up, np.float64)
    return up / np.linalg.norm(up)


def _upright(up: FloatArray) -> FloatArray:
    """Axes [3, 3] whose z is `up`, turned as little as can be from the scene's."""
    turn = Rotation.align_vectors([up], [[0.0, 0.0, 1.0]])[0]
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


_UPPER = [0, 1, 2, 4, 5, 8]
"""Places of xx, xy, xz, yy, yz, zz in a flattened square of three."""
_ALL_AROUND = _orientations(12)
_TURNS = np.array(list(product((-1.0, 0.0, 1.0), repeat=3)))
"""Rotation vectors that the search tries about a place, itself among them."""
_LEVEL_TURNS = np.array([[0.0, 0.0, turn] for turn in (-1.0, 0.0, 1.0)])
"""Of these, those about the vertical."""
