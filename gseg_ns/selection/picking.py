"""What lies under a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.rendering import pixel_weights
from gseg_ns.rendering.camera import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

_OPAQUE = 0.5


@dataclass(frozen=True)
class Pick:
    """The Gaussians that one pixel shows."""

    rows: Tensor  # int64 [n], nearest first
    weights: Tensor  # [n], alpha times transmittance; their sum is the pixel's coverage

    @property
    def top(self) -> int:
        """The Gaussian that the pixel shows most of."""
        return int(self.rows[self.weights.argmax()])


def pick(splats: Splats, camera: Camera, x: float, y: float, drawn: Tensor | None = None) -> Pick:
    """Find what a pixel shows, without rendering the view: only Gaussians that may reach the pixel are projected.

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
    rows = _near_ray(splats, camera, x, y)
    if drawn is not None:
        rows = rows[drawn[rows]]
    meta = project_splats(splats.subset(rows), camera)
    pixel = torch.tensor([int(y) * camera.width + int(x)], device=splats.device)
    weights = pixel_weights(meta, pixel)
    if float(weights.val.sum()) < _OPAQUE:
        raise GsegError(f"There is nothing at {x:.0f}, {y:.0f}: Gaussians cover less than half of that pixel.")
    return Pick(rows[weights.col.to(torch.int64)], weights.val)


def warm_up(device: torch.device | str = "cpu") -> None:
    """Compile what `pick` needs, so that a user's first click does not wait for it."""
    one = Splats(
        means=torch.tensor([[0.0, 0.0, 1.0]], device=device),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=device),
        scales=torch.zeros(1, 3, device=device),
        opacities=torch.full((1,), 9.0, device=device),
        sh=torch.zeros(1, 1, 3, device=device),
    )
    pick(one, Camera(torch.eye(4), torch.tensor([[16.0, 0.0, 8.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]]), 16, 16), 8, 8)


def _near_ray(splats: Splats, camera: Camera, x: float, y: float) -> Tensor:
    """Gaussians that may reach a pixel: int64 [n]. Cheap, and leaves none out."""
    viewmat, K = camera.viewmat.to(splats.means), camera.K.to(splats.means)
    points = splats.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = points[:, 2]
    slope = points[:, :2] / depth[:, None]
    pixels = slope * K.diagonal()[:2] + K[:2, 2]
    # 1/255 of the largest opacity lies 3.33 standard deviations out. The projection of a sphere of that radius is
    # longest away from the image centre, by 1 + slope^2.
    spread = 3.4 * splats.scales.amax(dim=1).exp() / depth * K.diagonal()[:2].max()
    reach = spread * (1 + slope.square().sum(dim=1)) + 4
    off = (pixels - pixels.new_tensor([x, y])).abs().amax(dim=1)
    # What surrounds the camera has no bounded projection.
    near = depth < 4 * splats.scales.amax(dim=1).exp()
    return torch.nonzero((depth > 0) & ((off <= reach) | near))[:, 0]
