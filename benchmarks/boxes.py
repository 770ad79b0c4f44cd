"""How well the boxes of objects fit: each object's oriented box against that of its true surface.

python benchmarks/boxes.py outputs/scene/gaga/.../config.yml ...

The truth is beside the photographs: `gt/points_labelled.ply`, points in the frame of the capture with `object_id`; or
`info.json` of `gseg demo`, by which the demo's meshes are made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from plyfile import PlyData
from rich.console import Console
from rich.table import Table
from scipy.spatial import cKDTree

from gseg_ns.objects import box_iou, box_of_points
from gseg_ns.objects.boxes import OrientedBox
from gseg_ns.runs import Run, load_run
from gseg_ns.runs.overview import overview

FloatArray = NDArray[np.float64]

_FEWEST = 50
"""Points of an object that is scored: what is hidden has hardly any."""
_FOUND = 0.5
"""IoU of points from which a group is an object."""
_SAMPLES = 4000
"""Points on a mesh of the demo."""


@dataclass(frozen=True)
class Row:
    """One object."""

    name: str
    found: float
    """IoU of the points called its group and its own."""
    iou: float
    """Of the boxes."""
    lengths: tuple[float, ...]
    """Of the box's sides over those of the true box's nearest axes."""


def true_surfaces(scene: Path) -> dict[str, FloatArray]:
    """Points on each object of a scene, in the frame of its capture."""
    labelled = scene / "gt" / "points_labelled.ply"
    if labelled.is_file():
        data = PlyData.read(labelled)["vertex"]
        points = np.stack([data[axis] for axis in "xyz"], axis=1).astype(np.float64)
        objects = np.asarray(data["object_id"]).astype(int)
        return {f"object {n}": points[objects == n] for n in np.unique(objects[objects > 0])}
    from gseg_ns.demo.layout import make_layout

    info = json.loads((scene / "info.json").read_text(encoding="utf-8"))
    layout, rng = make_layout(len(info["objects"]), info["seed"]), np.random.default_rng(0)
    surfaces = {}
    for item in layout.objects:
        meshes = [part.mesh.moved(item.position, item.rotation) for part in item.model.parts]
        triangles = np.concatenate([mesh.vertices[mesh.triangles] for mesh in meshes]).astype(np.float64)
        edges = triangles[:, 1:] - triangles[:, :1]
        area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
        chosen = rng.choice(len(triangles), _SAMPLES, p=area / area.sum())
        u, v = np.sort(rng.random((2, _SAMPLES)), axis=0)
        weights = np.stack([u, v - u, 1 - v], axis=1)
        samples = (triangles[chosen] * weights[:, :, None]).sum(axis=1)
        surfaces[f"{item.model.category} {item.object_id}"] = np.concatenate([samples, triangles.reshape(-1, 3)])
    return surfaces


def lengths(box: OrientedBox, true: OrientedBox) -> tuple[float, ...]:
    """The sides of a box over those of the true box whose axes are nearest: 3."""
    along = np.abs(true.axes.T @ box.axes)
    order = max(permutations(range(3)), key=lambda names: sum(along[k, name] for k, name in enumerate(names)))
    return tuple(box.half_sizes[name] / true.half_sizes[k] for k, name in enumerate(order))


def score(run: Run) -> list[Row]:
    """The boxes of a run's objects against the true ones."""
    _, records = overview(run)
    frame = run.frame()
    assert frame is not None
    matrix = frame[0].double().numpy()
    scene = run.datamanager.get_datapath()
    surfaces = {
        name: frame[1] * (points @ matrix[:, :3].T + matrix[:, 3]) for name, points in true_surfaces(scene).items()
    }
    splats, groups = run.model.splats(), run.model.gaussian_groups()
    kept = splats.exportable() & (splats.opacities.sigmoid() > 0.1)
    points = np.concatenate(list(surfaces.values()))
    owner = np.repeat(np.arange(len(surfaces)), [len(part) for part in surfaces.values()])
    _, nearest = cKDTree(splats.means[kept].detach().cpu().numpy()).query(points)
    called = groups[kept].cpu().numpy()[nearest]
    boxes = {record.id: record.box for record in records}
    rows = []
    for number, (name, own) in enumerate(surfaces.items()):
        mine = owner == number
        counts = np.bincount(called[mine & (called > 0)], minlength=1)
        if mine.sum() < _FEWEST or not counts.any():
            continue
        group = int(counts.argmax())
        found = float((mine & (called == group)).sum() / (mine | (called == group)).sum())
        if found >= _FOUND and group in boxes:
            true = box_of_points(own)
            rows.append(Row(f"{name} ({group})", found, box_iou(boxes[group], true), lengths(boxes[group], true)))
    return rows


def main(configs: tyro.conf.Positional[list[Path]], worst: int = 5) -> None:
    """Print a line for each run, and its worst objects.

    Args:
        configs: `config.yml` of runs.
        worst: so many.
    """
    console = Console(width=140)
    table = Table("run", "objects", "median IoU of boxes", "least", "longest side", "over 1.5")
    details = Table("object", "found", "IoU of boxes", "sides, of the true ones")
    for config in configs:
        with torch.no_grad():
            rows = score(load_run(config))
        ious, longest = [row.iou for row in rows], [max(row.lengths) for row in rows]
        name = "/".join(config.parts[-5:-2])
        table.add_row(
            name, str(len(rows)), f"{np.median(ious):.3f}", f"{min(ious):.2f}", f"{max(longest):.2f}",
            str(sum(length > 1.5 for length in longest)),
        )  # fmt: skip
        for row in sorted(rows, key=lambda row: min(row.iou, 1 / max(row.lengths)))[:worst]:
            details.add_row(
                f"{name} {row.name}", f"{row.found:.2f}", f"{row.iou:.2f}", " ".join(f"{x:.2f}" for x in row.lengths)
            )
    console.print(table)
    console.print(details)


if __name__ == "__main__":
    tyro.cli(main)
