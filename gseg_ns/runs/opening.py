"""Where to look at a run's scene from first."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats

if TYPE_CHECKING:
    from gseg_ns.runs.run import Run

Opening = tuple[list[float], list[float], float]
"""Eye [3], the point in the middle of the picture at the depth of the objects [3], and the vertical field of view in
degrees."""


def opening_view(run: Run, splats: Splats, groups: Tensor) -> Opening | None:
    """The training view that has most objects in it, and these nearest to its middle.

    Args:
        run: a trained run.
        splats: N Gaussians in the run's coordinates.
        groups: int [N]; 0 = none.

    Returns:
        None where the scene is gone, or no training view shows an object.
    """
    if run.datamanager.absent is not None:
        return None
    views = range(len(run.datamanager.names("train")))
    return opening_among((to_camera(run.datamanager.camera(view)) for view in views), splats, groups)


def opening_among(cameras: Iterable[Camera], splats: Splats, groups: Tensor) -> Opening | None:
    """As `opening_view`, of these cameras."""
    ids = groups.unique()
    if not bool((ids > 0).any()):
        return None
    groups = groups.to(splats.device)
    centres = torch.stack([splats.means[groups == group].median(dim=0).values for group in ids[ids > 0].tolist()])
    best: tuple[int, float, Camera, Tensor] | None = None
    for camera in cameras:
        viewmat = camera.viewmat.to(centres)
        local = centres @ viewmat[:3, :3].T + viewmat[:3, 3]
        depth = local[:, 2]
        half = centres.new_tensor([camera.width, camera.height]) / 2 / camera.K.diagonal()[:2].to(centres)
        off = local[:, :2].abs() / depth.clamp_min(1e-6)[:, None] / half
        seen = (depth > 0) & (off < 1).all(dim=1)
        if not bool(seen.any()):
            continue
        rank = int(seen.sum()), -float(off[seen].mean())
        if best is None or rank > best[:2]:
            best = (*rank, camera, depth[seen].median().cpu())
    return None if best is None else _looking(best[2], best[3])


def opening_at(camera: Camera, splats: Splats) -> Opening | None:
    """A view, and the middle of what it shows; None where it shows nothing."""
    viewmat = camera.viewmat.to(splats.means)
    local = splats.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    half = local.new_tensor([camera.width, camera.height]) / 2 / camera.K.diagonal()[:2].to(local)
    depth = local[:, 2]
    seen = (depth > 0) & (local[:, :2].abs() < half * depth[:, None]).all(dim=1)
    return _looking(camera, depth[seen].median().cpu()) if bool(seen.any()) else None


def _looking(camera: Camera, depth: Tensor) -> Opening:
    viewmat = camera.viewmat.cpu()
    eye = -viewmat[:3, :3].T @ viewmat[:3, 3]
    target = eye + viewmat[2, :3] * depth
    return eye.tolist(), target.tolist(), math.degrees(2 * math.atan(camera.height / 2 / float(camera.K[1, 1])))
