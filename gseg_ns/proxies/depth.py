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
    splats: Splats,
    camera: Camera,
    far: float,
    pixel: float | Tensor = 0.0,
    level: float = 0.5,
    least: float | None = None,
) -> NDArray[np.float32]:
    """Depth [H, W] at which a picture of Gaussians has become opaque; `far` where it never does.

    No centre, nor any number of standard deviations before it, is where a Gaussian begins: an opaque one looks solid
    from farther out than a faint one, and many faint ones do so together.

    Args:
        splats: on any device.
        camera: the view.
        far: what stands for no surface.
        pixel: length, where the Gaussians are, of a pixel of the pictures that they were trained on. They were drawn
            wider by a part of it, sideways, and only so they fill the outlines; seen from nearer, gaps would open. Of
            each Gaussian [N], or of all.
        level: the opacity that counts as a surface.
        least: with it, `level` is a part of what all Gaussians cover of a pixel, which has a surface where they cover
            as much as this.
    """
    view = camera.viewmat.double().cpu()
    rotations = view[:3, :3] @ rotation_matrices(splats.quats.detach().double().cpu())
    centres = splats.means.detach().double().cpu() @ view[:3, :3].T + view[:3, 3]
    scales = splats.scales.detach().double().cpu().exp()
    opacities = splats.opacities.detach().double().cpu().sigmoid()
    covariances = (rotations * scales[:, None] ** 2) @ rotations.transpose(1, 2)
    whitened = rotations.transpose(1, 2) / scales[:, :, None]
    lengths = torch.as_tensor(pixel, dtype=torch.float64).expand(len(splats))
    if bool((lengths > 0).any()):
        sharp = torch.linalg.det(covariances[:, :2, :2])
        widened = DILATION * lengths**2
        covariances += torch.diag(torch.tensor([1, 1, _THIN], dtype=torch.float64)) * widened[:, None, None]
        whitened = torch.linalg.inv(torch.linalg.cholesky(covariances))
        if splats.rasterize_mode == "antialiased":
            opacities *= (sharp / torch.linalg.det(covariances[:, :2, :2])).clamp(0, 1).sqrt()
    reach = 2 * (opacities / FAINTEST).clamp_min(1).log()
    lens, width, height = lens_of(camera), camera.width, camera.height
    bounds = _tiles(centres, covariances, reach, lens, width, height)
    across, down = -(-width // TILE), -(-height // TILE)
    touched = int(((bounds[:, 1] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 2])).sum())
    offsets, members = np.zeros(across * down + 1, np.int64), np.empty(touched, np.int64)
    fill_lists(bounds, across, offsets, members)
    round_centres = (whitened @ centres[:, :, None])[:, :, 0]
    out = np.full((height, width), far, np.float32)
    share(
        opaque_depths, across * down, across, offsets, members, whitened.contiguous().numpy(),
        round_centres.contiguous().numpy(), reach.numpy(), opacities.numpy(), lens, level,
        level if least is None else least, least is not None, out, grain=4,
    )  # fmt: skip
    return out


def lens_of(camera: Camera) -> NDArray[np.float64]:
    """Focal lengths and middle in pixels: fx, fy, cx, cy."""
    K = camera.K.double().cpu().numpy()
    return np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]])


def _tiles(
    centres: Tensor, covariances: Tensor, reach: Tensor, lens: NDArray[np.float64], width: int, height: int
) -> NDArray[np.int64]:
    """First and one past the last tile of each Gaussian, in columns and rows: [N, 4]; none of what is not seen."""
    x, y, z = centres.unbind(1)
    # The planes through the camera that touch the ellipsoid: roots of a quadratic, none where the camera's own plane
    # cuts it.
    square = reach * covariances[:, 2, 2] - z * z
    ahead = (z > 0) & (square < 0) & (reach > 0)
    around = (square >= 0) & (reach > 0)
    bounds = []
    for axis, along, size in ((0, x, width), (1, y, height)):
        count, focal, middle = -(-size // TILE), float(lens[axis]), float(lens[2 + axis])
        half = reach * covariances[:, axis, 2] - along * z
        constant = reach * covariances[:, axis, axis] - along * along
        root = (half * half - constant * square).clamp_min(0).sqrt()
        low, high = (half + root) / square, (half - root) / square
        for end, value in ((0, low), (1, high)):
            tile = ((value * focal + middle) / TILE).nan_to_num().floor().clamp(-1, count).long() + end
            tile = torch.where(around, end * count, tile.clamp(0, count))
            bounds.append(torch.where(ahead | around, tile, 0))
    return torch.stack(bounds, dim=1).contiguous().numpy()
