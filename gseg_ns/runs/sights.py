"""What the training views of a run show of its objects' surfaces: see `gseg_ns.proxies.sights`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.data.photographs import view_colors
from gseg_ns.proxies import Seen, Sight
from gseg_ns.rendering import composite
from gseg_ns.runs.edited_run import MOSTLY
from gseg_ns.runs.evidence import asked_numbers, asked_views
from gseg_ns.splats.projection import project_splats

if TYPE_CHECKING:
    from gseg_ns.runs.edited_run import EditedRun
    from gseg_ns.runs.run import Run
    from gseg_ns.splats.objects import Standing

_SHOWN = 0.5
"""Of a pixel that Gaussians cover, for it to show anything."""
_STILL = 0.99
"""Share of an object's Gaussians that edits left in their places, for views to show where it is."""


@torch.no_grad()
def run_sights(
    run: Run, scale: float | None = None, track: Callable[[list[int]], Iterable[int]] = iter
) -> tuple[Sight, ...]:
    """Ask the training views of a run, before any edits, what they show and how far away it is.

    Args:
        run: of any method.
        scale: at which groups are meant, for methods that have scales.
        track: wraps the list of views while it is worked through, for a progress bar.

    Returns:
        One of each view; none where the run's scene is gone.
    """
    if run.datamanager.absent is not None:
        return ()
    model, splats, cameras = run.model, run.model.splats(), asked_views(run)
    sights, numbers = [], asked_numbers(run)
    for place in track(list(range(len(cameras)))):
        camera = model.corrected(cameras[place]).to(model.device)
        labels, view = model.label_image(camera, scale), to_camera(camera)
        meta = project_splats(splats, view.to(splats.device))
        depths = meta["depths"].reshape(-1, 1)
        drawn, covered = composite(meta, torch.cat([depths, torch.ones_like(depths)], dim=1)).unbind(dim=2)
        depth = torch.where(covered > _SHOWN, drawn / covered.clamp_min(_SHOWN), torch.inf)
        photograph = view_colors(run.datamanager, numbers[place], *depth.shape)
        sights.append(
            Sight(
                view.to("cpu"),
                labels.int().cpu().numpy(),
                depth.float().cpu().numpy(),
                None if photograph is None else photograph.numpy(),
            )
        )
    return tuple(sights)


class Sighted:
    """Which objects of an export training views show, where its files have them."""

    def __init__(self, sights: tuple[Sight, ...], edited: EditedRun, rows: Tensor) -> None:
        """
        Args:
            sights: of the run.
            edited: the run, edited.
            rows: int64 [n], which rows of its scene the objects' Gaussians are.
        """
        scene, groups = edited.scene, edited.groups
        source = scene.source.clamp_min(0)
        still = (scene.source >= 0) & (scene.splats.means == edited.splats.means[source]).all(dim=1)
        rows = rows.to(groups.device)
        self._sights = sights
        self._names = torch.where(still, groups, 0)[rows].cpu()
        self._sizes = torch.bincount(edited.run.model.gaussian_groups(edited.scale).cpu())

    def seen(self, standing: Standing) -> Seen | None:
        """What views show of an object; None of one that was moved, or is less than half of what they show."""
        if not self._sights:
            return None
        names, counts = self._names[standing.rows.cpu()].unique(return_counts=True)
        name, count = int(names[counts.argmax()]), int(counts.max())
        if name == 0 or count < max(_STILL * len(standing.rows), MOSTLY * int(self._sizes[name])):
            return None
        placement = standing.placement
        return Seen(self._sights, name, placement.rotation, placement.translation, placement.scale)
