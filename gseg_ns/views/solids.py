"""Where a splat is solid: voxels through which hardly any light passes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from gseg_ns.splats.container import Splats
from gseg_ns.splats.transform import rotation_matrices
from gseg_ns.views.kernels import fill

Floats = NDArray[np.float64]

_FAINT = 0.1
"""Opacity below which a Gaussian is not looked at."""
_CORE = 3.5
"""What is farther from the middle than so many median distances is background: skies, hills behind a garden."""
_FINE = 25
"""Percent of the Gaussians, the finest, that show what photographs were taken of."""
_HELD = 0.7
"""-log(1 - alpha) of a solid voxel: half of the light is held back."""
_FLOATER = 20
"""Voxels of the smallest body that is more than a floater."""
_ACROSS = 80
"""Voxels along a side of a scene that is a cube."""
_LARGEST_GRID = 24_000_000
"""Voxels: long and flat scenes get larger ones."""
_LARGEST = 0.15
"""Standard deviation, of the scene's size, that a Gaussian is filled in with at most."""


@dataclass(frozen=True)
class Body:
    """The Gaussians that planning looks at, as arrays."""

    means: Floats
    """[N, 3]"""
    axes: Floats
    """[N, 3, 3], unit axes in rows, the longest first."""
    sizes: Floats
    """[N, 3], standard deviations along them."""
    opacities: Floats
    """[N]"""
    background: float
    """Part of the area of all that is seen, that lies far behind and is left out."""

    def turned(self, turn: Floats) -> Body:
        """The same in coordinates x' = turn @ x."""
        return replace(self, means=self.means @ turn.T, axes=self.axes @ turn.T)


@dataclass(frozen=True)
class Solids:
    """A grid of voxels."""

    solid: NDArray[np.bool_]
    """[X, Y, Z]"""
    grain: NDArray[np.float32]
    """[X, Y, Z], middle standard deviation of the Gaussians in each voxel, in scene units."""
    low: Floats
    """[3], where the grid begins."""
    voxel: float
    """Side of a voxel."""
    size: float
    """Of the scene: the geometric mean of its three extents."""
    box: tuple[Floats, Floats]
    """Between which corners the solid voxels lie, but for the outermost."""

    def points(self, index: NDArray[np.int64]) -> Floats:
        """Middles [n, 3] of voxels [n, 3]."""
        return self.low + (index + 0.5) * self.voxel

    def grid(self, points: Floats) -> Floats:
        """Positions [n, 3] in voxels."""
        return (points - self.low) / self.voxel


def body_of(splats: Splats) -> Body:
    """What is to be seen of a splat and near its middle, in double precision."""
    opacities = splats.opacities.detach().sigmoid()
    keep = (opacities > _FAINT) & splats.exportable()
    splats = splats.subset(keep).to("cpu")
    means, background = splats.means.double().numpy(), 0.0
    if len(means):
        away = np.linalg.norm(means - np.median(means, axis=0), axis=1)
        core = away <= _CORE * max(float(np.median(away)), 1e-12)
        shown = np.sort(splats.scales.double().exp().numpy(), axis=1)[:, 1:].prod(axis=1)
        shown *= splats.opacities.double().sigmoid().numpy()
        background = float(shown[~core].sum() / max(float(shown.sum()), 1e-300))
        means, splats = means[core], splats.subset(torch.from_numpy(core))
    sizes = splats.scales.double().exp().numpy()
    order = np.argsort(-sizes, axis=1, kind="stable")
    axes = rotation_matrices(splats.quats.double()).numpy().transpose(0, 2, 1)
    return Body(
        means,
        np.take_along_axis(axes, order[:, :, None], axis=1),
        np.take_along_axis(sizes, order, axis=1),
        splats.opacities.double().sigmoid().numpy(),
        background,
    )


def finest(body: Body) -> tuple[Floats, float]:
    """Middle [3] and radius of what is finest: a training makes small Gaussians of what photographs show from near."""
    longest = body.sizes[:, 0]
    means = body.means[longest <= np.percentile(longest, _FINE)]
    middle = np.median(means, axis=0)
    return middle, float(np.percentile(np.linalg.norm(means - middle, axis=1), 70))


def voxelize(body: Body, margin: float = 0.3, across: int = _ACROSS) -> Solids:
    """Fill a grid with Gaussians.

    Args:
        body: at least one Gaussian.
        margin: free space around the box of most of them, in sizes of the scene.
        across: voxels along a side of a scene that is a cube.
    """
    low, high = np.percentile(body.means, [1, 99], axis=0)
    extent = np.maximum(high - low, 1e-3 * max(float((high - low).max()), 1e-9))
    size = float(np.prod(extent) ** (1 / 3))
    # A flat scene is as finely divided as one of a quarter of its extent.
    size = max(size, 0.25 * float(extent.max()))
    voxel = size / across
    whole = extent + 2 * margin * size
    voxel = max(voxel, float((np.prod(whole) / _LARGEST_GRID) ** (1 / 3)))
    begin = (low + high) / 2 - whole / 2
    shape = tuple(int(n) for n in np.ceil(whole / voxel))
    density, grain, best = (np.zeros(shape, np.float32) for _ in range(3))
    sizes = np.minimum(body.sizes, _LARGEST * size) / voxel
    fill(
        (body.means - begin) / voxel, np.ascontiguousarray(body.axes), sizes, body.opacities, density, grain,
        np.full(shape, -1, np.int32), best,
    )  # fmt: skip
    solid = density > _HELD
    parts, _ = ndimage.label(solid, np.ones((3, 3, 3)))
    counts = np.bincount(parts.ravel())
    counts[0] = 0
    solid &= (counts >= min(_FLOATER, counts.max(initial=0)))[parts]
    grain *= np.float32(voxel) / np.maximum(density, np.float32(1e-9))
    index = np.argwhere(solid)
    if len(index):
        ends = np.percentile(index, [0.5, 99.5], axis=0)
        box = (begin + ends[0] * voxel, begin + (ends[1] + 1) * voxel)
    else:
        box = (low, high)
    return Solids(solid, grain, begin, voxel, size, box)
