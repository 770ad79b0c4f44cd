"""Boundary IoU: overlap counted near outlines only, where large objects hide their errors (Cheng et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.evaluation.overlap import IdMaps, as_ids, count_overlaps, resize_nearest

BOUNDARY_RATIO = 0.02
"""Width of the boundary as a share of the image's diagonal. Some papers use 0.008: state it where it differs."""

_INSIDE = -(2**62)
"""Stands for "not on a boundary"; no label map holds it."""


def boundary_width(height: int, width: int, ratio: float = BOUNDARY_RATIO) -> int:
    """Boundary width in pixels: ratio times the diagonal, rounded, at least 1."""
    return max(1, round(ratio * float(np.hypot(height, width))))


def boundary(mask: Tensor | np.ndarray[Any, Any], ratio: float = BOUNDARY_RATIO) -> Tensor:  # [H, W] -> bool [H, W]
    """The mask less its erosion: pixels of the mask within `boundary_width` of anything outside.

    Erosion is by a 3x3 square once for each pixel of width, after padding with 0: where the image cuts the mask is
    boundary too.
    """
    ids = as_ids(mask) != 0
    return label_boundary(ids.to(torch.int64), ratio) & ids


def label_boundary(ids: Tensor, ratio: float = BOUNDARY_RATIO) -> Tensor:  # int [H, W] -> bool [H, W]
    """Which pixels lie on the boundary of their own label, for all labels at once.

    Equal to `boundary(ids == i)` at the pixels of every label i: such a pixel is on it when the square that reaches
    `boundary_width` to every side holds another label or leaves the image.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    height, width = ids.shape
    reach = boundary_width(height, width, ratio)
    array = ids.cpu().numpy()
    size = 2 * reach + 1
    same = minimum_filter(array, size, mode="nearest") == maximum_filter(array, size, mode="nearest")
    inner = np.zeros((height, width), dtype=bool)
    inner[reach : max(height - reach, reach), reach : max(width - reach, reach)] = True
    return torch.from_numpy(~(same & inner)).to(ids.device)


def boundary_iou(
    pred: Tensor | np.ndarray[Any, Any], gt: Tensor | np.ndarray[Any, Any], ratio: float = BOUNDARY_RATIO
) -> float:
    """Boundary IoU of two masks.

    Args:
        pred: bool [H, W]; resized (nearest) to `gt` where it differs in size.
        gt: bool [H, W].
        ratio: boundary width as a share of the diagonal.

    Returns:
        percent; NaN where both masks are empty.
    """
    truth = as_ids(gt) != 0
    guess = resize_nearest(as_ids(pred).to(truth.device), *truth.shape) != 0
    return iou_percent(boundary(guess, ratio), boundary(truth, ratio))


def iou_percent(pred: Tensor, gt: Tensor) -> float:  # bool, bool of one shape
    """IoU of two masks in percent; NaN where both are empty."""
    union = int((pred | gt).sum())
    return 100 * int((pred & gt).sum()) / union if union else float("nan")


def mean_boundary_iou(
    pred: IdMaps,
    gt: IdMaps,
    matches: Mapping[int, int],
    ratio: float = BOUNDARY_RATIO,
    ignore_gt: tuple[int, ...] = (0,),
) -> float:
    """MBIoU of label maps: boundary IoU of each ground-truth label with the prediction matched to it.

    The mean over ground-truth labels of the mean over the views where either outline shows. Labels of `gt` that
    `matches` lacks count 0.

    Args:
        pred: predicted ids, [V, H, W] or a sequence of [H, W]; resized (nearest) to the ground truth.
        gt: ground-truth ids of the same views.
        matches: ground-truth id -> predicted id, e.g. from the `pairs` of `evaluate_instances`.
        ratio: boundary width as a share of the diagonal.
        ignore_gt: void ground-truth ids: no instances, and their pixels are not looked at.

    Returns:
        percent; 0 where there is no label.

    Raises:
        ValueError: as `count_overlaps`.
    """
    if len(pred) != len(gt):
        raise ValueError(f"{len(pred)} predicted views, but {len(gt)} of ground truth")
    pred_outlines, gt_outlines = [], []
    for pred_map, gt_map in zip(pred, gt, strict=True):
        g = as_ids(gt_map)
        p = resize_nearest(as_ids(pred_map).to(g.device), *g.shape)
        void = torch.isin(g, torch.tensor(ignore_gt, dtype=torch.int64, device=g.device))
        pred_outlines.append(torch.where(label_boundary(p, ratio), p, _INSIDE))
        gt_outlines.append(torch.where(label_boundary(g, ratio) | void, g, _INSIDE))
    overlaps = count_overlaps(pred_outlines, gt_outlines, ignore_gt=ignore_gt, ignore_pred=(_INSIDE,))
    rows = [(row, int(i)) for row, i in enumerate(overlaps.gt_ids) if int(i) != _INSIDE]
    column = {int(i): c for c, i in enumerate(overlaps.pred_ids)}
    sums: dict[int, list[float]] = {i: [] for _, i in rows}
    for view in range(len(overlaps)):
        table = overlaps.view(view)
        gt_area, pred_area = table.sum(dim=1), table.sum(dim=0)
        for row, i in rows:
            c = column.get(matches[i]) if i in matches else None
            shared = int(table[row, c]) if c is not None else 0
            union = int(gt_area[row]) + (int(pred_area[c]) if c is not None else 0) - shared
            if union:
                sums[i].append(100 * shared / union)
    means = [sum(values) / len(values) for values in sums.values() if values]
    return sum(means) / len(means) if means else 0.0
