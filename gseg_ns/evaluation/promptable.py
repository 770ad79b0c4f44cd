"""One object, one mask a view: IoU and accuracy of promptable segmentation, and LERF-Mask's per-prompt means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from gseg_ns.evaluation.boundary import BOUNDARY_RATIO, boundary_iou, iou_percent
from gseg_ns.evaluation.overlap import as_ids, resize_nearest

Mask = Tensor | np.ndarray[Any, Any]


@dataclass(frozen=True)
class MaskScores:
    """Scores of one object over views, in percent."""

    iou: float
    """Mean over views of TP / (TP + FP + FN); NaN where no view shows or claims the object."""
    accuracy: float
    """Mean over views of (TP + TN) / pixels."""
    boundary_iou: float
    """Mean over views of the boundary IoU; NaN like `iou`."""
    view_iou: tuple[float, ...]
    """IoU of each view, in the order given; NaN where both masks are empty."""


def evaluate_masks(pred: Sequence[Mask], gt: Sequence[Mask], ratio: float = BOUNDARY_RATIO) -> MaskScores:
    """IoU and accuracy of promptable segmentation, as on NVOS and SPIn-NeRF; mIoU and mAcc are means over scenes.

    Views where prediction and ground truth are both empty leave IoU undefined and do not count in it; they count as
    right in the accuracy. A view where only one is empty counts 0.

    Args:
        pred: one mask [H, W] a view, bool or integer (0 = outside); resized (nearest) to the ground truth.
        gt: the true masks of the same views.
        ratio: boundary width as a share of the diagonal.

    Raises:
        ValueError: no view, or different numbers of them.
    """
    if len(pred) != len(gt) or len(gt) == 0:
        raise ValueError(f"{len(pred)} predicted masks for {len(gt)} of ground truth")
    ious, accuracies, boundaries = [], [], []
    for pred_mask, gt_mask in zip(pred, gt, strict=True):
        g = as_ids(gt_mask) != 0
        p = resize_nearest(as_ids(pred_mask).to(g.device), *g.shape) != 0
        ious.append(iou_percent(p, g))
        accuracies.append(100 * float((p == g).double().mean()))
        boundaries.append(boundary_iou(p, g, ratio))
    return MaskScores(_mean(ious), _mean(accuracies), _mean(boundaries), tuple(ious))


@dataclass(frozen=True)
class PromptScores:
    """LERF-Mask scores of one scene, in percent."""

    miou: float
    """Mean over prompts of the mean IoU over views."""
    mbiou: float
    """The same of boundary IoU."""
    prompts: dict[str, tuple[float, float]]
    """Prompt -> (IoU, boundary IoU), means over views."""
    missing: tuple[tuple[str, str], ...]
    """(view, prompt) pairs with ground truth but no prediction."""


def lerf_mask_scores(
    pred: Mapping[tuple[str, str], Mask],
    gt: Mapping[tuple[str, str], Mask],
    missing: Literal["zero", "skip"] = "zero",
    ratio: float = BOUNDARY_RATIO,
) -> PromptScores:
    """MIoU and mBIoU of LERF-Mask (Gaussian Grouping, arXiv 2312.00732, and its evaluation script).

    The mean runs over views for each prompt, then over prompts; a table's number is the plain mean over scenes.

    Args:
        pred: (view, prompt) -> mask [H, W]; resized (nearest) to the ground truth.
        gt: (view, prompt) -> mask [H, W]. Only these pairs are scored.
        missing: what a pair without prediction counts: `zero`, or `skip` as the official script does, which raises
            the score of a method that answers less. Report both. A prompt without any prediction is left out by `skip`.
        ratio: boundary width as a share of the diagonal.

    Returns:
        Scores; a pair whose two masks are both empty is undefined and left out (the official script turns the whole
        mean into NaN there). 0 where nothing is left.

    Raises:
        ValueError: no ground truth.
    """
    if not gt:
        raise ValueError("no ground-truth mask")
    values: dict[str, list[tuple[float, float]]] = {}
    absent = []
    for (view, prompt), gt_mask in gt.items():
        if (view, prompt) not in pred:
            absent.append((view, prompt))
            if missing == "zero":
                values.setdefault(prompt, []).append((0.0, 0.0))
            continue
        g = as_ids(gt_mask) != 0
        p = resize_nearest(as_ids(pred[view, prompt]).to(g.device), *g.shape) != 0
        if bool((p | g).any()):
            values.setdefault(prompt, []).append((iou_percent(p, g), boundary_iou(p, g, ratio)))
    prompts = {
        prompt: (_mean([iou for iou, _ in pairs]), _mean([biou for _, biou in pairs]))
        for prompt, pairs in sorted(values.items())
    }
    return PromptScores(
        miou=_mean([iou for iou, _ in prompts.values()]) if prompts else 0.0,
        mbiou=_mean([biou for _, biou in prompts.values()]) if prompts else 0.0,
        prompts=prompts,
        missing=tuple(absent),
    )


def _mean(values: Sequence[float]) -> float:
    """Mean of the defined values; NaN where there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")
