"""Instances whose ids carry no meaning: match predicted to ground-truth labels, then score (Gaga, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gseg_ns.evaluation.overlap import IdMaps, Overlaps, count_overlaps

Variant = Literal["paper", "official", "pooled"]

HIT = 0.5
"""A matched pair is correct when its IoU is above this (strictly)."""


@dataclass(frozen=True)
class InstanceScores:
    """Scores of `evaluate_instances`, in percent."""

    iou: float
    """Mean over the ground-truth labels of the IoU with the matched prediction; 0 for labels left without one."""
    precision: float
    """Correct pairs per predicted label; 0 where nothing is predicted."""
    recall: float
    """Correct pairs per ground-truth label."""
    pairs: tuple[tuple[int, int, float], ...]
    """(ground-truth id, predicted id, IoU in percent) of every matched pair with some overlap, by ground-truth id."""
    gt_iou: dict[int, float]
    """IoU in percent of every ground-truth label."""
    num_gt: int
    """Ground-truth labels that occur in these views."""
    num_pred: int
    """Predicted labels that occur in these views."""
    num_views: int
    """Views evaluated."""
    variant: Variant
    """How IoU was averaged over views."""

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall, in percent; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def evaluate_instances(
    pred: IdMaps,
    gt: IdMaps,
    variant: Variant = "paper",
    ignore_gt: Collection[int] | None = None,
    ignore_pred: Collection[int] | None = None,
) -> InstanceScores:
    """Gaga's IoU, precision and recall (arXiv 2404.07977, Algorithm 1).

    IoU(i, j) of a ground-truth and a predicted label is the mean of their IoU over views; labels are matched one to
    one by the linear assignment that maximises the sum; a pair with IoU > 0.5 is correct.

    Variants differ in the views that the mean runs over, and in label 0:

    - `paper`: views where i or j is present. Algorithm 1 writes the mean over all views, but IoU of two empty masks is
      undefined there: as 0 it would deny 100 to a perfect prediction of an object that some view does not show, as 1
      it would let two objects that are both seldom in view pass as one. A prediction pays for views it spills into.
      Label 0 means unlabelled: void in the ground truth, no instance in the prediction.
    - `official`: views where i is present, as the published evaluation script does: spill into views without the
      object is free. Label 0 is an ordinary label on both sides, so an "unlabelled" region is one more instance.
    - `pooled`: no mean over views; IoU over the pixels of all views together, so that large appearances weigh more.
      Unified-Lift (Zhu et al., CVPR 2025) reports `iou` and `f_score` of a linear assignment with the same threshold on
      Replica, and does not say how views are joined; no script was published. Label 0 as in `paper`.

    Args:
        pred: predicted ids, [V, H, W] or a sequence of [H, W]; resized (nearest) to the ground truth where they differ.
        gt: ground-truth ids of the same views, consistent over views, as the predicted ones must be.
        variant: see above.
        ignore_gt: void ground-truth ids, whose pixels are not looked at. None: () for `official`, else (0,).
        ignore_pred: predicted ids that are no instance. None: () for `official`, else (0,).

    Raises:
        ValueError: different numbers of views, no view, or not integer maps.
    """
    by_variant: Collection[int] = () if variant == "official" else (0,)
    overlaps = count_overlaps(
        pred,
        gt,
        by_variant if ignore_gt is None else ignore_gt,
        by_variant if ignore_pred is None else ignore_pred,
    )
    iou = pooled_iou(overlaps) if variant == "pooled" else mean_view_iou(overlaps, variant)
    return score_matching(overlaps, iou, variant)


def mean_view_iou(overlaps: Overlaps, variant: Variant = "paper") -> Tensor:
    """IoU of every pair of labels, averaged over views as `evaluate_instances` says.

    Returns:
        float64 [G, P] in 0..1; 0 where no view counts.
    """
    shape = (len(overlaps.gt_ids), len(overlaps.pred_ids))
    total = torch.zeros(shape, dtype=torch.float64)
    views = torch.zeros(shape, dtype=torch.float64)
    for index in range(len(overlaps)):
        table = overlaps.view(index)
        shared = table[:, :-1]
        gt_area = table.sum(dim=1)
        union = gt_area[:, None] + shared.sum(dim=0)[None] - shared
        total += shared / union.clamp(min=1)
        views += union > 0 if variant == "paper" else (gt_area > 0)[:, None]
    return total / views.clamp(min=1)


def pooled_iou(overlaps: Overlaps) -> Tensor:
    """IoU of every pair of labels over the pixels of all views together, float64 [G, P] in 0..1."""
    table = overlaps.total()
    shared = table[:, :-1]
    union = table.sum(dim=1, keepdim=True) + shared.sum(dim=0, keepdim=True) - shared
    return shared / union.clamp(min=1).to(torch.float64)


def assign(iou: Tensor) -> tuple[Tensor, Tensor]:
    """One-to-one assignment of rows to columns that maximises the sum of `iou` [G, P].

    Returns:
        row and column indices of min(G, P) pairs, int64, rows ascending.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(iou.numpy(), maximize=True)
    return torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(columns.astype(np.int64))


def score_matching(overlaps: Overlaps, iou: Tensor, variant: Variant) -> InstanceScores:
    """Match labels by `iou` [G, P] (0..1) and score the pairs."""
    rows, columns = assign(iou)
    matched = iou[rows, columns]
    gt_iou = torch.zeros(len(overlaps.gt_ids), dtype=torch.float64)
    gt_iou[rows] = matched
    hits = int((matched > HIT).sum())
    num_gt, num_pred = len(overlaps.gt_ids), len(overlaps.pred_ids)
    return InstanceScores(
        iou=100 * float(gt_iou.mean()) if num_gt else 0.0,
        precision=100 * hits / num_pred if num_pred else 0.0,
        recall=100 * hits / num_gt if num_gt else 0.0,
        pairs=tuple(
            (int(overlaps.gt_ids[r]), int(overlaps.pred_ids[c]), 100 * float(value))
            for r, c, value in zip(rows, columns, matched, strict=True)
            if value > 0
        ),
        gt_iou={int(i): 100 * float(value) for i, value in zip(overlaps.gt_ids, gt_iou, strict=True)},
        num_gt=num_gt,
        num_pred=num_pred,
        num_views=len(overlaps),
        variant=variant,
    )
