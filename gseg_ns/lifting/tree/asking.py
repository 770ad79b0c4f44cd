"""What a view says of its overlapping masks."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from gseg_ns.lifting.tree.borders import WIDTH
from gseg_ns.lifting.votes import ViewVotes, view_votes
from gseg_ns.rendering import top_contributors


class MaskVotes(NamedTuple):
    """What one view says."""

    regions: ViewVotes
    """For the regions of its masks (`MaskSet.regions`), region 0 among them."""
    foremost: Tensor
    """int [h, w], the foremost Gaussian of each pixel of a picture about `WIDTH` wide, -1 where nothing is drawn."""
    painted: ViewVotes | None
    """For its label map, where one was given."""


def mask_votes(meta: dict[str, Any], regions: Tensor, labels: Tensor | None = None) -> MaskVotes:
    """Ask a view, which is composited for each of the questions.

    Args:
        meta: its projection.
        regions: [H, W] int, on the device of the Gaussians.
        labels: its masks painted into one map [H, W] int, there too.
    """
    step = -(-regions.shape[1] // WIDTH)
    return MaskVotes(
        view_votes(meta, regions),
        top_contributors(meta)[0][::step, ::step].int().cpu(),
        None if labels is None else view_votes(meta, labels),
    )
