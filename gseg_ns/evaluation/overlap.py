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
        pairs.append((g.flatten(), resize_nearest(as_ids(pred_map).to(g.device), g.shape[0], g.shape[1]).flatten()))
    gt_known, pred_known = _Known([g for g, _ in pairs], ignore_gt), _Known([p for _, p in pairs], ignore_pred)
    rows, columns = len(gt_known.ids), len(pred_known.ids) + 1
    cells = []
    for g, p in pairs:
        # Ignored ground truth falls into one more row, which is cut off.
        flat = gt_known.index(g) * columns + pred_known.index(p)
        table = torch.bincount(flat, minlength=(rows + 1) * columns)[: rows * columns].cpu()
        nonzero = table.nonzero()[:, 0]
        cells.append((nonzero, table[nonzero]))
    return _without_unseen(Overlaps(gt_known.ids, pred_known.ids, tuple(cells)))


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


class _Known:
    """The ids that occur in some maps, and the position of each."""

    def __init__(self, maps: list[Tensor], ignore: Collection[int]) -> None:
        filled = [ids for ids in maps if ids.numel()]
        low = min((int(ids.min()) for ids in filled), default=0)
        span = max((int(ids.max()) for ids in filled), default=0) - low + 1
        # Ids close together are looked up in a table, which is much faster than sorting and searching pixels.
        self._low, self._dense = low, span <= _DENSE_IDS
        if self._dense:
            seen = torch.zeros(span, dtype=torch.bool)
            for ids in filled:
                seen |= (torch.bincount(ids - low, minlength=span) > 0).cpu()
            found = seen.nonzero()[:, 0] + low
        else:
            found = torch.unique(torch.cat([torch.unique(ids).cpu() for ids in filled]))
        skip = torch.tensor(sorted(ignore), dtype=torch.int64)
        self.ids = found[~torch.isin(found, skip)]
        self._table = torch.full((span if self._dense else 1,), len(self.ids), dtype=torch.int64)
        if self._dense:
            self._table[self.ids - low] = torch.arange(len(self.ids))

    def index(self, ids: Tensor) -> Tensor:
        """Position of each id in `self.ids`; their number for ignored ids."""
        if self._dense:
            return self._table.to(ids.device)[ids - self._low]
        if len(self.ids) == 0:
            return torch.zeros_like(ids)
        known = self.ids.to(ids.device)
        position = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
        return torch.where(known[position] == ids, position, len(known))


def _without_unseen(overlaps: Overlaps) -> Overlaps:
    """Without predicted ids that lie on void ground truth only."""
    columns = len(overlaps.pred_ids) + 1
    seen = torch.zeros(columns, dtype=torch.bool)
    for cells, _ in overlaps.cells:
        seen[cells % columns] = True
    seen[-1] = True
    if bool(seen.all()):
        return overlaps
    position = seen.long().cumsum(0) - 1
    kept = int(seen.sum())
    return Overlaps(
        overlaps.gt_ids,
        overlaps.pred_ids[seen[:-1]],
        tuple((cells // columns * kept + position[cells % columns], counts) for cells, counts in overlaps.cells),
    )
