"""Depth at which Gaussians become opaque, seen by a camera."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.proxies.kernels import TILE, fill_lists, opaque_depths
from gseg_ns.rendering import Camera
from gseg_ns.rendering.threads import share
from gseg_ns.splats.container import Splats
from gseg_ns.splats.transform import rotation_matrices

FAINTEST = 1 / 255
"""What covers less of a pixel is not drawn."""
DILATION = 0.3
"""Square pixels by which pictures draw Gaussians wider, as 3DGS and gsplat do."""
_THIN = 1e-6
"""Of that along the view, so that a flat Gaussian has an inverse."""


def opaque_depth(
    splats: Splats, camera: Camera, far: float, pixel: float = 0.0, level: float = 0.5
) -> NDArray[np.float32]:
    """Depth [H, W] at which a picture of Gaussians has become opaque; `far` where it never does.

    No centre, nor any number of standard deviations before it, is where a Gaussian begins: an opaque one looks solid
    from farther out than a faint one, and many faint ones do so together.

    Args:
        splats: on any device.
        camera: square, with its middle in the middle.
        far: what stands for no surface.
        pixel: length, where the Gaussians are, of a pixel of the pictures that they were trained on. They were drawn
            wider by a part of it, sideways, and only so they fill the outlines; seen from nearer, gaps would open.
        level: the opacity that counts as a surface.
    """
    view = camera.viewmat.double().cpu()
    rotations = view[:3, :3] @ rotation_matrices(splats.quats.detach().double().cpu())
    centres = splats.means.detach().double().cpu() @ view[:3, :3].T + view[:3, 3]
    scales = splats.scales.detach().double().cpu().exp()
    opacities = splats.opacities.detach().double().cpu().sigmoid()
    covariances = (rotations * scales[:, None] ** 2) @ rotations.transpose(1, 2)
    whitened = rotations.transpose(1, 2) / scales[:, :, None]
    if pixel > 0:
        sharp = torch.linalg.det(covariances[:, :2, :2])
        widened = DILATION * pixel**2
        covariances += torch.diag(torch.tensor([1, 1, _THIN], dtype=torch.float64)) * widened
        whitened = torch.linalg.inv(torch.linalg.cholesky(covariances))
        if splats.rasterize_mode == "antialiased":
            opacities *= (sharp / torch.linalg.det(covariances[:, :2, :2])).clamp(0, 1).sqrt()
    reach = 2 * (opacities / FAINTEST).clamp_min(1).log()
    focal, middle, size = float(camera.K[0, 0]), float(camera.K[0, 2]), camera.width
    bounds = _tiles(centres, covariances, reach, focal, middle, size)
    across = -(-size // TILE)
    touched = int(((bounds[:, 1] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 2])).sum())
    offsets, members = np.zeros(across * across + 1, np.int64), np.empty(touched, np.int64)
    fill_lists(bounds, across, offsets, members)
    round_centres = (whitened @ centres[:, :, None])[:, :, 0]
    out = np.full((size, size), far, np.float32)
    share(
        opaque_depths, across * across, across, offsets, members, whitened.contiguous().numpy(),
        round_centres.contiguous().numpy(), reach.numpy(), opacities.numpy(), focal, middle, level, out, grain=4,
    )  # fmt: skip
    return out


def _tiles(
    centres: Tensor, covariances: Tensor, reach: Tensor, focal: float, middle: float, size: int
) -> NDArray[np.int64]:
    """First and one past the last tile of each Gaussian, in columns and rows: [N, 4]; none of what is not seen."""
    x, y, z = centres.unbind(1)
    across = -(-size // TILE)
    # The planes through the camera that touch the ellipsoid: roots of a quadratic, none where the camera's own plane
    # cuts it.
    square = reach * covariances[:, 2, 2] - z * z
    ahead = (z > 0) & (square < 0) & (reach > 0)
    around = (square >= 0) & (reach > 0)
    bounds = []
    for axis, along in ((0, x), (1, y)):
        half = reach * covariances[:, axis, 2] - along * z
        constant = reach * covariances[:, axis, axis] - along * along
        root = (half * half - constant * square).clamp_min(0).sqrt()
        low, high = (half + root) / square, (half - root) / square
        for end, value in ((0, low), (1, high)):
            tile = ((value * focal + middle) / TILE).nan_to_num().floor().clamp(-1, across).long() + end
            tile = torch.where(around, end * across, tile.clamp(0, across))
            bounds.append(torch.where(ahead | around, tile, 0))
    return torch.stack(bounds, dim=1).contiguous().numpy()
