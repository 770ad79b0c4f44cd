"""The scores of one cell: one set of numbers for every method and every baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gseg_ns.evaluation.boundary import mean_boundary_iou
from gseg_ns.evaluation.matching import evaluate_instances
from gseg_ns.evaluation.overlap import resize_nearest
from gseg_ns.evaluation.panoptic import instance_panoptic_quality


def score_labels(predicted: Sequence[Tensor], truth: Sequence[Tensor]) -> dict[str, Any]:
    """Score label maps whose ids carry no meaning.

    Args:
        predicted: [H, W] int of each view, consistent over views, 0 = none.
        truth: ground truth alike.

    Returns:
        in percent: `iou`, `precision`, `recall` (Gaga's Algorithm 1), `pq` (scene-level, one class), `mbiou` (boundary
        IoU of matched pairs, 2 % of the diagonal), `pooled_iou` and `f_score` (Unified-Lift's: pixels of all views
        together); and `num_gt`, `num_pred`, `num_views`.
    """
    maps = [resize_nearest(p, *g.shape) for p, g in zip(predicted, truth, strict=True)]
    scores = evaluate_instances(maps, truth)
    pooled = evaluate_instances(maps, truth, variant="pooled")
    return {
        "iou": scores.iou,
        "precision": scores.precision,
        "recall": scores.recall,
        "pq": instance_panoptic_quality(maps, truth).pq,
        "mbiou": mean_boundary_iou(maps, truth, {gt: pred for gt, pred, _ in scores.pairs}),
        "pooled_iou": pooled.iou,
        "f_score": pooled.f_score,
        "num_gt": scores.num_gt,
        "num_pred": scores.num_pred,
        "num_views": scores.num_views,
    }
