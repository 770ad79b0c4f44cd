"""Label images by the vote and with strengths, on trained Gaussians, by masks and by ground truth: one table.

python benchmarks/borders.py --masks MASKS [MASKS ...] --geometries RUN [RUN ...]
"""

from __future__ import annotations

import resource
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import tyro
from torch import Tensor

from gseg_ns.benchmarking.closed_form import AssociationOptions, ClosedForm
from gseg_ns.lifting.association import Associated
from gseg_ns.rendering import threads
from gseg_ns.runs.safe_config import read_config

Scores = dict[str, Any]


@dataclass
class Settings:
    """Score the test views of each run's scene, with each mask folder; runs of one scene and length are seeds."""

    masks: list[str]
    """Mask folders within each scene"""
    geometries: list[Path]
    """Trained Gaussians: config.yml of runs, of any scenes and lengths"""
    ground_truth: str = "gt/instance"
    """Folder of label maps within each scene"""
    truth: bool = False
    """Rows of the ground truth of the training views too"""


def main(settings: Settings) -> None:
    """Print a row as soon as it is known, and a table of all."""
    threads.configure()
    found: dict[tuple[str, str, int, str], list[tuple[Scores, Scores]]] = defaultdict(list)
    for geometry in settings.geometries:
        config = read_config(geometry)
        assert config.data is not None
        for masks in settings.masks:
            scene = ClosedForm.prepare(config.data, masks, settings.ground_truth, geometry)
            associated = scene.associate(AssociationOptions())
            sources: list[tuple[str, Tensor, Associated | None]] = [("vote", scene.vote(associated), associated)]
            truth = scene.ceiling() if settings.truth else None
            if truth is not None:
                sources.append(("true votes", truth, None))
            for name, labels, association in sources:
                about = (config.data.name, masks, config.max_num_iterations, name)
                plain = scene.score(labels)
                _say(*about, plain)
                before = _peak()
                started, processor = perf_counter(), process_time()
                fitted = scene.strengths(labels, association)
                cost = (
                    f"{perf_counter() - started:.1f} s ({process_time() - processor:.1f} s of processors), "
                    f"peak memory {before:.2f} -> {_peak():.2f} GiB, {fitted.steps} steps, followed "
                    f"{fitted.followed:.3f}, held-out {fitted.before:.4f} -> {fitted.after:.4f}"
                )
                scores = scene.score(labels, fitted.values)
                _say(*about[:3], f"{name}, strengths", scores, cost)
                found[about].append((plain, scores))
    print("\n| scene | masks | steps | labels | by votes alone | with strengths | gain at the median |")
    print("|---|---|---:|---|---|---|---|")
    for (room, folder, steps, row), pairs in found.items():
        alone, loud = ([pair[number] for pair in pairs] for number in (0, 1))
        gains = (_median(loud, key) - _median(alone, key) for key in ("iou", "mbiou"))
        print(
            f"| {room} | {folder} | {steps} | {row} | {_cell(alone)} | {_cell(loud)} | "
            f"{' / '.join(f'{gain:+.1f}' for gain in gains)} |"
        )


def _median(seeds: list[Scores], key: str) -> float:
    return statistics.median(scores[key] for scores in seeds)


def _cell(seeds: list[Scores]) -> str:
    """IoU / boundary IoU at the median seed, and of each."""
    each = ", ".join(f"{scores['iou']:.1f} / {scores['mbiou']:.1f}" for scores in seeds)
    return f"**{_median(seeds, 'iou'):.1f} / {_median(seeds, 'mbiou'):.1f}** ({each})"


def _say(scene: str, masks: str, steps: int, row: str, scores: Scores, cost: str = "") -> None:
    figures = "{iou:.2f} / {mbiou:.2f}  P {precision:.1f} R {recall:.1f}".format(**scores)
    print(f"{scene} {masks} {steps} steps: {row:22s} {figures}  {cost}", flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(tyro.cli(Settings))
