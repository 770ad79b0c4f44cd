"""Associations over seeds and orders of the views, voted in closed form.

    python benchmarks/association.py --scene SCENE --masks MASKS [MASKS ...] --geometries RUN_OR_PLY [RUN_OR_PLY ...]

Every mask folder on every trained splat (one a seed), with the views by name, reversed and shuffled: IoU, precision and
recall of the test views against the ground truth, mean and lowest over seeds and orders, beside the ceiling.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import tyro

from gseg_ns.benchmarking.closed_form import Association, ClosedForm
from gseg_ns.benchmarking.quality import AS_NAMED, view_order

ORDERS = (AS_NAMED, "reversed", "shuffled 0")
ASSOCIATIONS = {"memory bank": Association("memory-bank"), "consensus": Association("consensus")}
METRICS = ("iou", "precision", "recall")


@dataclass
class Benchmark:
    """Associations over seeds and orders of the views."""

    scene: Path
    """Scene folder"""
    masks: tuple[str, ...]
    """Mask folders within it"""
    geometries: tuple[Path, ...]
    """Trained Gaussians of it, a 3DGS PLY or a run each"""
    ground_truth: str = "gt/instance"
    """Label maps within it"""

    def main(self) -> None:
        """Print a row for each association of each mask folder."""
        print("| masks | row | runs | IoU | precision | recall | lowest IoU | lowest precision | lowest recall |")
        print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
        for masks in self.masks:
            found: dict[str, list[list[float]]] = defaultdict(list)
            for geometry in self.geometries:
                prepared = ClosedForm.prepare(self.scene, masks, self.ground_truth, geometry)
                top = prepared.ceiling()
                if top is not None:
                    found["ceiling"].append(self.scores(prepared.score(top)))
                for name, association in ASSOCIATIONS.items():
                    for order in ORDERS:
                        labels = prepared.lift(association, view_order(order, len(prepared.views)))
                        found[name].append(self.scores(prepared.score(labels)))
            for name, rows in found.items():
                columns = list(zip(*rows, strict=True))
                means = " | ".join(f"{sum(column) / len(column):.1f}" for column in columns)
                lowest = " | ".join(f"{min(column):.1f}" for column in columns)
                print(f"| {masks} | {name} | {len(rows)} | {means} | {lowest} |", flush=True)

    @staticmethod
    def scores(values: dict[str, float]) -> list[float]:
        """IoU, precision and recall."""
        return [float(values[name]) for name in METRICS]


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
