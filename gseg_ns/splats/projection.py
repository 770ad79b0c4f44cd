"""Gaussians as a camera sees them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gseg_ns.rendering import Camera, project
from gseg_ns.splats.container import Splats

NEAR = 0.01
"""Depth from which on renderers draw Gaussians, in scene units."""

_SMALL = 0.5
"""Extent of most of a scene, in its units, from which on that is next to nothing of it."""

_LOOKED_AT = 1000


@torch.no_grad()
def near_of(means: Tensor) -> float:
    """Depth from which on Gaussians at `means` [N, 3] are drawn: `NEAR`, and less where the scene's units are tiny.

    In a room whose unit is a kilometre everything would be nearer than that.
    """
    some = means[:: max(1, len(means) // _LOOKED_AT)].float()
    some = some[some.isfinite().all(dim=1)]
    if len(some) == 0:
        return NEAR
    low, high = some.quantile(torch.tensor([0.1, 0.9], device=some.device), dim=0)
    extent = float((high - low).max())
    return NEAR * extent / _SMALL if 0 < extent < _SMALL else NEAR


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
        near_plane=near_of(splats.means),
        rasterize_mode=splats.rasterize_mode,
    )
