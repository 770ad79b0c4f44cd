"""Associations over seeds and orders of the views, voted in closed form.

    python benchmarks/association.py --scene SCENE --masks MASKS [MASKS ...] --geometries RUN_OR_PLY [RUN_OR_PLY ...]

Every mask folder on every trained splat (one a seed), with the views by name, reversed and shuffled: IoU, precision and
recall of the test views against the ground truth, mean and lowest over seeds and orders, beside the ceiling.
With --given: the ids as they are instead, beside the ceiling. With --switches 0.1: also tracks of the masks as
evidence, of which in each view a part switches with another track for good, or breaks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from gseg_ns.benchmarking.closed_form import Association, ClosedForm
from gseg_ns.benchmarking.quality import AS_NAMED, view_order
from gseg_ns.lifting.association import associate

ORDERS = (AS_NAMED, "reversed", "shuffled 0")
ASSOCIATIONS = {"memory bank": Association("memory-bank"), "consensus": Association("consensus")}
GIVEN = {"given": Association("none")}
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
    switches: tuple[float, ...] = ()
    """Parts of the tracks that go wrong from one view to the next"""

    given: bool = False
    """The ids of the masks agree over the views (ground truth): nothing else is compared with what they vote for"""

    def main(self) -> None:
        """Print a row for each association of each mask folder."""
        print("| masks | row | runs | IoU | precision | recall | lowest IoU | lowest precision | lowest recall |")
        print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
        for masks in self.masks:
            found: dict[str, list[list[float]]] = defaultdict(list)
            for geometry in self.geometries:
                prepared = ClosedForm.prepare(self.scene, masks, self.ground_truth, geometry, consistent=self.given)
                top = prepared.ceiling()
                if top is not None:
                    found["ceiling"].append(self.scores(prepared.score(top)))
                for name, association in (GIVEN if self.given else ASSOCIATIONS).items():
                    for order in ORDERS:
                        labels = prepared.lift(association, view_order(order, len(prepared.views)))
                        found[name].append(self.scores(prepared.score(labels)))
                for part in self.switches:
                    for seed in range(len(ORDERS)):
                        associated = associate(
                            Association("tracks"), prepared.splats.means, prepared.views, prepared.votes,
                            range(len(prepared.views)), simulated_tracks(prepared, part, seed),
                        )  # fmt: skip
                        found[f"tracks, {part:.0%} wrong"].append(
                            self.scores(prepared.score(prepared.vote(associated)))
                        )
            for name, rows in found.items():
                columns = list(zip(*rows, strict=True))
                means = " | ".join(f"{sum(column) / len(column):.1f}" for column in columns)
                lowest = " | ".join(f"{min(column):.1f}" for column in columns)
                print(f"| {masks} | {name} | {len(rows)} | {means} | {lowest} |", flush=True)

    @staticmethod
    def scores(values: dict[str, float]) -> list[float]:
        """IoU, precision and recall."""
        return [float(values[name]) for name in METRICS]


def simulated_tracks(prepared: ClosedForm, part: float, seed: int) -> list[Tensor]:
    """The track of each label of each view, by the true object that most of it shows, with mistakes.

    From each view to the next a part of the tracks goes wrong: half of them switch with another, half begin anew.
    """
    chance = torch.Generator().manual_seed(seed)
    objects = []
    for view, (_, truth) in zip(prepared.views, prepared.truth_maps, strict=True):
        labels, truth = view.labels.long().cpu(), truth.long().cpu()
        width = int(truth.max()) + 1
        table = torch.bincount((labels * width + truth).flatten(), minlength=(int(labels.max()) + 1) * width)
        objects.append(table.view(-1, width).argmax(dim=1) + 1)
        objects[-1][0] = 0
    count = max(int(one.max()) for one in objects) + 1
    track, fresh, found = torch.arange(count), count, []
    for one in objects:
        for number in range(1, count):
            luck = float(torch.rand(1, generator=chance))
            if luck < part / 2:
                other = int(torch.randint(1, count, (1,), generator=chance))
                track[[number, other]] = track[[other, number]]
            elif luck < part:
                track[number], fresh = fresh, fresh + 1
        found.append(torch.where(one > 0, track[one], 0))
    return found


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
