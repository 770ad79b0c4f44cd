"""Score the label images of a run's held-out views against ground truth (Gaga, Algorithm 1)."""

from __future__ import annotations

from pathlib import Path

import tyro

from gseg_ns.evaluation import evaluate_instances, id_files, read_ids
from gseg_ns.runs import load_run


def main(config: Path, ground_truth: Path) -> float:
    """Print IoU, precision and recall, and the IoU of each object.

    Args:
        config: `config.yml` of a run.
        ground_truth: folder of label maps named after the images, with ids that agree over the views.

    Returns:
        IoU in percent.
    """
    run, files = load_run(config), id_files(ground_truth)
    views = [(name, camera) for name, camera, _ in run.views("test") if name in files]
    predicted = [run.model.label_image(camera).cpu() for _, camera in views]  # int64 [H, W] each
    truth = [read_ids(files[name]) for name, _ in views]
    scores = evaluate_instances(predicted, truth)
    print(f"IoU {scores.iou:.1f}, precision {scores.precision:.1f}, recall {scores.recall:.1f} on {len(views)} views")
    for label, iou in scores.gt_iou.items():
        print(f"  object {label}: {iou:.1f}")
    return scores.iou


if __name__ == "__main__":
    tyro.cli(main)
