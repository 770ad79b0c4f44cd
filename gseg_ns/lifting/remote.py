"""What a view says of Gaussians, asked on another machine."""

from __future__ import annotations

from gseg_ns.lifting.tree.asking import MaskVotes, mask_votes
from gseg_ns.lifting.votes import ViewVotes, view_votes
from gseg_ns.masks import LabelRuns
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats


def ask_view(splats: Splats, camera: Camera, labels: LabelRuns) -> ViewVotes:
    """`view_votes` of a view, on the CPU.

    Args:
        splats: all Gaussians.
        camera: of the view.
        labels: its label map.
    """
    return view_votes(project_splats(splats, camera), labels.image())


def ask_masks(splats: Splats, camera: Camera, regions: LabelRuns, labels: LabelRuns | None) -> MaskVotes:
    """`mask_votes` of a view, on the CPU.

    Args:
        splats: all Gaussians.
        camera: of the view.
        regions: of its overlapping masks.
        labels: its label map, if it is asked about that, too.
    """
    meta = project_splats(splats, camera)
    return mask_votes(meta, regions.image(), None if labels is None else labels.image())
