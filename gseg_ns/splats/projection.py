"""Gaussians as a camera sees them."""

from __future__ import annotations

from typing import Any

import torch

from gseg_ns.rendering import Camera, project
from gseg_ns.splats.container import Splats


@torch.no_grad()
def project_splats(splats: Splats, camera: Camera) -> dict[str, Any]:
    """Project Gaussians into a camera, as they are drawn.

    Args:
        splats: the Gaussians; classic or antialiased as they say.
        camera: the view, on any device.

    Returns:
        what `gseg_ns.rendering.composite`, `vote` and `pixel_weights` take; see `gseg_ns.rendering.project`.
    """
    return project(
        splats.means,
        splats.quats,
        splats.scales.exp(),
        splats.opacities.sigmoid(),
        camera.viewmat[None].to(splats.means),
        camera.K[None].to(splats.means),
        camera.width,
        camera.height,
        rasterize_mode=splats.rasterize_mode,
    )
