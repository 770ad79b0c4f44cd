"""Strengths: how loud each Gaussian is in label images, fitted to the masks on frozen geometry.

A label image is the argmax of the summed weights of each label's Gaussians, where by the closed-form vote every
Gaussian is equally loud. The tails of soft silhouettes then win or lose pixels that better votes cannot mend. One
number a Gaussian, its strength x > 0 on its voted label, can: label image = argmax of sum w_i x_i onehot(label_i). It
changes neither the picture nor which object a Gaussian is in.

Masks are wrong most at borders, which is where strengths act, so the loss is a robust one, and views that took no part
in a fit say how many steps it may take, and how far it may be followed. What is taken is the mean of several fits, each
of which leaves out other views and draws other pixels (as in Breiman, Bagging predictors, 1996): what they learn of the
errors of single masks differs, and in part goes out.

Where there are photographs, masks whose borders are moved to those of color (`gseg_ns.rendering.snapping`) are tried,
too. The held-out views' own masks say which of the two are learned from: they are not moved.

Strengths move borders and make nothing new: a label that a view does not show by the vote, it does not show by
strengths (`label_image`). Half a pixel of a ceiling at the upper edge of a picture is no ceiling in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import OptionError
from gseg_ns.lifting.identity import SHARPNESS, SILENT
from gseg_ns.lifting.mixed_pixels import Rows, drawn, gather
from gseg_ns.rendering import composite, contested_labels, dominant_labels, threads
from gseg_ns.rendering.kernels import strengths as kernels

ROWS = 2048
"""Pixels of a step. Of the mixed pixels, that is about what 8192 of all pixels hold; more of them in a step follow the
masks' errors further (small room, hard masks: boundary IoU 91.0 with 1500, 90.6 with 8192 uniform ones)."""

FLOOR = 0.02
"""No Gaussian is silent: where nothing else shows, its label does."""

PARTS = 4
"""Parts of a step whose gradients are added in order, whatever the number of threads: the same on any machine."""

FOLLOW = 8
"""A fit that is contradicted is followed in eighths."""

LENGTHS = (8, 4, 2, 1)
"""Fits of these parts of the steps are tried, short ones first."""

WORTH = 0.002
"""A longer fit has to take at least this part more away from what held-out views contradicted at first. More steps on
ragged masks learn the masks' own errors, which all views share in part: their gain on held-out views gets small before
it is a loss (medium room, splats of 3000 steps, two folds of three seeds, from half to all steps: mild masks 0.2 to 0.8
%, hard ones -0.5 to 0.6, mean -0.1)."""

HELD_PIXELS = 200_000
"""Pixels of the held-out views that are compared: the error of their mean is below a thousandth."""


@dataclass(frozen=True)
class StrengthOptions:
    """How strengths are fitted."""

    steps: int = 880
    """Steps of a fit at most: an eighth, a quarter, half or all of them, as held-out views agree"""
    rate: float = 0.1
    """Adam's rate, which falls to a tenth"""
    robust: float = 0.7
    """q of the generalised cross entropy (Zhang and Sabuncu 2018): 0 is the plain one, which follows wrong masks"""
    held_out: int = 5
    """n: each of n fits, whose mean is taken, leaves out other views, every nth; those that the first leaves out say
    how many steps fits take and how far they are followed"""
    snapped: bool = True
    """Learn from masks whose borders are moved to borders of color in the photographs, where held-out views agree"""
    max_bytes: float = 7e8
    """Memory of the pixels' weights; beyond it fewer pixels of each view take part"""
    seed: int = 0
    """Of the pixels drawn"""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.held_out < 2:
            raise OptionError(f"steps is {self.steps} and held_out {self.held_out}: give at least 0 and 2")
        if not (self.rate > 0 and self.robust >= 0 and self.max_bytes > 0):
            raise OptionError("rate and max_bytes of strengths have to be above 0, and robust not below")


class Strengths(NamedTuple):
    """What `fit_strengths` found."""

    values: Tensor  # [N] float32
    """1 for Gaussians that no mixed pixel shows."""
    followed: float
    """How far the fit was followed, in 0..1; 0: not at all, values are 1."""
    steps: int
    """Steps of it."""
    before: float
    """Error of the held-out views, in 0..1, with all strengths 1."""
    after: float
    """The same, of one fit, of the other views, of as many steps and as far as it is followed."""
    snapped: bool = False
    """Whether it is a fit to masks whose borders were moved to those of color."""


@torch.no_grad()
def fit_strengths(
    labels: Tensor,
    count: int,
    ask: Callable[[int], tuple[dict[str, Any], Tensor]],
    options: StrengthOptions | None = None,
    photograph: Callable[[int, int, int], Tensor | None] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Strengths:
    """Fit the strength of each Gaussian.

    Every view is projected once; memory is bounded by `max_bytes`. On the CPU the same for a seed, whatever the
    threads; on a GPU gradients are added up in no fixed order.

    Args:
        labels: [N] int, the label of each Gaussian, 0 = none.
        count: number of views.
        ask: the projection (`gseg_ns.rendering.project`) of a view, and its label map [H, W] in the numbers of
            `labels`, 0 = unlabelled.
        options: of the fit.
        photograph: that of a view at a height and width, [H, W, 3] as `gseg_ns.rendering.snapping.snap_labels` takes
            it; None where it has none.
        progress: called after each view.
    """
    options = options or StrengthOptions()
    ones = torch.ones(len(labels), device=labels.device)
    num_labels = int(labels.max()) + 1 if len(labels) else 1
    if num_labels < 3 or count < 2 or options.steps == 0:  # nothing to choose between, or nobody to ask
        return Strengths(ones, 0.0, 0, 0.0, 0.0)
    gathered = gather(
        labels, num_labels, count, ask, photograph if options.snapped else None, options.max_bytes, options.seed,
        progress,
    )  # fmt: skip
    rows, spans = gathered.rows, gathered.spans
    fold = np.arange(count) % min(options.held_out, count)
    learned, held = int(np.diff(spans[fold != 0]).sum()), int(np.diff(spans[fold == 0]).sum())
    if learned == 0 or held == 0:
        return Strengths(ones, 0.0, 0, 0.0, 0.0)
    compared = drawn(spans[fold == 0], 0, min(HELD_PIXELS, held))
    before = disagreement(rows, compared, labels, ones, num_labels)

    learned_from = rows

    def fit(left_out: int, steps: int) -> Tensor:
        return _fit(learned_from, spans[fold != left_out], left_out, labels, num_labels, options, steps)

    def wrong(values: Tensor) -> float:
        return disagreement(rows, compared, labels, values, num_labels)

    def mean_of_fits(first: Tensor, steps: int) -> Tensor:
        others = range(1, int(fold.max()) + 1)
        return sum((fit(left_out, steps) for left_out in others), first) / (len(others) + 1)

    lengths = [max(options.steps // part, 1) for part in LENGTHS]
    shortest = fit(0, lengths[0])
    if gathered.snapped is not None:
        learned_from = rows.saying(gathered.snapped)
        alternative = fit(0, lengths[0])
        if wrong(alternative) < wrong(shortest):
            shortest = alternative
        else:
            learned_from = rows
    snapped = learned_from is not rows
    steps, reached, best = 0, before, ones
    for length in lengths:
        first = shortest if length == lengths[0] else fit(0, length)
        after = wrong(first)
        if reached - after >= WORTH * before:
            steps, reached, best = length, after, first
    if steps:
        return Strengths(mean_of_fits(best, steps), 1.0, steps, before, reached, snapped)
    # Masks that are wrong in the same way in all views cannot be told from right ones, and a fit that held-out views
    # contradict has learned errors of single views: the longer it is, the more. What these do not contradict still
    # mends the tails.
    for eighths in range(FOLLOW, 0, -1):
        followed = eighths / FOLLOW
        after = wrong(1 + followed * (shortest - 1))
        if after <= before:
            values = 1 + followed * (mean_of_fits(shortest, lengths[0]) - 1)
            return Strengths(values, followed, lengths[0], before, after, snapped)
    return Strengths(ones, 0.0, 0, before, before)


@torch.no_grad()
def label_image(meta: dict[str, Any], labels: Tensor, strengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The label that weighs most at each pixel, by strengths where the vote shows it in the view at all.

    Args:
        meta: projection of the view, of N Gaussians and one camera.
        labels: [N] integer, 0 = none, which is never an answer.
        strengths: [N] how loud each is; None: all alike.

    Returns:
        labels [H, W] int64, and their summed weights without strengths [H, W].
    """
    if strengths is None:
        return dominant_labels(meta, labels)
    answers, weights, plain = contested_labels(meta, labels, strengths)
    new = ~torch.isin(answers, plain.unique())
    if not bool(new.any()):
        return answers, weights
    voted = dominant_labels(meta, labels)[1]  # seldom, and then once
    return torch.where(new, plain, answers), torch.where(new, voted, weights)


@torch.no_grad()
def silhouettes(meta: dict[str, Any], selections: Tensor, strengths: Tensor | None = None) -> Tensor:
    """Where each of some selections is most of what a view shows, with the borders that label images have.

    A selection weighs against all else, each Gaussian as loud as it is, and empty space: as in `label_image`, strengths
    move its borders, and show none that the view does not show by weights alone.

    Args:
        meta: projection of the view, of N Gaussians and one camera.
        selections: bool [N, K].
        strengths: [N] how loud each Gaussian is; None: all alike.

    Returns:
        bool [H, W, K].
    """
    chosen = selections.float()
    shown = composite(meta, chosen) > 0.5
    if strengths is None:
        return shown
    loud = composite(meta, chosen * strengths[:, None])
    every, alpha = composite(meta, torch.stack([strengths, torch.ones_like(strengths)], dim=1)).split(1, dim=-1)
    return (loud > every - loud + 1 - alpha) & shown.any(dim=0).any(dim=0)


def _fit(
    rows: Rows, spans: np.ndarray, turn: int, labels: Tensor, num_labels: int, options: StrengthOptions, steps: int
) -> Tensor:
    """Strengths [N] that some views ask for: Adam, from 1, in `steps`, by pixels that earlier turns did not draw."""
    values = torch.ones(len(labels), device=labels.device)
    mean, square = torch.zeros_like(values), torch.zeros_like(values)
    numbers = labels.int()
    size = min(ROWS, int(np.diff(spans).sum()))
    parts = None if values.is_cuda else torch.zeros(PARTS, len(values))
    for step in range(1, steps + 1):
        chosen = drawn(spans, (turn * steps + step - 1) * size, size)
        if len(chosen) == 0:
            continue
        rate = options.rate * 0.1 ** (step / steps) / (1 - 0.9**step)
        correction = 1 - 0.999**step
        if parts is not None:
            _add_gradient(rows, chosen, values, num_labels, options.robust, parts)
            threads.share(
                kernels.adam_step, len(values), parts.numpy(), len(chosen), mean.numpy(), square.numpy(),
                values.numpy(), rate, correction, FLOOR, grain=1 << 16,
            )  # fmt: skip
            continue
        gradient = strength_gradient(rows, chosen, numbers, values, num_labels, options.robust)
        mean.lerp_(gradient, 0.1)
        square.lerp_(gradient.square(), 0.001)
        values.sub_(rate * mean / ((square / correction).sqrt_() + 1e-15)).clamp_(min=FLOOR)
    return values


def strength_gradient(
    rows: Rows, chosen: Tensor, labels: Tensor, values: Tensor, num_labels: int, robust: float
) -> Tensor:
    """Gradient of the mean generalised cross entropy of some rows, (1 - p^q) / q of the target's p, by strengths.

    p is the softmax of `SHARPNESS` times the label sums, over the labels from 1 on.

    Args:
        rows: the pixels; on the CPU as `by_label` has left them.
        chosen: [B] int64 on the CPU, which of them.
        labels: [N] int, label of each Gaussian.
        values: [N] strengths.
        num_labels: K, 0 included.
        robust: q; 0 for the cross entropy.

    Returns:
        [N].
    """
    if values.is_cuda:
        scores, row, name, col, val = _scores(rows, chosen, labels, values, num_labels)
        target = rows.targets[chosen.to(values.device)].long() - 1
        p = (SHARPNESS * scores[:, 1:]).softmax(dim=1)
        truth = p.gather(1, target[:, None])
        slope = torch.zeros_like(scores)
        slope[:, 1:] = SHARPNESS / len(chosen) * truth**robust * p
        slope.scatter_add_(1, target[:, None] + 1, -SHARPNESS / len(chosen) * truth**robust)
        return torch.zeros_like(values).index_add_(0, col, val * slope[row, name] * (name > 0))
    parts = torch.zeros(PARTS, len(values), dtype=values.dtype)
    _add_gradient(rows, chosen, values, num_labels, robust, parts)
    return parts.sum(dim=0).div_(len(chosen))


def _add_gradient(rows: Rows, chosen: Tensor, values: Tensor, num_labels: int, robust: float, parts: Tensor) -> None:
    """Add the sums over rows that `strength_gradient` is the mean of to `parts` [PARTS, N], on the CPU."""
    assert rows.runs is not None
    threads.share(
        kernels.agreement_gradient, PARTS, chosen.numpy(), rows.crow.numpy(), rows.col.numpy(), rows.val.numpy(),
        *(part.numpy() for part in rows.runs), rows.targets.numpy(), values.numpy(), num_labels, SHARPNESS, robust,
        parts.numpy(),
    )  # fmt: skip


def _scores(
    rows: Rows, chosen: Tensor, labels: Tensor, values: Tensor, num_labels: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Label sums [B, K] of some rows; and of each of their weights the row, label, Gaussian, and weight."""
    chosen = chosen.to(values.device)
    lengths = rows.crow.diff()[chosen]
    row = torch.repeat_interleave(torch.arange(len(chosen), device=values.device), lengths)
    pick = torch.arange(len(row), device=values.device) - (lengths.cumsum(0) - lengths)[row] + rows.crow[chosen][row]
    col, val = rows.col[pick].long(), rows.val[pick]
    name = labels[col].long()
    scores = values.new_zeros(len(chosen) * num_labels)
    scores.index_add_(0, row * num_labels + name, val * values[col])
    return scores.view(-1, num_labels), row, name, col, val


def disagreement(rows: Rows, chosen: Tensor, labels: Tensor, values: Tensor, num_labels: int) -> float:
    """The mean of 1 - p of the target's p over some rows: what a soft label image gets wrong, in 0..1.

    Bounded, so that a mask that is plainly wrong does not outweigh a thousand borders, and smooth, so that borders
    count before they cross the middle of a pixel.
    """
    if rows.runs is not None:
        wrong = np.empty(len(chosen))
        threads.share(
            kernels.disagreement, len(chosen), chosen.numpy(), rows.crow.numpy(), rows.col.numpy(), rows.val.numpy(),
            *(part.numpy() for part in rows.runs), rows.targets.numpy(), values.numpy(), num_labels, SHARPNESS, wrong,
            grain=1 << 10,
        )  # fmt: skip
        return float(wrong.mean()) if len(wrong) else 0.0
    total = 0.0
    # A table of as many label sums at a time as a step's pixels have in a scene of thousands of groups.
    for part in chosen.split(max((1 << 23) // num_labels, 1)):
        scores = _scores(rows, part, labels, values, num_labels)[0]
        p = (SHARPNESS * scores[:, 1:]).softmax(dim=1)
        target = rows.targets[part.to(values.device)].long() - 1
        total += float((1 - p.gather(1, target[:, None])).double().sum())
    return total / max(len(chosen), 1)


def label_under(
    rows: Tensor,
    weights: Tensor,
    labels: Tensor,
    loud: Tensor | None = None,
    in_view: Callable[[Tensor], Tensor] | None = None,
) -> int:
    """The label that a pixel shows, as in `label_image`; 0 = none.

    Args:
        rows: the Gaussians [K] that add to it, -1 for what is not of these,
        weights: and how much [K].
        labels: of all Gaussians [N].
        loud: how loud each is [N]; None: all alike.
        in_view: labels of all Gaussians [N] -> those that the whole view shows by their weights alone; None where there
            is no view.
    """
    groups = torch.where(rows >= 0, labels[rows.clamp_min(0)], 0)
    factors = 1 if loud is None else loud[rows.clamp_min(0)]
    sums = torch.zeros((2, int(groups.max()) + 1 if len(groups) else 1), device=groups.device)
    sums.index_add_(1, groups, torch.stack([weights.float() * factors, weights.float()]))
    sums[:, 0] = -1  # none is no answer
    best, voted = sums.argmax(dim=1).tolist()
    # Seldom do the two differ, and then the view says whether it shows the louder one at all.
    if best != voted and in_view is not None and not bool((in_view(labels) == best).any()):
        best = voted
    # The weight that must show is without loudness.
    return best if best and float(sums[1, best]) >= SILENT else 0
