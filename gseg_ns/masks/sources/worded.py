"""Masks that words name, as a source gives them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gseg_ns.masks.mask_set import MaskSet

REST = 0.5
"""Score of the mask of all that no word names, at which those of the others begin: it is below, and painted too."""


def with_rest(
    found: Sequence[NDArray[np.bool_]],
    scores: Sequence[float],
    records: Sequence[dict[str, Any]],
    size: tuple[int, int],
    rest: dict[str, Any] | None = None,
) -> MaskSet:
    """Masks in falling order of score, and one of all that is left, which is called nothing.

    Without that, what lies around an object would belong to it, for nothing else is said of it. What a model thinks it
    found, however sure it is, is wanted, and scores of masks below 0.5 are not painted: 0 to 1 become `REST` to 1, and
    the model's own stays in the record as `confidence`.

    Args:
        found: [H, W] each.
        scores: of them, 0 to 1.
        records: of them.
        size: H and W.
        rest: further record of what is left.
    """
    arrays = np.stack([np.zeros(size, dtype=bool), *found])[1:]
    left = np.logical_not(arrays.any(axis=0))
    records = [{**record, "confidence": round(float(score), 4)} for record, score in zip(records, scores, strict=True)]
    scores = [REST + (1 - REST) * float(score) for score in scores]
    if left.any():
        arrays = np.concatenate([arrays, np.expand_dims(left, 0)])
        scores, records = [*scores, REST], [*records, {"label": "", **(rest or {})}]
    kept = MaskSet.from_arrays(arrays, scores, records)
    kept = kept.select(kept.areas > 0)
    return kept.select(torch.argsort(kept.scores, descending=True, stable=True))
