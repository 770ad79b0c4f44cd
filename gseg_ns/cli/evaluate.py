"""`gseg eval`: a run against ground-truth label maps."""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gseg_ns.cli.options import Granular
from gseg_ns.errors import GsegError


@dataclass
class Eval(Granular):
    """Score a run's views against ground-truth label maps: IoU, precision, recall (Gaga, Algorithm 1), boundary IoU."""

    load_config: Path
    """config.yml of the run, a folder NAME.gseg, or a labelled PLY"""
    ground_truth: Path
    """Folder of label maps (PNG or npy) of the photographs, named as they are and in the same subfolders, with ids that
    agree over the views; 0 is not scored, nor is what undistortion cuts off"""
    split: Literal["test", "train"] = "test"
    """Which views"""
    variant: Literal["paper", "official"] = "paper"
    """How IoU is averaged over views, and whether label 0 counts: the paper's Algorithm 1 or the official script"""
    output: Path | None = None
    """JSON file for the scores. Unless given, eval_<split>.json beside the config.yml, which a first --output of a
    run's step fills, too"""
    pictures: Path | None = None
    """Folder for pictures to look at: a row a view of photograph (of a result, which has none, the picture that is
    rendered), ground truth, groups in the colors of the ground truth that they match, and errors in red; and
    comparison.png with all of them"""
    data: Path | None = None
    """The run's scene. Default: where its config.yml says, or of that name beside the run"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Evaluate."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.evaluation.boundary import mean_boundary_iou
        from gseg_ns.evaluation.comparison import comparison
        from gseg_ns.evaluation.matching import evaluate_instances
        from gseg_ns.evaluation.overlap import resize_nearest
        from gseg_ns.evaluation.quality import psnr
        from gseg_ns.files import atomic_path
        from gseg_ns.pictures import contact_sheet, resized, write_png
        from gseg_ns.runs.run import load_run
        from gseg_ns.terminal import track

        run = load_run(self.load_config, self.data, self.allow_unfinished)
        scale = self.granularity(run)
        views = run.truth(self.ground_truth, self.split, pixels="photograph")
        predicted, truth, ratios, photos = [], [], [], []
        for view, gt in track(views, "Evaluating"):
            labels = run.labels_on_photograph(view, scale).cpu()
            predicted.append(resize_nearest(labels, gt.shape[0], gt.shape[1]))
            truth.append(gt)
            rgb = run.model.get_outputs_for_camera(view.camera)["rgb"].cpu()
            if not run.alone:  # a result has no photographs to compare with
                ratios.append(psnr(rgb, view.image[..., :3].cpu().float() / 255))
            if self.pictures is not None:
                photos.append(rgb if run.alone else view.photograph.read().float() / 255)
        scores = evaluate_instances(predicted, truth, variant=self.variant)
        boundary = mean_boundary_iou(predicted, truth, {gt: pred for gt, pred, _ in scores.pairs})
        result = {
            **asdict(scores),
            "boundary_iou": boundary,
            "psnr": sum(ratios) / len(ratios) if ratios else None,
            "num_gaussians": run.model.num_points,
            "step": run.step,
            "method": run.config.method_name,
            "ground_truth": str(self.ground_truth),
            "split": self.split,
        }
        beside = run.folder / f"eval_{self.split}.json"
        output = self.output or beside
        # `gseg info` looks for the PSNR beside the run; scores of the same step that are there stay.
        told = [output] if run.alone or _step_of(beside) == run.step else [output, beside]
        for path in dict.fromkeys(told):
            with nullcontext() if path == output else suppress(GsegError), atomic_path(path) as temporary:
                temporary.write_text(json.dumps(result, indent=2), encoding="utf-8")
        if self.pictures is not None:
            matched = {pred: gt for gt, pred, _ in scores.pairs}
            beyond = max(int(gt.max()) for gt in truth) + 1
            rows = []
            for (view, _), photo, gt, labels in zip(views, photos, truth, predicted, strict=True):
                photo = resized(photo, gt.shape[0], gt.shape[1])
                rows.append(comparison(photo, gt, labels, matched, beyond))
                write_png(self.pictures / f"{view.name}.png", contact_sheet(rows[-1:]))
            write_png(self.pictures / "comparison.png", contact_sheet(rows))
        CONSOLE.print(
            f"IoU {scores.iou:.1f}  precision {scores.precision:.1f}  recall {scores.recall:.1f}  "
            f"boundary IoU {boundary:.1f}{f'  PSNR {sum(ratios) / len(ratios):.2f} dB' if ratios else ''}\n"
            f"{scores.num_gt} ground-truth labels, {scores.num_pred} predicted, {scores.num_views} views, "
            f"{run.model.num_points} Gaussians. Details: {output}"
        )
        if scores.num_pred == 0:
            run.model.require_groups()


def _step_of(scores: Path) -> int | None:
    """The step of a run that a file of scores is of; None where there is no such file."""
    try:
        return int(json.loads(scores.read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
