"""A click that nothing prepared, carried by a tracker that is right but for its mistakes, on every object of a room.

    python benchmarks/tracking.py --scene SCENE --geometry RUN [--part 0.2]

The tracker's answers are rendered from the labels that the ground truth votes for; in a part of the pictures they have
the mistakes of hard simulated masks, at least one of the gross ones: nothing, a neighbour as well, another object, a
half. Each object is clicked on the photograph that shows most of it. IoU on the test views, drawn as selections are.

Beside it two ceilings. `ceiling`: the labels that the ground truth of the training views votes for, drawn all together,
so that a pixel is an object's where it is more of it than of any other: what the tracker's answers are rendered from.
`alone`: the Gaussians of that label as one selection, which shows where it is more than all else together, as a click's
does. With `--searched`: the best selection that was found by the ground truth of the training views itself, which no
click has: that, or the truth lifted as a track is.
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
from gseg_ns.lifting.carried import lift_object
from gseg_ns.lifting.strengths import silhouettes
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
    searched: bool = False
    """Also look for the best selection by the ground truth of the training views: up to a minute an object"""
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
            wanted = [truth == number for truth in truths]
            together = _iou([image == number for image in ceiling], wanted)
            ceilings = {"ceiling": together, "alone": _iou(_drawn(prepared, labels == number), wanted)}
            if self.searched:
                ceilings["searched"] = _iou(_drawn(prepared, _best_selection(prepared, labels, number)), wanted)
            for seed in range(self.seeds):
                camera = prepared.views[best].camera
                started, began = time.perf_counter(), time.process_time()
                found, more = self.selected(prepared, labels, camera, number, up, seed)
                seconds, cpu = time.perf_counter() - started, time.process_time() - began
                iou = _iou(_drawn(prepared, found), wanted)
                strays = float((labels[found.to(labels.device)] != number).float().mean())
                rows.append({
                    "object": number, "strays": round(100 * strays, 1),
                    "iou": iou, **ceilings, "lost": round(together - iou, 1),
                    "seconds": round(seconds, 1), "cpu": round(cpu, 1), **more,
                })  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
        print(json.dumps({
            "scene": self.scene.name, "clicks": len(rows),
            "within_2": sum(row["lost"] <= 2 for row in rows),
            "within_2_of_alone": sum(round(row["alone"] - row["iou"], 1) <= 2 for row in rows),
            **{key: _mean(rows, key) for key in ("iou", "ceiling", "alone", "strays", "cpu")},
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


def _best_selection(prepared: ClosedForm, labels: Tensor, number: int) -> Tensor:
    """The Gaussians [N] bool of an object that are best alone, by the truth of the training views."""
    showing = [(camera, truth == number) for camera, truth in prepared.truth_maps if bool((truth == number).any())]
    lifted = lift_object(prepared.splats, showing, sure=range(len(showing))).selected
    choices = torch.stack([labels == number, lifted.to(labels.device)], dim=1)
    drawn = [_shown(project_splats(prepared.splats, camera), choices) for camera, _ in prepared.truth_maps]
    wanted = [truth == number for _, truth in prepared.truth_maps]
    scores = [_iou([view[..., choice] for view in drawn], wanted) for choice in range(choices.shape[1])]
    return choices[:, int(np.argmax(scores))]


def _drawn(prepared: ClosedForm, selected: Tensor) -> list[Tensor]:
    """Where a selection [N] shows in each test view."""
    return [_shown(meta, selected[:, None])[..., 0] for meta, _ in prepared.test]


def _shown(meta: dict[str, Any], selections: Tensor) -> Tensor:
    """Where selections [N, K] show in a view, on the CPU as ground truth is."""
    return silhouettes(meta, selections.to(meta["means2d"].device)).cpu()


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    return round(float(np.mean([row[key] for row in rows])), 1)


def _iou(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    both = sum(int((one & other).sum()) for one, other in zip(found, truth, strict=True))
    either = sum(int((one | other).sum()) for one, other in zip(found, truth, strict=True))
    return round(100 * both / max(either, 1), 1)


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
