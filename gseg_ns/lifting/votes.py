"""The closed-form lift: rendering is linear in labels, so summed contributions decide each Gaussian's label.

For pixel p and Gaussian i, w_ip = alpha_i T_i. The vote of label k for Gaussian i is the sum of w_ip over the pixels
with that label in all views; its argmax is the optimal assignment of FlashSplat's (ECCV 2024) linear program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from gseg_ns.rendering import vote


def accumulate_votes(
    views: Iterable[tuple[dict[str, Any], Tensor]],
    num_gaussians: int,
    num_labels: int,
    device: torch.device | str = "cpu",
    progress: Callable[[], None] = lambda: None,
) -> Tensor:
    """Sum the contributions of every Gaussian to every label over the views.

    Args:
        views: per view the projection `meta` of `gseg_ns.rendering.project` and its label map [H, W] int.
        num_gaussians: N.
        num_labels: K, one more than the largest label.
        device: where the sum is kept.
        progress: called after each view.

    Returns:
        votes [N, K] float32; column 0 is what unlabelled pixels gave.
    """
    votes = torch.zeros((num_gaussians, num_labels), device=device)
    for meta, labels in views:
        votes += vote(meta, labels, num_labels)
        progress()
    return votes


def labels_from_votes(votes: Tensor, count_unlabelled: bool = False) -> Tensor:
    """Decide each Gaussian's label.

    Args:
        votes: [N, K] summed contributions.
        count_unlabelled: let label 0 win where most of a Gaussian lies in unlabelled pixels.

    Returns:
        labels [N] int64; 0 for Gaussians that no labelled pixel saw.
    """
    if count_unlabelled:
        return votes.argmax(dim=1)
    best, label = votes[:, 1:].max(dim=1) if votes.shape[1] > 1 else (votes[:, 0] * 0, votes[:, 0].long() * 0)
    return torch.where(best > 0, label + 1, 0)
