"""Score the label images of a run's held-out views against ground truth (Gaga, Algorithm 1)."""

from __future__ import annotations

from pathlib import Path

import tyro

from gseg_ns.evaluation import evaluate_instances
from gseg_ns.runs import load_run


def main(config: Path, ground_truth: Path) -> float:
    """Print IoU, precision and recall, and the IoU of each object.

    Args:
        config: `config.yml` of a run.
        ground_truth: folder of label maps named after the images, with ids that agree over the views.

    Returns:
        IoU in percent.
    """
    run = load_run(config)
    # Undistorted as the photographs are, where a lens distorts.
    views, truth = zip(*run.truth(ground_truth, "test"), strict=True)  # int64 [H, W] each
    predicted = [run.model.label_image(view.camera).cpu() for view in views]
    scores = evaluate_instances(predicted, truth)
    print(f"IoU {scores.iou:.1f}, precision {scores.precision:.1f}, recall {scores.recall:.1f} on {len(views)} views")
    for label, iou in scores.gt_iou.items():
        print(f"  object {label}: {iou:.1f}")
    return scores.iou


if __name__ == "__main__":
    tyro.cli(main)
