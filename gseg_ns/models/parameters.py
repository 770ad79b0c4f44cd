"""Splatfacto's own per-Gaussian parameters as plain Gaussians, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from gseg_ns.models.splatfacto import RGB2SH, SH2RGB
from gseg_ns.splats import Splats

GEOMETRY = ("means", "scales", "quats", "features_dc", "features_rest", "opacities")
"""Names of the parameters."""


def to_parameters(splats: Splats, sh_degree: int) -> dict[str, Tensor]:
    """The values that Splatfacto trains.

    Args:
        splats: N Gaussians; spherical harmonics are padded or cut to the degree.
        sh_degree: of the model's config. At 0 Splatfacto stores the logits of colors in place of harmonics.

    Returns:
        `GEOMETRY` -> [N, ...].
    """
    splats = splats.with_sh_degree(sh_degree)
    dc = splats.sh[:, 0]
    return {
        "means": splats.means,
        "scales": splats.scales,
        "quats": splats.quats,
        "features_dc": dc if sh_degree > 0 else torch.logit(SH2RGB(dc), eps=1e-6),
        "features_rest": splats.sh[:, 1:],
        "opacities": splats.opacities[:, None],
    }


def from_parameters(
    parameters: Mapping[str, Tensor], rasterize_mode: Literal["classic", "antialiased"] = "classic"
) -> Splats:
    """The Gaussians that Splatfacto's parameters mean, detached.

    Args:
        parameters: `GEOMETRY` -> [N, ...], and others, which are left out.
        rasterize_mode: of the model's config.
    """
    means, scales, quats, dc, rest, opacities = (parameters[name].detach() for name in GEOMETRY)
    if rest.shape[1] == 0:
        dc = RGB2SH(torch.sigmoid(dc))
    return Splats(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities.squeeze(-1),
        sh=torch.cat([dc[:, None], rest], dim=1),
        rasterize_mode=rasterize_mode,
    )
