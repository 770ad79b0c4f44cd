"""What a removed object leaves: holes, where nothing was ever seen behind it."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from gseg_ns.data.cameras import spread_views, to_camera
from gseg_ns.editing.operations import Edited
from gseg_ns.rendering import composite, tiles_showing
from gseg_ns.runs.run import Run
from gseg_ns.splats.projection import project_splats

MOST_VIEWS = 12
"""So many training views are asked at most, evenly drawn."""

LONGEST = 512
"""Pixels of their longer side at most."""

COVERED = 0.5
"""A pixel is covered, or shows an object, by at least so much."""


class Holes(NamedTuple):
    """What some training views show of a removal."""

    part: float
    """Of the pixels that showed what is removed, those that show next to nothing then, in 0..1."""
    views: int
    """Views that showed it."""


@torch.no_grad()
def find_holes(run: Run, before: Edited, removed: Tensor) -> Holes | None:
    """Ask training views what is where an object was.

    Args:
        run: whose views are asked.
        before: the scene with the object.
        removed: bool [M], its rows.

    Returns:
        None where there are no views, or none of them shows it.
    """
    if run.datamanager.absent is not None:
        return None
    count = len(run.datamanager.names("train"))
    shown, open_, views = 0, 0, 0
    splats, own = before.splats.subset(before.drawn), removed[before.drawn]
    rest = splats.subset(~own)
    for view in spread_views(count, MOST_VIEWS):
        camera = copy.deepcopy(run.datamanager.camera(view))
        longest = max(int(camera.width.max()), int(camera.height.max()))
        if longest > LONGEST:
            camera.rescale_output_resolution(LONGEST / longest)
        seen_from = to_camera(run.model.corrected(camera)).to(splats.device)
        meta = project_splats(splats, seen_from)
        tiles = tiles_showing(meta, own)
        mask = composite(meta, own.float()[:, None], tiles)[..., 0] >= COVERED
        if not bool(mask.any()):
            continue
        alpha = composite(project_splats(rest, seen_from), torch.ones(len(rest), 1, device=splats.device))[..., 0]
        shown += int(mask.sum())
        open_ += int((mask & (alpha < COVERED)).sum())
        views += 1
    return Holes(open_ / shown, views) if views else None
