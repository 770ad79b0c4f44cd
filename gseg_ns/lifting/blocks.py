"""Decisions about many rows at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import scores

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


@torch.no_grad()
def highest_score(features: Tensor, weights: Tensor, biases: Tensor | None = None) -> Tensor:
    """Decide for each row the class of the highest score weights @ row + bias; the first of equals.

    On the CPU rows that follow each other, as the pixels of an image do, share what rules classes out: a thousand
    classes cost hardly more than ten. Scores that differ by their rounding may be decided either way.

    Args:
        features: [..., D] of pixels or Gaussians.
        weights: [C, D], C > 0.
        biases: [C]; None: zeros.

    Returns:
        [...] int64.
    """
    biases = weights.new_zeros(len(weights)) if biases is None else biases
    if features.is_cuda:
        return decide(lambda rows: torch.addmm(biases, rows, weights.T).argmax(dim=-1), features, len(weights))
    rows = features.detach().reshape(-1, features.shape[-1]).float().contiguous()
    found = torch.empty(len(rows), dtype=torch.long)
    threads.share(
        scores.highest, -(-len(rows) // scores.TOGETHER), rows.numpy(),
        weights.detach().T.float().contiguous().numpy(), biases.detach().float().contiguous().numpy(),
        weights.detach().float().norm(dim=1).numpy(), found.numpy(), grain=64,
    )  # fmt: skip
    return found.view(features.shape[:-1])
