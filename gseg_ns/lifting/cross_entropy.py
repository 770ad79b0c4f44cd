"""Cross entropies of linear scores, in bounded memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gseg_ns.lifting.blocks import SCORES
from gseg_ns.rendering import threads

TOGETHER = 1 << 17
"""Scores held at once on each core (512 KiB), so that they stay in its cache."""

PARTS = 64
"""Partial sums on the CPU: for cores to take."""


def rows_together(classes: int, on_cpu: bool) -> int:
    """Rows whose scores of so many classes are held at once."""
    return max((TOGETHER if on_cpu else SCORES) // max(classes, 1), 64)


def cross_entropies(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The sum over rows of the cross entropy of their scores, features @ weight.T + bias.

    The scores of an image for 256 classes are 200 MB, and autograd would keep several tables of that size; here they
    are made some rows at a time, and gradients are taken with them.

    Args:
        features: [P, D].
        weight: [C, D], C > 0.
        bias: [C].
        targets: [P] int64, the class of each row; -1: does not count.

    Returns:
        [], with gradients to features, weight and bias. Nothing depends on the number of threads.
    """
    # In single precision whatever the step is trained in: scores are exponentiated.
    with torch.autocast(features.device.type, enabled=False):
        return cast(Tensor, _SumOfCrossEntropies.apply(features.to(weight.dtype), weight, bias, targets))


class _SumOfCrossEntropies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """Features [P, D], weight [C, D] and bias [C] of the scores, targets [P] int64 (-1: does not count) -> []."""
        features, weight, bias = features.detach(), weight.detach(), bias.detach()
        on_cpu = features.device.type == "cpu"
        step = rows_together(len(weight), on_cpu)
        # Partial sums do not depend on which thread takes them.
        parts = max(min(PARTS if on_cpu else 1, -(-len(features) // step)), 1)
        losses, by_feature = features.new_zeros(parts), torch.empty_like(features)
        by_weight, by_bias = weight.new_zeros(parts, *weight.shape), bias.new_zeros(parts, *bias.shape)

        def add(first: int, last: int) -> None:
            for part in range(first, last):
                end = (part + 1) * len(features) // parts
                for begin in range(part * len(features) // parts, end, step):
                    rows = slice(begin, min(begin + step, end))
                    loss, slopes = _cross_entropies(features[rows], weight, bias, targets[rows])
                    losses[part] += loss
                    torch.mm(slopes.T, weight, out=by_feature[rows])
                    by_weight[part].addmm_(slopes, features[rows])
                    by_bias[part] += slopes.sum(dim=1)

        if on_cpu:
            threads.share(add, parts)
        else:
            add(0, parts)
        ctx.save_for_backward(by_feature, by_weight.sum(dim=0), by_bias.sum(dim=0))
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Of features, weight and bias."""
        return *(slope * gradient for gradient in ctx.saved_tensors), None


@torch.no_grad()
def _cross_entropies(rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the cross entropies of some rows [R, D], and its gradient by their scores, [C, R]: sums over classes
    then run along the rows, of which the CPU takes several at once.
    """
    counts, targets = (targets >= 0).to(rows.dtype), targets.clamp_min(0)[None]
    scores = torch.addmm(bias[:, None], weight, rows.T)
    scores -= scores.amax(dim=0)
    score = scores.gather(0, targets)[0]
    total = scores.exp_().sum(dim=0)
    scores *= counts / total
    scores.scatter_add_(0, targets, -counts[None])
    return ((total.log() - score) * counts).sum(), scores
