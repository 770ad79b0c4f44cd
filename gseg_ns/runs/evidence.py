"""What the training views of a run say of its objects: see `gseg_ns.objects`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.objects import Evidence, gather_evidence

if TYPE_CHECKING:
    from gseg_ns.rendering import Camera
    from gseg_ns.runs.run import Run

MOST_VIEWS = 100
"""So many views are asked at most, evenly drawn; each is rendered once."""

LONGEST = 512
"""Pixels of the longer side in which they are asked: what floats shows there, too."""


@torch.no_grad()
def run_evidence(
    run: Run, scale: float | None = None, track: Callable[[list[int]], Iterable[int]] = iter
) -> Evidence | None:
    """Ask the training views of a run about its Gaussians, before any edits.

    Args:
        run: a trained run.
        scale: at which groups are meant, for methods that have scales.
        track: wraps the list of views while it is worked through, for a progress bar.

    Returns:
        What they say; None where the run has no group, or its scene is gone.
    """
    groups = run.model.gaussian_groups(scale)
    if run.datamanager.absent is not None or not bool((groups > 0).any()):
        return None
    count = len(run.datamanager.names("train"))
    chosen = torch.linspace(0, count - 1, min(count, MOST_VIEWS)).round().long().tolist()

    def views() -> Iterator[tuple[Camera, Tensor]]:
        for view in track(chosen):
            camera = copy.deepcopy(run.datamanager.camera(view))
            longest = max(int(camera.width.max()), int(camera.height.max()))
            if longest > LONGEST:
                camera.rescale_output_resolution(LONGEST / longest)
            camera = run.model.corrected(camera).to(run.model.device)
            yield to_camera(camera), run.model.label_image(camera, scale)

    return gather_evidence(run.model.splats(), groups, views())
