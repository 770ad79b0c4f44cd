"""From overlapping masks to one label a pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gseg_ns.masks.label_runs import LabelRuns
from gseg_ns.masks.mask_set import MaskSet, nearest_index

_BAND = 2**20
"""Entries of a table that are looked at together."""

PaintOrder = Literal["confidence", "largest", "smallest"]
"""Which mask is on top where masks overlap."""


def paint(
    masks: MaskSet,
    order: PaintOrder = "confidence",
    min_score: float = 0.5,
    min_visible: float = 0.1,
) -> Tensor:
    """Paint overlapping masks into a label map, as Gaga does (Sec. 3.1 and its `get_raw_mask.py`).

    Masks below `min_score` are left out. The others are painted so that the first in `order` is on top. A mask of which
    only `min_visible` of its area or less stayed visible is dropped: its pixels become 0 and are not handed to the mask
    beneath. The remaining ones are numbered 1..n by falling score. Of equals, the earlier in the file is on top and has
    the smaller number.

    Args:
        masks: the masks of one image.
        order: the most confident mask on top (the paper), or the largest (coarse objects),
            or the smallest (fine parts).
        min_score: smallest predicted IoU of a mask that is painted.
        min_visible: fraction of its area that must be visible for a mask to stay, exclusive.

    Returns:
        int32 [H, W], 0 = no mask. Any number of labels.
    """
    return paint_runs(masks, order, min_score, min_visible).image()


def paint_runs(
    masks: MaskSet,
    order: PaintOrder = "confidence",
    min_score: float = 0.5,
    min_visible: float = 0.1,
) -> LabelRuns:
    """As `paint`, without an image of pixels: the work is that of the masks' run lengths."""
    painted = _painted(masks, order, min_score, min_visible)
    if painted is None:
        return LabelRuns.from_stretches(masks.height, masks.width, np.zeros(1, np.int64), np.zeros(1, np.uint8))
    kept, rank, top_rank = painted
    starts, region, _ = masks.partition
    label_by_rank = torch.zeros(len(masks) + 1, dtype=torch.int32)
    label_by_rank[rank[kept]] = torch.arange(1, len(kept) + 1, dtype=torch.int32)
    return LabelRuns.from_stretches(masks.height, masks.width, starts, label_by_rank[top_rank].numpy()[region])


def painted_masks(
    masks: MaskSet,
    order: PaintOrder = "confidence",
    min_score: float = 0.5,
    min_visible: float = 0.1,
) -> Tensor:
    """Which masks the labels 1, 2, ... of `paint` are: int64 [labels], the place of each among the masks."""
    painted = _painted(masks, order, min_score, min_visible)
    return torch.zeros(0, dtype=torch.long) if painted is None else painted[0]


def _painted(
    masks: MaskSet, order: PaintOrder, min_score: float, min_visible: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The masks that stay, by falling score; the rank of each mask [M], 0 on top; and of each region the rank of the
    mask on top of it [R]. None where there are no masks to paint.
    """
    starts, region, members = masks.partition
    height, width = masks.height, masks.width
    usable = (masks.scores >= min_score) & (masks.areas > 0)
    if not bool(usable.any()):
        return None
    key = {"confidence": masks.scores.double(), "largest": masks.areas, "smallest": -masks.areas}[order]
    # Position 0 is on top; unusable masks are past the end.
    by_order = torch.argsort(key, descending=True, stable=True)
    rank = torch.empty_like(by_order)
    rank[by_order] = torch.arange(len(masks))
    rank = torch.where(usable, rank, len(masks))

    few = members.split(max(1, _BAND // len(masks)))
    top_rank = torch.cat([torch.where(some, rank, len(masks)).amin(dim=1) for some in few])  # [R]
    lengths = torch.from_numpy(np.diff(starts, append=height * width))
    sizes = torch.zeros(len(members), dtype=torch.long).index_add_(0, torch.from_numpy(region).long(), lengths)  # [R]
    visible_by_rank = torch.zeros(len(masks) + 1, dtype=sizes.dtype).index_add_(0, top_rank, sizes)
    visible = visible_by_rank[rank]  # [M]
    kept = usable & (visible.double() > min_visible * masks.areas.double())

    by_score = torch.argsort(masks.scores, descending=True, stable=True)
    return by_score[kept[by_score]], rank, top_rank


def resize_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Nearest-neighbour resize of a label map [H, W]; pixel centres correspond."""
    if tuple(labels.shape) == (height, width):
        return labels
    source = nearest_index(labels.shape[0], labels.shape[1], height, width).to(labels.device)
    return labels.flatten()[source]
