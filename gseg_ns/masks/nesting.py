"""Whether masks are of all sizes, one within the other, or one a thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gseg_ns.masks.load import load_masks
from gseg_ns.masks.mask_file import MaskFile
from gseg_ns.masks.mask_set import MaskSet

_LOOKED_AT = 12
"""Views that are looked at, evenly spread: a segmenter divides all photographs in one way."""
_WITHIN = 0.5
"""Part of a mask that lies in a larger one, from which the larger one holds it: less is a border that both claim."""
_ONE = 0.9
"""Of two masks as large as this, one for the other, neither is a part: they are two attempts at one thing."""


def nested(masks: MaskSet) -> Tensor:
    """Which masks lie within a larger one: bool [M]."""
    starts, region, members = masks.partition
    lengths = np.diff(np.append(starts, masks.height * masks.width))
    pixels = np.bincount(region, lengths, minlength=len(members))
    covers = members.numpy().astype(np.float64)
    common = covers.T @ (pixels[:, None] * covers)
    own = np.diagonal(common)
    holds = (common > _WITHIN * own[:, None]) & (own[:, None] < _ONE * own[None])
    return torch.from_numpy(holds.any(axis=1))


def masks_nest(files: Sequence[MaskFile]) -> bool:
    """Whether most photographs have a mask within a larger one; label maps have none.

    Args:
        files: masks of a photograph each.

    Raises:
        GsegError: a file is damaged.
    """
    # Not every so-and-so-many: cameras of a rig take turns.
    places = np.linspace(0, len(files) - 1, min(len(files), _LOOKED_AT)).round().astype(int)
    chosen = [files[place] for place in places]
    found = [not file.is_label_map and bool(nested(load_masks(file)).any()) for file in chosen]
    return 2 * sum(found) > len(found)
