"""Splats at the edge of what the format can say, and splats that mean more than the format says."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gseg_ns.splats.container import Splats

OPAQUE_LOGIT = 15.0
"""Stands for +inf: 1 but for a millionth. -inf is as far on the other side."""

FLAT_LOG_SCALE = -20.0
"""Stands for -inf and all below: a standard deviation whose square single precision still holds."""


def mend(splats: Splats) -> Splats:
    """Write what is valid but infinite with finite numbers: whoever computes with infinities gets NaN.

    Opacity +inf is fully opaque, scale -inf is flat; a quaternion of zeros turns nothing. What is invalid stays so.
    """
    infinite = splats.opacities.isinf()
    zero = (splats.quats == 0).all(dim=1, keepdim=True)
    return replace(
        splats,
        opacities=torch.where(infinite, splats.opacities.sign() * OPAQUE_LOGIT, splats.opacities),
        scales=torch.where(splats.scales < FLAT_LOG_SCALE, FLAT_LOG_SCALE, splats.scales),
        quats=torch.where(zero, splats.quats.new_tensor([1.0, 0.0, 0.0, 0.0]), splats.quats),
    )


def bake_filter(splats: Splats, size: Tensor) -> Splats:
    """Apply the 3D smoothing filter of Mip-Splatting (Yu et al., CVPR 2024, Eq. 9), which its trainer draws with.

    Args:
        splats: N Gaussians as that trainer stores them.
        size: [N] standard deviation of each one's filter, in scene units.

    Returns:
        what is drawn: larger and fainter; to be drawn antialiased, as that method's second filter does.
    """
    before = (2 * splats.scales).exp()
    after = before + size.float()[:, None] ** 2
    fainter = 0.5 * (before.clamp_min(1e-38).log() - after.clamp_min(1e-38).log()).sum(dim=1)
    opacity = torch.sigmoid(splats.opacities) * fainter.exp()
    return replace(
        splats,
        scales=0.5 * after.clamp_min(1e-38).log(),
        opacities=torch.logit(opacity.clamp(1e-7, 1 - 1e-7)),
        rasterize_mode="antialiased",
    )
