"""What lies under a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.rendering import pixel_weights, project
from gseg_ns.rendering.camera import Camera
from gseg_ns.splats import Splats

_WINDOW = 16  # one tile: only Gaussians that touch it are sorted
_OPAQUE = 0.5


@dataclass(frozen=True)
class Pick:
    """The Gaussians that one pixel shows."""

    rows: Tensor  # int64 [n], nearest first
    weights: Tensor  # [n], alpha times transmittance; their sum is the pixel's coverage

    def average(self, values: Tensor) -> Tensor:
        """The pixel of an image of per-Gaussian values.

        Args:
            values: [N, D].

        Returns:
            [D], divided by the coverage.
        """
        return self.weights @ values[self.rows] / self.weights.sum()

    def label(self, labels: Tensor) -> int:
        """The label (int [N], not negative) that most of the pixel shows."""
        return int(torch.bincount(labels[self.rows], weights=self.weights).argmax())

    @property
    def top(self) -> int:
        """The Gaussian that the pixel shows most of."""
        return int(self.rows[self.weights.argmax()])


def pick(splats: Splats, camera: Camera, x: float, y: float, drawn: Tensor | None = None) -> Pick:
    """Find what a pixel shows, without rendering the view: a window of one tile about it is enough.

    Args:
        splats: the Gaussians.
        camera: the view.
        x: pixel column, 0 at the left border of the image, fractions allowed.
        y: pixel row, 0 at the upper border.
        drawn: bool [N], which Gaussians are there at all.

    Raises:
        GsegError: the point is outside the image, or less than half of the pixel is covered by Gaussians.
    """
    if not (0 <= x < camera.width and 0 <= y < camera.height):
        raise GsegError(f"The point {x:.0f}, {y:.0f} is outside the image of {camera.width} x {camera.height} pixels.")
    left, top = int(x) - _WINDOW // 2, int(y) - _WINDOW // 2
    K = camera.K.to(splats.means).clone()
    K[0, 2] -= left
    K[1, 2] -= top
    opacities = splats.opacities.sigmoid()
    if drawn is not None:
        opacities = torch.where(drawn, opacities, 0)
    meta = project(
        splats.means,
        splats.quats,
        splats.scales.exp(),
        opacities,
        camera.viewmat[None].to(splats.means),
        K[None],
        _WINDOW,
        _WINDOW,
        tile_size=_WINDOW,
    )
    pixel = torch.tensor([(int(y) - top) * _WINDOW + int(x) - left], device=splats.device)
    weights = pixel_weights(meta, pixel)
    if float(weights.val.sum()) < _OPAQUE:
        raise GsegError(f"There is nothing at {x:.0f}, {y:.0f}: Gaussians cover less than half of that pixel.")
    return Pick(weights.col.to(torch.int64), weights.val)
