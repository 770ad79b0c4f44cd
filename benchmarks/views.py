"""Views chosen for a splat whose cameras are forgotten, against the photographs it was trained on.

    python benchmarks/views.py --scene SCENE --geometry RUN [--turned] [--objects 3 5 9] [--out DIR]

Of a scene with ground truth and a splat trained on it: how much of the labelled surface the views see, whether cameras
stand inside of things or outside of the room, and the IoU on the held-back test views that masks at those views give
when they are lifted, beside the same masks at the photographs' cameras. Masks at views are rendered from the labels
that the ground truth votes for, with ids of their own in each view; `mild`: with a segmenter's mistakes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError
from torch import Tensor

from gseg_ns.benchmarking.closed_form import Association, ClosedForm, View, render_labels
from gseg_ns.demo.mask_errors import MASK_ERRORS, simulate_masks
from gseg_ns.lifting.votes import VoteStore, view_votes
from gseg_ns.masks.paint import paint
from gseg_ns.pictures import contact_sheet, resized, write_png
from gseg_ns.rendering import Camera
from gseg_ns.rendering.threads import configure
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats
from gseg_ns.splats.transform import transform
from gseg_ns.views import ViewOptions, ViewPlan, choose_views, draw_view

TOLERANCE = 0.04
"""Metres that a labelled point may lie behind the drawn surface and count as seen."""
LEAST_POINTS = 20


@dataclass
class Benchmark:
    """Views of one splat."""

    scene: Path
    """Scene folder with gt/points_labelled.ply and gt/instance"""
    geometry: Path
    """Trained Gaussians of it: a run"""
    masks: str = "sam_clean/labels/object"
    """Masks of the photographs"""
    mild: str | None = None
    """Masks with mild mistakes of the photographs, to be compared with simulated ones at the views"""
    count: int = 40
    width: int = 640
    height: int = 480
    turned: bool = False
    """Turn, scale and move the splat before views are chosen"""
    objects: tuple[int, ...] = ()
    """Instead: cut these objects out of the ground truth's labels, and choose views for each alone"""
    lift: bool = True
    """Also lift masks; else only coverage"""
    out: Path | None = None
    """Folder for contact sheets"""

    def main(self) -> None:
        """Print one JSON line a splat."""
        configure(1, 1)
        prepared = ClosedForm.prepare(self.scene, self.masks, "gt/instance", self.geometry)
        labels = prepared.ceiling()
        assert labels is not None
        points, ids, unit = self.labelled_points()
        if self.objects:
            for number in self.objects:
                part = prepared.splats.subset(labels == number)
                self.report(f"object {number}", part, prepared, points, ids, unit, labels, number)
            return
        self.report("room", prepared.splats, prepared, points, ids, unit, labels, None)

    def report(
        self,
        what: str,
        splats: Splats,
        prepared: ClosedForm,
        points: NDArray[np.float64],
        ids: NDArray[np.int64],
        unit: float,
        labels: Tensor,
        only: int | None,
    ) -> None:
        """Choose, measure, print."""
        rotation, shift, scale = np.eye(3), np.zeros(3), 1.0
        if self.turned:
            rotation, shift, scale = _rotation(37, -52, 110), np.array([4.0, -7.0, 2.0]), 3.0
        moved = transform(splats, torch.tensor(rotation), torch.tensor(shift), scale) if self.turned else splats
        # What is compiled at first use is not a matter of views.
        choose_views(moved, ViewOptions(2, 64, 48))
        started, began = time.perf_counter(), time.process_time()
        plan = choose_views(moved, ViewOptions(self.count, self.width, self.height))
        seconds, cpu = time.perf_counter() - started, time.process_time() - began
        up = rotation.T @ np.array(plan.up)
        cameras = [_back(camera, rotation, shift, scale) for camera in plan.cameras]
        result: dict[str, Any] = {
            "what": what, "turned": self.turned, "gaussians": len(splats), "views": len(cameras), "kind": plan.kind,
            "enclosure": round(plan.enclosure, 2), "degrees_off_up": round(_degrees(up[2]), 1),
            "up_certain": plan.up_is_certain, "up_by": plan.up_reason, "planned": round(plan.seen, 3),
            "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1),
        }  # fmt: skip
        real = [view.camera for view in prepared.views]
        by_real = seen(prepared.splats, real, points, TOLERANCE * unit)
        shown = np.asarray(by_real.any(axis=0))
        if only is not None:
            shown = shown & (ids == only)
        result["photographs"] = coverage(by_real, ids, shown) | {"views": len(real)}
        result["chosen"] = coverage(seen(splats, cameras, points, TOLERANCE * unit), ids, shown)
        result |= placed(cameras, points, ids, unit, only)
        if self.out is not None:
            name = f"{self.scene.name}-{what.replace(' ', '_')}{'-turned' if self.turned else ''}.png"
            _sheet(self.out / name, moved, plan)
        if self.lift and only is None:
            result["lift"] = self.lifted(prepared, cameras, labels)
        if self.lift and only is not None:
            result["lift"] = _alone(prepared, cameras, splats, labels, only)
        print(json.dumps(result), flush=True)

    def lifted(self, prepared: ClosedForm, cameras: list[Camera], labels: Tensor) -> dict[str, Any]:
        """IoU on the test views of masks lifted from the photographs' cameras and from the views."""
        consensus = Association("consensus")
        found = {"photographs": _scores(prepared.score(prepared.lift(consensus)))}
        clean, faulty = [], []
        for number, camera in enumerate(cameras):
            meta = project_splats(prepared.splats, camera)
            truth = render_labels(meta, labels)
            rng = np.random.default_rng([5, number])
            clean.append(_shuffled(truth, rng))
            faulty.append(_mild(truth, rng))
        found["views"] = _scores(_votes(prepared, cameras, clean, consensus))
        found["views, mild"] = _scores(_votes(prepared, cameras, faulty, consensus))
        if self.mild is not None:
            other = ClosedForm.prepare(self.scene, self.mild, "gt/instance", self.geometry)
            found["photographs, mild"] = _scores(other.score(other.lift(consensus)))
        again = []
        for number, view in enumerate(prepared.views):
            truth = render_labels(project_splats(prepared.splats, view.camera), labels)
            again.append(_mild(truth, np.random.default_rng([6, number])))
        real = [view.camera for view in prepared.views]
        found["photographs' cameras, the same mild mistakes"] = _scores(_votes(prepared, real, again, consensus))
        return found

    def labelled_points(self) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
        """Points of the true surface in the run's coordinates, their objects, and the length of a metre there."""
        from plyfile import PlyData

        from gseg_ns.models.trained_geometry import run_frame

        data = PlyData.read(self.scene / "gt" / "points_labelled.ply")["vertex"].data
        points = np.stack([data["x"], data["y"], data["z"]], axis=1).astype(np.float64)
        frame = run_frame(self.geometry if self.geometry.is_dir() else self.geometry.parent)
        assert frame is not None, "the geometry is a run with dataparser_transforms.json"
        matrix, scale = frame[0].double().numpy(), float(frame[1])
        return scale * (points @ matrix[:3, :3].T + matrix[:3, 3]), data["object_id"].astype(np.int64), scale


def seen(splats: Splats, cameras: list[Camera], points: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Which points each camera sees [C, P]: they lie on the drawn surface."""
    out = np.zeros((len(cameras), len(points)), bool)
    for number, camera in enumerate(cameras):
        drawn = draw_view(splats, camera)
        view, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
        local = points @ view[:3, :3].T + view[:3, 3]
        depth = np.maximum(local[:, 2], 1e-6)
        column = np.floor(local[:, 0] / depth * K[0, 0] + K[0, 2]).astype(int)
        row = np.floor(local[:, 1] / depth * K[1, 1] + K[1, 2]).astype(int)
        inside = (local[:, 2] > 1e-3) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        row, column = row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)
        surface = drawn.depth.numpy()[row, column] * 1.01 + tolerance
        out[number] = inside & (drawn.alpha.numpy()[row, column] > 0.5) & (local[:, 2] < surface)
    return out


def coverage(seen_by: NDArray[np.bool_], ids: NDArray[np.int64], shown: NDArray[np.bool_]) -> dict[str, Any]:
    """Percent of the surface that at least three of the views show, of what the photographs show of it."""
    often = seen_by.sum(axis=0) >= 3
    things = shown & (ids > 0)
    numbers = [i for i in np.unique(ids[things]) if (things & (ids == i)).sum() >= LEAST_POINTS]
    each = {int(i): 100 * float(often[things & (ids == i)].mean()) for i in numbers}
    worst = min(each, key=lambda number: each[number])
    return {
        "all": round(100 * float(often[shown].mean()), 1), "objects": round(100 * float(often[things].mean()), 1),
        "worst": round(each[worst], 1), "worst_object": worst,
    }  # fmt: skip


def placed(
    cameras: list[Camera], points: NDArray[np.float64], ids: NDArray[np.int64], unit: float, only: int | None
) -> dict[str, Any]:
    """How many cameras stand where none should."""
    centres = np.array([torch.linalg.inv(camera.viewmat.double())[:3, 3].numpy() for camera in cameras])
    low, high = points.min(axis=0), points.max(axis=0)
    outside = ((centres < low) | (centres > high)).any(axis=1)
    within = np.zeros(len(centres), bool)
    for number in np.unique(ids[ids > 0]) if only is None else [only]:
        thing = points[ids == number]
        try:
            within |= Delaunay(thing).find_simplex(centres) >= 0
        except (QhullError, ValueError):
            continue
    nearest = min(float(np.linalg.norm(points - centre, axis=1).min()) for centre in centres)
    found: dict[str, Any] = {"inside_an_object": int(within.sum()), "nearest_m": round(nearest / unit, 2)}
    return found | ({"outside_the_room": int(outside.sum())} if only is None else {})


def _votes(
    prepared: ClosedForm, cameras: list[Camera], masks: list[Tensor], association: Association
) -> dict[str, Any]:
    votes, views = VoteStore(), []
    for number, (camera, labels) in enumerate(zip(cameras, masks, strict=True)):
        views.append(View(f"{number:05d}", camera, labels))
        votes.append(view_votes(project_splats(prepared.splats, camera), labels))
    virtual = ClosedForm(prepared.splats, views, votes, VoteStore(), prepared.test, None)
    return virtual.score(virtual.lift(association))


def _alone(prepared: ClosedForm, cameras: list[Camera], splats: Splats, labels: Tensor, only: int) -> dict[str, float]:
    """Percent of an object's Gaussians that show and that its masks at the views give back to it."""
    votes = torch.zeros(len(splats))
    for camera in cameras:
        mask = (draw_view(splats, camera).alpha > 0.5).int()
        found = view_votes(project_splats(splats, camera), mask)
        votes.index_add_(0, found.gaussians.long(), found.weights * (found.labels > 0))
    visible = splats.opacities.sigmoid() > 0.1
    return {"labelled": round(100 * float((votes[visible] > 0).float().mean()), 1)}


def _shuffled(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Labels with numbers of their own; 0 stays."""
    numbers = torch.from_numpy(np.append(0, 1 + rng.permutation(int(labels.max())))).int()
    return numbers[labels]


def _mild(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Labels as a segmenter would find them, largest masks below: mild mistakes of the demo's simulator."""
    dense, inverse = torch.unique(labels, return_inverse=True)
    parts = inverse.numpy().astype(np.int32)
    things = len(dense)
    masks = simulate_masks(parts, np.arange(1, things + 1, dtype=np.int32), things, MASK_ERRORS["mild"], rng)
    return paint(masks, "confidence", min_score=0.0).int()


def _scores(values: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(values[name]), 1) for name in ("iou", "precision", "recall")}


def _rotation(*angles: float) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", angles, degrees=True).as_matrix()


def _back(camera: Camera, rotation: NDArray[np.float64], shift: NDArray[np.float64], scale: float) -> Camera:
    """A camera of a moved splat where the splat was."""
    view = camera.viewmat.double().numpy().copy()
    # Local coordinates shrink with the scene.
    turn = view[:3, :3] @ rotation
    offset = (view[:3, :3] @ shift + view[:3, 3]) / scale
    view[:3, :3], view[:3, 3] = turn, offset
    return Camera(torch.tensor(view, dtype=torch.float32), camera.K, camera.width, camera.height)


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _sheet(path: Path, splats: Splats, plan: ViewPlan) -> None:
    drawn = [draw_view(splats, camera, float(plan.kind == "object")).rgb for camera in plan.cameras]
    small = [resized(rgb, 180, 240) for rgb in drawn]
    write_png(path, contact_sheet([small[start : start + 8] for start in range(0, len(small), 8)]))


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
