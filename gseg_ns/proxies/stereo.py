"""Depth that photographs correct: what Gaussians paint before a surface is not alike from two sides.

Training is content with a surface that has the right colors in every photograph. Across the opening of a mug it spans a
dish of opaque Gaussians, painted as the photographs show the wall behind it, a little differently from each side. Where
the photographs themselves agree much better on a place behind the dish, that is where the surface is: a plane sweep
(Collins 1996) about the depth that Gaussians have, the best half of the photographs counting at each place (as in
Galliani et al. 2015, Gipuma), which other photographs have to confirm (Merrell et al. 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gseg_ns.proxies.stereo_kernels import FEWEST, choose, compare, confirm, medians
from gseg_ns.rendering.threads import share

_DEEP, _BEFORE, _STEP = 16.0, 6.0, 0.5
"""How far behind the Gaussians' depth a surface is looked for, how far before it (where one is found, nothing is behind
it), and how finely; in voxels."""
_RATIO = 0.7
"""Of how different colors are at the Gaussians' depth, they have to differ less at another."""
_SLACK = 2.0
"""Voxels that depths differ by of what is seen from several sides."""
_NEAR, _AGREEING = 1.5, 2
"""Depths of two photographs agree where they differ by fewer voxels; so many others have to agree."""
_ANGLES = 3.0, 45.0
"""Degrees between two photographs of which colors are compared, seen from the object."""
_MOST = 40
"""Photographs with which one is compared."""
_PASSES = 2
"""How often what is not confirmed is taken back: the second time, by what was."""


@dataclass(frozen=True)
class Look:
    """One view of an object."""

    view: NDArray[np.float64]
    """[4, 4], to the camera."""
    lens: NDArray[np.float64]
    """fx, fy, cx, cy in pixels."""
    depth: NDArray[np.float32]
    """[H, W], of the object where that is seen and found, else of what is seen."""
    own: NDArray[np.bool_]
    """[H, W], where it is the object's."""
    photograph: NDArray[np.uint8] | None
    """[H, W, 3]; None where it is gone."""


def corrected(looks: Sequence[Look], middle: NDArray[np.float64], voxel: float) -> list[NDArray[np.float32]]:
    """The depths of views of an object, where its surface is deeper than its Gaussians.

    What is nearer than a pixel is long is left: no photograph tells it.

    Args:
        looks: the views.
        middle: [3], of the object.
        voxel: length with which surfaces are told apart.

    Returns:
        [H, W] of each.
    """
    depths = [look.depth.copy() for look in looks]
    asked = [k for k, look in enumerate(looks) if look.photograph is not None and look.own.any()]
    if len(asked) <= FEWEST:
        return depths
    pictures = _Pictures([looks[k] for k in asked])
    eyes = np.stack([-look.view[:3, :3].T @ look.view[:3, 3] for look in (looks[k] for k in asked)])
    directions = (eyes - middle) / np.linalg.norm(eyes - middle, axis=1, keepdims=True)
    angles = np.degrees(np.arccos((directions @ directions.T).clip(-1, 1)))
    first, found = pictures.depths, pictures.depths.copy()
    for me in range(len(asked)):
        order = np.argsort(angles[me], kind="stable")
        others = order[(angles[me][order] > _ANGLES[0]) & (angles[me][order] < _ANGLES[1])][:_MOST]
        if len(others) >= FEWEST:
            part = pictures.part(me)
            found[part] = first[part] + pictures.shifts(me, others, voxel)
    for _ in range(_PASSES):
        kept = found.copy()
        for me in range(len(asked)):
            pictures.take_back(me, found, kept, _NEAR * voxel)
        found = kept
    for me, k in enumerate(asked):
        depths[k] = found[pictures.part(me)].reshape(depths[k].shape)
    return depths


class _Pictures:
    """Views with their photographs, as kernels take them."""

    def __init__(self, looks: Sequence[Look]) -> None:
        sizes = [look.depth.shape for look in looks]
        starts = np.cumsum([0, *(high * wide for high, wide in sizes)])
        self._places = np.array([(start, *size) for start, size in zip(starts[:-1], sizes, strict=True)], np.int64)
        self._views = np.stack([look.view for look in looks])
        self._inverses = np.linalg.inv(self._views)
        self._lenses = np.stack([look.lens for look in looks])
        self._own = np.concatenate([look.own.ravel() for look in looks])
        self._colors = np.concatenate([look.photograph.reshape(-1, 3) for look in looks if look.photograph is not None])
        self.depths = np.concatenate([look.depth.ravel() for look in looks])

    def part(self, me: int) -> slice:
        """Where the pixels of a picture are."""
        start, high, wide = self._places[me]
        return slice(start, start + high * wide)

    def shifts(self, me: int, others: NDArray[np.int64], voxel: float) -> NDArray[np.float32]:
        """How much deeper the surface is at each of a picture's pixels [H W], before anything is confirmed."""
        _, high, wide = self._places[me]
        part, lens = self.part(me), self._lenses[me]
        own, depths = self._own[part].reshape(high, wide), self.depths[part].reshape(high, wide)
        rows, columns = np.nonzero(own)
        # Pixels that are finer than voxels say no more than every second, or third.
        stride = max(1, int(voxel / (np.median(depths[rows, columns]) / lens[0])))
        box = slice(rows.min(), rows.max() + 1, stride), slice(columns.min(), columns.max() + 1, stride)
        chosen = own[box]
        lattice = np.where(chosen, np.cumsum(chosen).reshape(chosen.shape) - 1, -1)
        a, b = np.nonzero(chosen)
        rows, columns = a * stride + box[0].start, b * stride + box[1].start
        steps = np.arange(-_BEFORE, _DEEP + _STEP / 2, _STEP) * voxel
        costs = np.empty((len(rows), len(steps)), np.float32)
        share(
            compare, len(rows), rows, columns, me, others, self._places, self._views, self._inverses, self._lenses,
            self.depths, self._own, self._colors, steps, _SLACK * voxel, costs, grain=64,
        )  # fmt: skip
        pixels = depths[rows, columns].astype(np.float64) / lens[0]
        moved, smooth = np.zeros(len(rows)), np.zeros(len(rows))
        share(choose, len(lattice), lattice, costs, steps, pixels, _RATIO, moved, grain=4)
        share(medians, len(lattice), lattice, moved, smooth, grain=4)
        out = np.zeros((high, wide), np.float32)
        everywhere = np.where(lattice < 0, 0, np.append(smooth, 0.0)[lattice])
        out[box[0].start : box[0].stop, box[1].start : box[1].stop] = np.kron(everywhere, np.ones((stride, stride)))[
            : box[0].stop - box[0].start, : box[1].stop - box[1].start
        ]
        y, x = np.mgrid[:high, :wide] + 0.5
        along = np.sqrt(((x - lens[2]) / lens[0]) ** 2 + ((y - lens[3]) / lens[1]) ** 2 + 1)
        return np.where(own, out / along, 0).astype(np.float32).ravel()

    def take_back(self, me: int, found: NDArray[np.float32], kept: NDArray[np.float32], near: float) -> None:
        """Put what other pictures do not confirm back to what it was.

        Args:
            me: the picture.
            found: depths of all pixels.
            kept: these, with those of the picture changed.
            near: see `confirm`.
        """
        _, high, wide = self._places[me]
        part = self.part(me)
        rows, columns = np.nonzero((found[part] != self.depths[part]).reshape(high, wide))
        sure = np.zeros(len(rows), np.bool_)
        share(
            confirm, len(rows), rows, columns, me, self._places, self._views, self._inverses, self._lenses,
            found, self._own, near, _AGREEING, sure, grain=256,
        )  # fmt: skip
        back = part.start + rows[~sure] * wide + columns[~sure]
        kept[back] = self.depths[back]
