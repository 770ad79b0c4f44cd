"""How well proxies fit: the labelled points of a scene against each object's hull and mesh.

python benchmarks/proxies.py outputs/scene/gaga/.../config.yml scene/gt/points_labelled.ply
"""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from plyfile import PlyData
from rich.console import Console
from rich.table import Table
from scipy.spatial import cKDTree

from gseg_ns.objects import find_floaters
from gseg_ns.proxies import Seen, closed_surface, convex_hull
from gseg_ns.proxies.making import VERTICES
from gseg_ns.proxies.surface import decimated
from gseg_ns.runs import load_run
from gseg_ns.runs.evidence import run_evidence
from gseg_ns.runs.fringes import find_fringes
from gseg_ns.runs.pixels import training_pixel
from gseg_ns.runs.sights import run_sights
from gseg_ns.splats.mesh import TriangleMesh

_NEAR = 0.02
"""Of an object's diagonal."""
_SHARE = 0.95
"""Of its points."""


def main(
    config: Path,
    labelled: Path,
    least_points: int = 50,
    clean_borders: bool = False,
    only: tuple[int, ...] = (),
) -> None:
    """Print a table.

    A point is near a hull where it is inside, too. Beside it: how long a pixel of the training pictures is for the
    diagonal, which part of the points has a Gaussian of the object as its nearest, and on which side of the mesh the
    others lie.

    Args:
        config: `config.yml` of a run.
        labelled: points in the frame of the capture, with `object_id`.
        least_points: objects with fewer are left out.
        clean_borders: make them of what `gseg export --clean-borders` writes.
        only: these objects of the ground truth; all unless given.
    """
    import open3d as o3d

    run = load_run(config)
    splats, groups = run.model.splats(), run.model.gaussian_groups()
    fit = splats.exportable()
    evidence = run_evidence(run)
    fringes, whole = find_fringes(run) if clean_borders else None, groups
    splats, groups = splats.subset(fit), groups[fit]
    if evidence is not None:  # as exports leave them out
        floating = find_floaters(splats, groups, evidence.to("cpu").rows(torch.nonzero(fit)[:, 0]))
    pixel_at, sights = training_pixel(run), run_sights(run)
    here = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 1.0
    data = PlyData.read(labelled)["vertex"]
    points = np.stack([data[axis] for axis in "xyz"], axis=1).astype(np.float64)
    objects = np.asarray(data["object_id"]).astype(int)
    frame = run.frame()
    assert frame is not None
    matrix = frame[0].double().numpy()
    points = frame[1] * (points @ matrix[:, :3].T + matrix[:, 3])
    _, nearest = cKDTree(splats.means.numpy()).query(points)
    found = groups.numpy()[nearest]
    table = Table(
        "object", "points", "pixel", "group", "IoU", "found", "hull: near", "of its own", "mesh: near", "outside",
        "inside", "closed", "seconds",
    )  # fmt: skip
    good = {"hull": 0, "mesh": 0, "closed": 0, "all": 0}
    for number in np.unique(objects[objects > 0]):
        own = objects == number
        if own.sum() < least_points or (only and number not in only):
            continue
        names, counts = np.unique(found[own & (found > 0)], return_counts=True)
        if not len(names):
            table.add_row(str(number), str(own.sum()), "-")
            continue
        group = int(names[counts.argmax()])
        iou = (own & (found == group)).sum() / (own | (found == group)).sum()
        kept = groups == group if evidence is None else (groups == group) & ~floating
        part = splats.subset(kept)
        if fringes is not None:
            rows = torch.zeros_like(fit).masked_scatter(fit, kept)
            part = fringes.clean(group).subset(rows[whole == group]).splats
        pixel = 0.0 if pixel_at is None else pixel_at(part.means.median(dim=0).values)
        diagonal = np.linalg.norm(np.ptp(points[own], axis=0))
        start, up = process_time(), torch.tensor([0.0, 0, 1])
        surface = closed_surface(part, up, pixel=pixel, seen=Seen(sights, group, *here))
        hull, mesh = convex_hull(surface.vertices, VERTICES["hull"]), decimated(surface, VERTICES["mesh"])
        seconds = process_time() - start

        def distances(shape: TriangleMesh, to: NDArray[np.float64], signed: bool) -> NDArray[np.float64]:
            scene = o3d.t.geometry.RaycastingScene()
            scene.add_triangles(
                o3d.core.Tensor(shape.vertices.astype(np.float32)), o3d.core.Tensor(shape.faces.astype(np.uint32))
            )
            queries = o3d.core.Tensor(to.astype(np.float32))
            far = scene.compute_signed_distance(queries) if signed else scene.compute_distance(queries)
            return far.numpy()

        # Points that a hull has inside are where they should be.
        outside = (distances(hull, points[own], True) < _NEAR * diagonal).mean()
        from scipy.spatial import ConvexHull

        true = ConvexHull(points[own])
        over = (true.equations[:, :3] @ hull.vertices.T + true.equations[:, 3:]).max(axis=0)
        signed = distances(mesh, points[own], True) / (_NEAR * diagonal)
        near, closed = (np.abs(signed) < 1).mean(), hull.is_closed() and mesh.is_closed()
        for name, passed in (("hull", outside >= _SHARE), ("mesh", near >= _SHARE), ("closed", closed), ("all", True)):
            good[name] += bool(passed)
        table.add_row(
            str(number), str(own.sum()), f"{100 * pixel / diagonal:.1f} %", str(group), f"{iou:.2f}",
            f"{100 * (found[own] == group).mean():.1f} %", f"{100 * outside:.1f} %",
            f"{100 * (over < _NEAR * diagonal).mean():.0f} %", f"{100 * near:.1f} %",
            f"{100 * (signed >= 1).mean():.1f} %", f"{100 * (signed <= -1).mean():.1f} %", str(closed),
            f"{seconds:.1f}",
        )  # fmt: skip
    console = Console(width=160)
    console.print(table)
    console.print(
        f"{100 * _SHARE:g} % within {100 * _NEAR:g} % of the diagonal: hulls {good['hull']} of {good['all']}, meshes "
        f"{good['mesh']}; closed {good['closed']}"
    )


if __name__ == "__main__":
    tyro.cli(main)
