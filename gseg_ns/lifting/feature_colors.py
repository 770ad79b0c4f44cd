"""Features of many channels as colors."""

from __future__ import annotations

import torch
from torch import Tensor

_SAMPLES = 20_000
"""Features that the directions are found from; more do not move them."""


@torch.no_grad()
def color_basis(features: Tensor, before: Tensor) -> tuple[Tensor, Tensor] | None:
    """The three directions in which features differ most, scaled such that two standard deviations fill a color.

    Args:
        features: [N, D]; rows of zeros do not count.
        before: [D, 3], the last basis: signs follow it, against flicker.

    Returns:
        mean [D] and basis [D, 3], to be used as (feature - mean) @ basis + 0.5; None for fewer than four features.
    """
    values = features.detach()
    values = values[values.norm(dim=1) > 0]
    if len(values) < 4:
        return None
    values = values[:: max(len(values) // _SAMPLES, 1)].float()
    mean = values.mean(dim=0)
    _, spread, directions = torch.linalg.svd(values - mean, full_matrices=False)
    count = min(3, directions.shape[0])
    basis = torch.zeros_like(before)
    basis[:, :count] = (directions[:count] / (4 * spread[:count, None] / len(values) ** 0.5).clamp_min(1e-8)).T
    flipped = (basis * before).sum(dim=0) < 0
    return mean, torch.where(flipped, -basis, basis)
