"""How long a pixel of the training pictures is, where something is that they show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns.data.cameras import spread_views, to_camera

if TYPE_CHECKING:
    from gseg_ns.runs.run import Run

_MOST_VIEWS = 200
"""So many are asked at most, evenly drawn."""


def training_pixel(run: Run) -> Callable[[Tensor], float] | None:
    """A function of a place [3] in the run's coordinates: the length of a pixel there.

    It is that of the middle one of the training views which have the place in their picture, or, where none has, of all
    that have it ahead. None where the run's scene is gone.
    """
    if run.datamanager.absent is not None:
        return None
    count = len(run.datamanager.names("train"))
    chosen = spread_views(count, _MOST_VIEWS)
    cameras = [to_camera(run.model.corrected(run.datamanager.camera(view))) for view in chosen]
    viewmats = torch.stack([camera.viewmat.double().cpu() for camera in cameras])
    lenses = torch.stack([camera.K.double().cpu() for camera in cameras])
    sizes = torch.tensor([[camera.width, camera.height] for camera in cameras])

    def pixel(place: Tensor) -> float:
        seen = viewmats[:, :3, :3] @ place.double().cpu() + viewmats[:, :3, 3]
        depth = seen[:, 2]
        shown = (lenses @ seen[:, :, None])[:, :2, 0] / depth[:, None]
        ahead = depth > 0
        inside = ahead & ((shown >= 0) & (shown < sizes)).all(dim=1)
        asked = inside if bool(inside.any()) else ahead
        if not bool(asked.any()):
            return 0.0
        return float((depth / lenses[:, 0, 0])[asked].median())

    return pixel
