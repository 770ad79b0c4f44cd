"""A click that nothing prepared, carried by a tracker that is right but for its mistakes, on every object of a room.

    python benchmarks/tracking.py --scene SCENE --geometry RUN [--part 0.2]

The tracker's answers are rendered from the labels that the ground truth votes for; in a part of the pictures they have
the mistakes of hard simulated masks, at least one of the gross ones: nothing, a neighbour as well, another object, a
half. Each object is clicked on the photograph that shows most of it. IoU on the test views, beside that of the labels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from gseg_ns.benchmarking.closed_form import ClosedForm, render_labels
from gseg_ns.demo.mask_errors import faulty_track
from gseg_ns.rendering import Camera
from gseg_ns.rendering.threads import configure
from gseg_ns.runs.tracking import follow
from gseg_ns.splats.projection import project_splats
from gseg_ns.views.drawing import draw_view
from gseg_ns.views.orbit import up_of

LEAST_PIXELS = 60


@dataclass
class Benchmark:
    """Clicks on all objects of one room."""

    scene: Path
    """Scene folder with gt/instance"""
    geometry: Path
    """Trained Gaussians of it: a run"""
    masks: str = "sam_clean/labels/object"
    part: float = 0.2
    """Of a track's pictures, with mistakes"""
    count: int = 24
    """Pictures of a track, both ways together"""
    width: int = 320
    """Of the pictures"""
    seeds: int = 1
    objects: tuple[int, ...] = ()
    """Only these"""

    def main(self) -> None:
        """Print a JSON line an object, and one of all."""
        configure(1, 1)
        prepared = ClosedForm.prepare(self.scene, self.masks, "gt/instance", self.geometry)
        labels = prepared.ceiling()
        assert labels is not None
        truths = [truth for _, truth in prepared.test]
        ceiling = [render_labels(meta, labels) for meta, _ in prepared.test]
        shown = [render_labels(project_splats(prepared.splats, view.camera), labels) for view in prepared.views]
        up = up_of(prepared.splats, prepared.views[0].camera)
        rows: list[dict[str, Any]] = []
        things = [int(i) for i in torch.cat([truth.unique() for truth in truths]).unique() if i > 0]
        for number in self.objects or things:
            areas = [int((image == number).sum()) for image in shown]
            if max(areas) < LEAST_PIXELS:
                continue
            best = int(np.argmax(areas))
            best_possible = _iou([image == number for image in ceiling], [truth == number for truth in truths])
            for seed in range(self.seeds):
                camera = prepared.views[best].camera
                started, began = time.perf_counter(), time.process_time()
                found, more = self.selected(prepared, labels, camera, number, up, seed)
                seconds, cpu = time.perf_counter() - started, time.process_time() - began
                chosen = torch.where(found, 1, 2)
                iou = _iou(
                    [render_labels(meta, chosen) == 1 for meta, _ in prepared.test],
                    [truth == number for truth in truths],
                )
                strays = float((labels[found] != number).float().mean())
                rows.append({
                    "object": number, "strays": round(100 * strays, 1),
                    "iou": iou, "ceiling": best_possible, "lost": round(best_possible - iou, 1),
                    "seconds": round(seconds, 1), "cpu": round(cpu, 1), **more,
                })  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
        within = sum(row["lost"] <= 2 for row in rows)
        print(json.dumps({
            "scene": self.scene.name, "clicks": len(rows), "within_2": within,
            "iou": round(float(np.mean([row["iou"] for row in rows])), 1),
            "ceiling": round(float(np.mean([row["ceiling"] for row in rows])), 1),
            "strays": round(float(np.mean([row["strays"] for row in rows])), 1),
            "cpu": round(float(np.mean([row["cpu"] for row in rows])), 1),
        }))  # fmt: skip

    def selected(
        self, prepared: ClosedForm, labels: Tensor, camera: Camera, number: int, up: Any, seed: int
    ) -> tuple[Tensor, dict[str, Any]]:
        """What a click on an object selects, and how that came."""
        splats = prepared.splats
        camera = camera.resized(self.width, round(self.width * camera.height / camera.width))
        first = render_labels(project_splats(splats, camera), labels) == number
        rng, ways = np.random.default_rng([seed, number]), []

        def carry(way: list[Camera]) -> list[Tensor]:
            maps = [render_labels(project_splats(splats, one), labels).numpy().astype(np.int32) for one in way]
            for one in way:
                draw_view(splats, one)  # what a tracker would be given
            ways.append(len(way))
            return [torch.from_numpy(mask) for mask in faulty_track(maps, number, self.part, rng)]

        tracked = follow(splats, camera, first, up, self.count, carry)
        return tracked.selected, {"views": ways}


def _iou(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    both = sum(int((one & other).sum()) for one, other in zip(found, truth, strict=True))
    either = sum(int((one | other).sum()) for one, other in zip(found, truth, strict=True))
    return round(100 * both / max(either, 1), 1)


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
