"""Label images by the vote and with strengths, on trained Gaussians, by masks and by ground truth: one table.

python benchmarks/borders.py --scene SCENE --masks MASKS [MASKS ...] --geometries RUN [RUN ...]
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import tyro

from gseg_ns.benchmarking.closed_form import AssociationOptions, ClosedForm
from gseg_ns.rendering import threads


@dataclass
class Settings:
    """Score the test views of each geometry, with each mask folder."""

    scene: Path
    """Scene folder"""
    masks: list[str]
    """Mask folders within it"""
    geometries: list[Path]
    """Trained Gaussians of the scene: runs or 3DGS PLYs"""
    ground_truth: str = "gt/instance"
    """Folder of label maps within the scene"""
    truth: bool = True
    """Rows of the ground truth of the training views too"""


def main(settings: Settings) -> None:
    """Print a row as soon as it is known."""
    threads.configure()
    for masks in settings.masks:
        for geometry in settings.geometries:
            scene = ClosedForm.prepare(settings.scene, masks, settings.ground_truth, geometry)
            found = scene.associate(AssociationOptions())
            sources = [("vote", scene.vote(found), found)]
            truth = scene.ceiling() if settings.truth else None
            if truth is not None:
                sources.append(("true votes", truth, None))
            for name, labels, association in sources:
                _say(settings, masks, geometry, name, scene.score(labels))
                before = _peak()
                started, processor = perf_counter(), process_time()
                fitted = scene.strengths(labels, association)
                cost = (
                    f"{perf_counter() - started:.1f} s ({process_time() - processor:.1f} s of processors), "
                    f"peak memory {before:.2f} -> {_peak():.2f} GiB, followed {fitted.followed:.3f}, "
                    f"held-out {fitted.before:.4f} -> {fitted.after:.4f}"
                )
                scores = scene.score(labels, fitted.values)
                _say(settings, masks, geometry, f"{name}, strengths", scores, cost)


def _say(settings: Settings, masks: str, geometry: Path, row: str, scores: dict[str, float], cost: str = "") -> None:
    figures = "{iou:.2f} / {mbiou:.2f}  P {precision:.1f} R {recall:.1f}".format(**scores)
    run = geometry.absolute().parents[2].name
    print(f"{settings.scene.name} {masks} {run}: {row:22s} {figures}  {cost}", flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(tyro.cli(Settings))
