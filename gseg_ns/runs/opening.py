"""Where to look at a run's scene from first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns.splats import Splats

if TYPE_CHECKING:
    from gseg_ns.runs.run import Run


def opening_view(run: Run, splats: Splats, groups: Tensor) -> tuple[list[float], list[float], float] | None:
    """The training view that has most objects in it, and these nearest to its middle.

    Args:
        run: a trained run.
        splats: N Gaussians in the run's coordinates.
        groups: int [N]; 0 = none.

    Returns:
        Eye [3], the point in the middle of the picture at the depth of the objects [3], and the vertical field of view
        in degrees; None where the scene is gone, or no training view shows an object.
    """
    ids = groups.unique()
    if run.datamanager.absent is not None or not bool((ids > 0).any()):
        return None
    groups = groups.to(splats.device)
    centres = torch.stack([splats.means[groups == group].median(dim=0).values for group in ids[ids > 0].tolist()])
    best: tuple[int, float, int, Tensor] | None = None
    for number in range(len(run.datamanager.names("train"))):
        camera = run.datamanager.camera(number)
        pose = camera.camera_to_worlds.reshape(3, 4).to(centres)
        local = (centres - pose[:, 3]) @ pose[:, :3]
        depth = -local[:, 2]
        half = torch.tensor([float(camera.width) / 2 / float(camera.fx), float(camera.height) / 2 / float(camera.fy)])
        off = (local[:, :2].abs() / depth.clamp_min(1e-6)[:, None]).cpu() / half
        seen = (depth.cpu() > 0) & (off < 1).all(dim=1)
        if not bool(seen.any()):
            continue
        rank = int(seen.sum()), -float(off[seen].mean())
        if best is None or rank > best[:2]:
            best = (*rank, number, depth.cpu()[seen].median())
    if best is None:
        return None
    camera = run.datamanager.camera(best[2])
    pose = camera.camera_to_worlds.reshape(3, 4).cpu()
    eye = pose[:, 3]
    target = eye - pose[:, 2] * best[3]
    return eye.tolist(), target.tolist(), math.degrees(2 * math.atan(float(camera.height) / 2 / float(camera.fy)))
