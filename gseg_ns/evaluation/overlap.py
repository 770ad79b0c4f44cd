"""How many pixels each pair of labels shares: the one table that every label metric is computed from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

IdMaps = Tensor | np.ndarray[Any, Any] | Sequence[Tensor | np.ndarray[Any, Any]]
"""Label maps of V views: integers [V, H, W], or a sequence of V maps [H, W] whose sizes may differ."""

_DENSE_IDS = 2**20


@dataclass(frozen=True)
class Overlaps:
    """Pixel counts of all pairs of ground-truth and predicted labels, view by view.

    Made by `count_overlaps`. Kept sparse: a view shows few of the pairs.
    """

    gt_ids: Tensor
    """Ground-truth ids that occur, ascending. int64 [G]."""
    pred_ids: Tensor
    """Predicted ids that occur, ascending. int64 [P]."""
    cells: tuple[tuple[Tensor, Tensor], ...]
    """For each view the nonzero cells of its table [G, P + 1], flattened: indices and counts, int64 [n]."""

    def __len__(self) -> int:
        return len(self.cells)

    def view(self, index: int) -> Tensor:
        """Pixels of one view: int64 [G, P + 1]. The last column counts pixels without a predicted instance."""
        table = torch.zeros(len(self.gt_ids) * (len(self.pred_ids) + 1), dtype=torch.int64)
        cells, counts = self.cells[index]
        table[cells] = counts
        return table.reshape(len(self.gt_ids), len(self.pred_ids) + 1)

    def total(self) -> Tensor:
        """Pixels of all views together, as if they were one image: int64 [G, P + 1]."""
        table = torch.zeros(len(self.gt_ids) * (len(self.pred_ids) + 1), dtype=torch.int64)
        for cells, counts in self.cells:
            table[cells] += counts
        return table.reshape(len(self.gt_ids), len(self.pred_ids) + 1)


def count_overlaps(
    pred: IdMaps, gt: IdMaps, ignore_gt: Collection[int] = (), ignore_pred: Collection[int] = ()
) -> Overlaps:
    """Count the pixels that every ground-truth label shares with every predicted label.

    A prediction of another size than its ground truth is resized to it (nearest pixel centre), as every published
    protocol here does.

    Args:
        pred: predicted ids of V views.
        gt: ground-truth ids of the same V views.
        ignore_gt: ground-truth ids whose pixels are void: left out of both maps.
        ignore_pred: predicted ids that mean "no instance": their pixels count as missed by every prediction.

    Raises:
        ValueError: different numbers of views, no view, maps that are not 2-D integers.
    """
    if len(pred) != len(gt):
        raise ValueError(f"{len(pred)} predicted views, but {len(gt)} of ground truth")
    if len(gt) == 0:
        raise ValueError("no view to evaluate")
    pairs = []
    for pred_map, gt_map in zip(pred, gt, strict=True):
        g = as_ids(gt_map)
        p = resize_nearest(as_ids(pred_map), g.shape[0], g.shape[1])
        g, p = g.flatten(), p.flatten()
        if ignore_gt:
            keep = ~_is_in(g, ignore_gt)
            g, p = g[keep], p[keep]
        pairs.append((g, p))
    gt_ids = _unique([g for g, _ in pairs])
    pred_ids = _unique([p for _, p in pairs])
    if ignore_pred:
        pred_ids = pred_ids[~_is_in(pred_ids, ignore_pred)]
    columns = len(pred_ids) + 1
    cells = []
    for g, p in pairs:
        flat = _index(g, gt_ids, 0) * columns + _index(p, pred_ids, len(pred_ids))
        table = torch.bincount(flat, minlength=len(gt_ids) * columns).cpu()
        nonzero = table.nonzero()[:, 0]
        cells.append((nonzero, table[nonzero]))
    return Overlaps(gt_ids, pred_ids, tuple(cells))


def as_ids(ids: Tensor | np.ndarray[Any, Any]) -> Tensor:  # [H, W]
    """A label map as int64 [H, W].

    Raises:
        ValueError: it is not 2-D, or not of integers (bool counts as 0 and 1).
    """
    if isinstance(ids, np.ndarray):
        if ids.dtype.kind not in "iub":
            raise ValueError(f"a label map holds integers, not {ids.dtype}")
        ids = torch.from_numpy(ids.astype(np.int64))
    if ids.ndim != 2:
        raise ValueError(f"a label map has two dimensions, not shape {tuple(ids.shape)}")
    if ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"a label map holds integers, not {ids.dtype}")
    return ids.to(torch.int64)


def resize_nearest(ids: Tensor, height: int, width: int) -> Tensor:  # [H, W] -> [height, width]
    """The label map at another size: each new pixel takes the old pixel that its centre falls into."""
    if tuple(ids.shape) == (height, width):
        return ids
    rows = ((torch.arange(height, device=ids.device) + 0.5) * (ids.shape[0] / height)).long()
    columns = ((torch.arange(width, device=ids.device) + 0.5) * (ids.shape[1] / width)).long()
    return ids[rows.clamp(max=ids.shape[0] - 1)][:, columns.clamp(max=ids.shape[1] - 1)]


def _is_in(ids: Tensor, values: Collection[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(sorted(values), dtype=torch.int64, device=ids.device))


def _unique(maps: list[Tensor]) -> Tensor:
    """All ids that occur, ascending, on the CPU. Small ids are counted, which is faster than sorting pixels."""
    found = []
    for ids in maps:
        if ids.numel() == 0:
            continue
        if int(ids.min()) >= 0 and int(ids.max()) < _DENSE_IDS:
            found.append(torch.bincount(ids).nonzero()[:, 0].cpu())
        else:
            found.append(torch.unique(ids).cpu())
    return torch.unique(torch.cat(found)) if found else torch.zeros(0, dtype=torch.int64)


def _index(ids: Tensor, known: Tensor, other: int) -> Tensor:
    """Position of each id in the ascending `known`, or `other` where it is not there."""
    if len(known) == 0:
        return torch.full_like(ids, other)
    known = known.to(ids.device)
    position = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
    return torch.where(known[position] == ids, position, other)
