"""Whether masks are of all sizes, one within the other, or one a thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
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
_BLOCK = 2**22
"""Entries of the table of regions and masks that are looked at together."""


def nested(masks: MaskSet) -> Tensor:
    """Which masks lie within a larger one: bool [M]."""
    starts, region, members = masks.partition
    lengths = np.diff(np.append(starts, masks.height * masks.width))
    pixels = np.bincount(region, lengths, minlength=len(members)).astype(np.int64)
    # Sparse, since few masks cover a region, and some regions at a time: where many do, in bounded memory.
    common = csr_array((len(masks), len(masks)), dtype=np.int64)
    step = max(_BLOCK // max(len(masks), 1), 1)
    for first in range(0, len(members), step):
        covers = csr_array(members[first : first + step].numpy()).astype(np.int64)
        weights = np.repeat(pixels[first : first + step], np.diff(covers.indptr))
        common = common + covers.T @ csr_array((weights, covers.indices, covers.indptr), shape=covers.shape)
    own, pairs = common.diagonal(), common.tocoo()
    small, large = pairs.row, pairs.col
    within = np.zeros(len(masks), dtype=bool)
    within[small[(pairs.data > _WITHIN * own[small]) & (own[small] < _ONE * own[large])]] = True
    return torch.from_numpy(within)


def masks_nest(files: Sequence[MaskFile], min_score: float = 0.0) -> bool:
    """Whether most photographs have a mask within a larger one; label maps have none.

    Args:
        files: masks of a photograph each.
        min_score: masks below it are not looked at.

    Raises:
        GsegError: a file is damaged.
    """
    # Not every so-and-so-many: cameras of a rig take turns.
    places = np.linspace(0, len(files) - 1, min(len(files), _LOOKED_AT)).round().astype(int)
    chosen = [files[place] for place in places]
    found = 0
    for place, file in enumerate(chosen):
        if 2 * found > len(chosen) or 2 * (found + len(chosen) - place) <= len(chosen):
            break  # the others cannot change it
        found += not file.is_label_map and _has_nested(file, min_score)
    return 2 * found > len(chosen)


def _has_nested(file: MaskFile, min_score: float) -> bool:
    masks = load_masks(file)
    return bool(nested(masks.select(masks.scores >= min_score)).any())
