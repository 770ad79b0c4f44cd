"""Mixed pixels: those of masked views where labels contend, what they see, and what they should say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import PixelWeights, dominant_labels, pixel_weights, threads
from gseg_ns.rendering.kernels import strengths as kernels
from gseg_ns.rendering.snapping import snap_labels

MIXED = 0.99
"""A pixel is mixed if its foremost label has less than this part of the weight 1: others have little to gain or lose,
and are left out. Masks are not asked: pixels chosen for being wrong would be mended at the cost of those that are right
(small room: 94.3 instead of 96.8). 0.95 loses 0.1."""

SPARE = 1.1
"""Where pixels of a view have to be left out, somewhat more are asked than a sample says have room."""

FAINT = 1e-3
"""Weights of a pixel below it are left out: two fifths of all, and half a percent of what they add up to."""


class Runs(NamedTuple):
    """Where weights of one label lie in rows, see `by_label`."""

    begins: Tensor  # [R + 1] int64
    labels: Tensor  # [runs] int32
    ends: Tensor  # [runs] int64


class Rows(NamedTuple):
    """Mixed pixels of some views: what they see, and what they should say."""

    crow: Tensor  # [R + 1] int64
    col: Tensor  # [nnz] int32, Gaussians
    val: Tensor  # [nnz] float32
    targets: Tensor  # [R] int32, from 1
    runs: Runs | None = None
    """Of rows that are on the CPU."""

    def __len__(self) -> int:
        return len(self.targets)

    def saying(self, targets: Tensor) -> Rows:
        """The same pixels with other targets [R]."""
        return Rows(self.crow, self.col, self.val, targets, self.runs)


class Gathered(NamedTuple):
    """The mixed pixels of some views."""

    rows: Rows
    """Those of each view in random order."""
    spans: np.ndarray
    """[views, 2] int64, between which rows those of each view are."""
    snapped: Tensor | None
    """[R] int32, what they should say by masks whose borders are moved to those of color; None without photographs."""


def gather(
    labels: Tensor,
    num_labels: int,
    count: int,
    ask: Callable[[int], tuple[dict[str, Any], Tensor]],
    photograph: Callable[[int, int, int], Tensor | None] | None,
    max_bytes: float,
    seed: int,
    progress: Callable[[], None],
) -> Gathered:
    """Project every view once, and keep what its mixed pixels see.

    Args:
        labels: [N] int, the label of each Gaussian, 0 = none.
        num_labels: K, 0 included.
        count: number of views.
        ask: the projection (`gseg_ns.rendering.project`) of a view, and its label map [H, W], 0 = unlabelled.
        photograph: the photograph [H, W, 3] of a view at a height and width, see `snap_labels`; None where it has none.
        max_bytes: memory of weights; beyond it fewer pixels of each view take part.
        seed: of their order.
        progress: called after each view.
    """
    generator = torch.Generator().manual_seed(seed)
    share = int(max_bytes / count / 8)  # weights of a view
    # Written in place: parts that are put together later take memory twice. What is not written takes none on the CPU.
    col = torch.empty(share * count, dtype=torch.int32, device=labels.device)
    val = torch.empty(len(col), device=labels.device)
    lengths: list[Tensor] = []
    said: list[Tensor] = []
    snapped: list[Tensor] = []
    used, has_photographs = 0, False
    length = np.inf  # of a row, in the view before
    for view in range(count):
        meta, targets = ask(view)
        device = meta["means2d"].device
        winners, weights = dominant_labels(meta, labels)
        flat = targets.flatten().to(device)
        known = (flat > 0) & (flat < num_labels)
        mixed = (known & (weights.flatten() < MIXED) & (winners.flatten() > 0)).nonzero().squeeze(1).cpu()
        # In random order, so that steps read what lies side by side: memory answers that several times faster.
        mixed = mixed[torch.randperm(len(mixed), generator=generator)]
        if len(mixed) and len(mixed) * length > share / 2:  # they may not have room
            probe = _plain(pixel_weights(meta, mixed[:256]))
            mixed = mixed[: int(SPARE * share * max(len(probe), 1) / max(len(probe.col), 1))]
        found = _plain(pixel_weights(meta, mixed))
        if len(found):  # a view without mixed pixels says nothing of the next one's
            length = len(found.col) / len(found)
        fitting = int((found.crow <= share).sum()) - 1  # rows that have room
        size = int(found.crow[fitting])
        col[used : used + size] = found.col[:size]
        val[used : used + size] = found.val[:size]
        used += size
        lengths.append(found.crow[: fitting + 1].diff())
        mixed = mixed[:fitting]
        said.append(flat[mixed.to(device)].int())
        snapped.append(said[-1])
        colors = photograph(view, *targets.shape) if photograph is not None and fitting else None
        if colors is not None:
            chosen = torch.zeros(targets.shape, dtype=torch.bool)
            chosen.view(-1)[mixed] = True
            # Without pixels whose label no Gaussian has: they are none of the choices.
            choices = torch.where(known.view(targets.shape), targets.to(device), 0).int().cpu()
            snapped[-1] = snap_labels(choices, colors, chosen).flatten()[mixed].to(device)
            has_photographs = True
        progress()
    ends = np.cumsum([0, *map(len, said)])
    crow = torch.cat([torch.zeros(1, dtype=torch.long, device=labels.device), torch.cat(lengths).cumsum(0)])
    rows = Rows(crow, col[:used], val[:used], torch.cat(said))
    spans = np.stack([ends[:-1], ends[1:]], axis=1)
    return Gathered(by_label(rows, labels, num_labels), spans, torch.cat(snapped) if has_photographs else None)


def _plain(found: PixelWeights) -> PixelWeights:
    """The weights that are not faint."""
    kept = found.val >= FAINT
    before = torch.cat([found.crow.new_zeros(1), kept.cumsum(0)])
    return PixelWeights(before[found.crow], found.col[kept], found.val[kept], found.num_gaussians)


def drawn(spans: np.ndarray, at: int, size: int) -> Tensor:
    """The rows of a step: of each view the next ones, as many as is its part of all rows.

    Args:
        spans: [views, 2] between which rows those of each view are, in random order.
        at: rows drawn before; where a view has no more, it begins anew.
        size: how many rows, but for what rounding adds or takes.

    Returns:
        int64, on the CPU.
    """
    lengths = np.diff(spans)[:, 0]
    total = max(int(lengths.sum()), 1)
    first = at * lengths // total
    counts = (at + size) * lengths // total - first
    turns = np.arange(counts.sum()) + np.repeat(first - (counts.cumsum() - counts), counts)
    return torch.from_numpy(np.repeat(spans[:, 0], counts) + turns % np.repeat(lengths, counts))


def by_label(rows: Rows, labels: Tensor, num_labels: int) -> Rows:
    """Bring the weights of each row into runs of one label, in place; on a GPU nothing is done.

    A step then looks no label up, and adds what lies side by side.

    Args:
        rows: the pixels.
        labels: [N] int, label of each Gaussian.
        num_labels: K, 0 included.
    """
    if rows.crow.is_cuda or len(rows) == 0:
        return rows
    names, crow, col = labels.int().numpy(), rows.crow.numpy(), rows.col.numpy()
    counts = np.zeros(len(rows), np.int64)
    threads.share(
        kernels.by_label, len(rows), crow, col, rows.val.numpy(), names, num_labels, int(np.diff(crow).max()), counts,
        grain=1 << 12,
    )  # fmt: skip
    begins = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
    run_labels, run_ends = np.empty(begins[-1], np.int32), np.empty(begins[-1], np.int64)
    threads.share(kernels.list_runs, len(rows), crow, col, names, begins, run_labels, run_ends, grain=1 << 12)
    runs = Runs(*(torch.from_numpy(part) for part in (begins, run_labels, run_ends)))
    return Rows(rows.crow, rows.col, rows.val, rows.targets, runs)
