"""A splat as a camera takes it: color, alpha and depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.rendering import Camera, rasterization
from gseg_ns.splats.container import Splats
from gseg_ns.splats.projection import near_of


@dataclass(frozen=True)
class Drawn:
    """A picture."""

    rgb: Tensor
    """[H, W, 3] in [0, 1], over the background."""
    alpha: Tensor
    """[H, W] in [0, 1]."""
    depth: Tensor
    """[H, W], mean along the view's axis; 0 where next to nothing is seen."""


@torch.no_grad()
def draw_view(splats: Splats, camera: Camera, background: float = 0.0, near: float | None = None) -> Drawn:
    """Draw Gaussians as they are meant to be drawn, classic or antialiased, with all their harmonics.

    Args:
        splats: on any device.
        camera: in the coordinates of the splats.
        background: grey behind them.
        near: depth from which on they are drawn; `near_of` unless given.
    """
    image, alpha, _ = rasterization(
        splats.means, splats.quats, splats.scales.exp(), splats.opacities.sigmoid(), splats.sh,
        camera.viewmat[None].to(splats.means), camera.K[None].to(splats.means), camera.width, camera.height,
        near_plane=near_of(splats.means) if near is None else near, sh_degree=splats.sh_degree, packed=False,
        render_mode="RGB+ED", rasterize_mode=splats.rasterize_mode,
    )  # fmt: skip
    alpha = alpha[0, ..., 0].clamp(0, 1)
    rgb = (image[0, ..., :3] + (1 - alpha[..., None]) * background).clamp(0, 1)
    depth = torch.where(alpha > 0.05, image[0, ..., 3], 0.0)
    return Drawn(rgb.cpu(), alpha.cpu(), depth.cpu())
