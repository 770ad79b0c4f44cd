"""Decisions about many rows at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SCORES = 1 << 24
"""Scores held at once (64 MiB)."""


def decide(choose: Callable[[Tensor], Tensor], features: Tensor, width: int) -> Tensor:
    """Decide about each row of `features` [..., D], some rows at a time.

    Args:
        choose: [R, D] to [R] int64; holds a table of `width` scores a row while it does.
        features: of pixels or Gaussians.
        width: number of classes.

    Returns:
        [...] int64.
    """
    rows = features.reshape(-1, features.shape[-1])
    found = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    step = max(SCORES // max(width, 1), 1)
    for start in range(0, len(rows), step):
        found[start : start + step] = choose(rows[start : start + step])
    return found.view(features.shape[:-1])
