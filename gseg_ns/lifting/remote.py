"""What a view says of Gaussians, asked on another machine."""

from __future__ import annotations

from torch import Tensor

from gseg_ns.lifting.hidden import shown_share
from gseg_ns.lifting.tree.asking import MaskVotes, mask_votes
from gseg_ns.lifting.votes import ViewVotes, view_votes
from gseg_ns.masks import LabelRuns
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats


def ask_view(splats: Splats, camera: Camera, labels: LabelRuns) -> tuple[ViewVotes, Tensor]:
    """`view_votes` and `shown_share` of a view, on the CPU.

    Args:
        splats: all Gaussians.
        camera: of the view.
        labels: its label map.
    """
    meta = project_splats(splats, camera)
    votes = view_votes(meta, labels.image())
    return votes, shown_share(meta, votes)


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
