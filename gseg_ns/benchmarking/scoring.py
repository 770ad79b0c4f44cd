"""The scores of one cell: one set of numbers for every method and every baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.boundary import mean_boundary_iou
from gseg_ns.evaluation.folders import id_files, read_ids
from gseg_ns.evaluation.matching import evaluate_instances
from gseg_ns.evaluation.overlap import resize_nearest
from gseg_ns.evaluation.panoptic import instance_panoptic_quality

if TYPE_CHECKING:
    from gseg_ns.benchmarking.clicks import ClickProtocol


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


def score_run(
    config_path: Path,
    ground_truth: Path,
    scale: float | None = None,
    clicks: Sequence[Path] = (),
    protocol: ClickProtocol | None = None,
) -> dict[str, Any]:
    """Score the test views of a run.

    Args:
        config_path: of the run.
        ground_truth: folder of label maps named as the images.
        scale: of methods with scales, in [0, 1]; None: the method's default.
        clicks: folders of ground truth whose objects are clicked on.
        protocol: of the clicks.

    Returns:
        `score_labels`, `click_scores`, and `psnr` (dB), `num_gaussians`.

    Raises:
        GsegError: the run cannot be loaded, or no test view has ground truth.
    """
    from gseg_ns.benchmarking.clicks import click_scores
    from gseg_ns.evaluation.quality import psnr
    from gseg_ns.models.runs import load_run

    files = id_files(ground_truth)
    run = load_run(config_path)
    predicted, truth, ratios = [], [], []
    for stem, camera, image in run.views("test"):
        if stem not in files:
            continue
        predicted.append(run.model.label_image(camera, scale).cpu())
        truth.append(read_ids(files[stem]))
        rgb = run.model.get_outputs_for_camera(camera)["rgb"].cpu()
        ratios.append(psnr(rgb, image[..., :3].cpu()))
    if not predicted:
        raise GsegError(f"{ground_truth} has no label map for any test view of {config_path}: names must match")
    ratio = math.fsum(ratios) / len(ratios)
    clicked = click_scores(run, clicks, protocol)
    return {**score_labels(predicted, truth), **clicked, "psnr": ratio, "num_gaussians": run.model.num_points}
