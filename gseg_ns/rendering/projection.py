"""Projection of 3D Gaussians to the image plane on the CPU, and their colours from spherical harmonics."""

from __future__ import annotations

import torch
from gsplat.cuda import _torch_impl as gsplat_torch
from torch import Tensor


def project_gaussians(
    means: Tensor,
    quats: Tensor | None,
    scales: Tensor | None,
    covars: Tensor | None,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    eps2d: float,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    calc_compensations: bool,
    camera_model: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Radii, 2D means, depths, conics and compensations, as gsplat's `fully_fused_projection`."""
    if covars is None:
        covars, _ = gsplat_torch._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    radii, means2d, depths, conics, compensations = gsplat_torch._fully_fused_projection(
        means, covars, viewmats, Ks, width, height, eps2d, near_plane, far_plane, calc_compensations, camera_model
    )
    radii = torch.where(radii > radius_clip, radii, torch.zeros_like(radii))
    return radii, means2d, depths, conics, compensations


def sh_colors(degree: int, dirs: Tensor, coeffs: Tensor) -> Tensor:
    """Colours [C, N, 3] of coefficients [(C,) N, K, 3] seen along `dirs` [C, N, 3], before the +0.5."""
    return gsplat_torch._spherical_harmonics(degree, dirs, coeffs.expand(dirs.shape[0], -1, -1, -1))
