"""Likeness of all Gaussians' features to a few queries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 1 << 12
"""Gaussians at a time: 4096 x 32 floats are 512 KiB, so all that is done to them is done in a core's cache."""


def similarity(features: Tensor, query: Tensor, gate: Tensor | None = None) -> Tensor:
    """Largest cosine of each Gaussian's feature with any query, both under the gate.

    Features are read once, in blocks that stay in the cache: no gated copy of all of them is made.

    Args:
        features: [N, D], ungated, of any length.
        query: [Q, D], ungated.
        gate: [D], or None.

    Returns:
        [N] in [-1, 1]; -1 where there is no query. A zero feature has cosine 0.
    """
    best = features.new_full((len(features),), -1.0)
    if len(query) == 0:
        return best
    gate = features.new_ones(features.shape[1]) if gate is None else gate
    # <g f, g q> / |g f||g q|: the gate of the Gaussian's side moves into the query, that of its length into g^2.
    target = (F.normalize(query * gate, dim=-1) * gate).T.contiguous()
    square = (gate * gate)[:, None].contiguous()
    rows = max(len(features), 1) if features.is_cuda else _ROWS
    squares = features.new_empty(min(rows, len(features)), features.shape[1])
    for start in range(0, len(features), rows):
        block = features[start : start + rows]
        length = torch.mul(block, block, out=squares[: len(block)]).mm(square).clamp_min_(1e-24).rsqrt_()
        torch.mul(block.mm(target).amax(dim=1), length[:, 0], out=best[start : start + rows])
    return best
