"""Contributions: how much each Gaussian adds to each pixel, w = alpha T, from a `meta` of `project`.

On the CPU these are kernels that walk the tile lists; the weights are bit for bit those of the renderer. On CUDA they
are composed of gsplat 1.4.0's own operations.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import contributions_cuda, threads
from gseg_ns.rendering.cpu import scene_of
from gseg_ns.rendering.kernels import contribute
from gseg_ns.rendering.kernels import rows as row_kernels
from gseg_ns.rendering.pixel_weights import PixelWeights

_COUNTING = 4
"""At most so many threads sort sums by Gaussian: each has a counter of every Gaussian."""


@torch.no_grad()
def vote(
    meta: dict[str, Any],
    labels: Tensor,  # [H, W] or [C, H, W] integer
    num_labels: int,
    out: Tensor | None = None,  # [N, num_labels] float32
) -> Tensor:
    """Sum over pixels of each label of the weight of each Gaussian (the counts of FlashSplat, Shen et al. 2024).

    Args:
        meta: from `project` or `rasterization`; the cameras' sums are added up.
        labels: the label of each pixel; labels outside 0..num_labels-1 are ignored.
        num_labels: number of columns.
        out: add into this tensor and return it, so that a loop over views allocates nothing.

    Returns:
        [N, num_labels] float32.

    Raises:
        ValueError: wrong shape.
    """
    labels = _fitting(meta, labels)
    count = meta["means2d"].shape[1]
    if out is None:
        out = torch.zeros((count, num_labels), device=meta["means2d"].device)
    if tuple(out.shape) != (count, num_labels) or out.dtype != torch.float32 or not out.is_contiguous():
        raise ValueError(f"vote: out must be a contiguous float32 tensor [{count}, {num_labels}]")
    if num_labels == 0 or count == 0:
        return out
    if meta["means2d"].is_cuda:
        return contributions_cuda.vote(meta, labels.to(meta["means2d"].device), num_labels, out)
    scene, present, counts, pair_offsets, pair_sums = _pair_sums(meta, labels, num_labels)
    threads.share(
        contribute.gather_votes, count, count, *scene[1:], present, counts, pair_offsets, pair_sums, out.numpy(),
        grain=1 << 16,
    )  # fmt: skip
    return out


@torch.no_grad()
def sparse_vote(meta: dict[str, Any], labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of `vote` that are not zero: a view shows few of the Gaussians, and each of them in few labels.

    Args:
        meta: from `project` or `rasterization`; the cameras' sums are added up.
        labels: [H, W] or [C, H, W] integer, any numbers from 0 on; negative ones are ignored.

    Returns:
        Gaussians [nnz] int32, rising, their labels [nnz] int32, rising for each Gaussian, and sums [nnz] float32.

    Raises:
        ValueError: wrong shape.
    """
    labels = _fitting(meta, labels)
    count = meta["means2d"].shape[1]
    num_labels = int(labels.max()) + 1 if labels.numel() else 0
    if meta["means2d"].is_cuda and num_labels > 0 and count > 0:
        return contributions_cuda.sparse_vote(meta, labels.to(meta["means2d"].device))
    if num_labels <= 0 or count == 0:
        none = torch.zeros(0, dtype=torch.int32, device=meta["means2d"].device)
        return none, none, none.float()
    return _listed(count, *_pair_sums(meta, labels, num_labels))


class RegionVotes:
    """What the Gaussians of a view give to its regions, which get their names later, and values composited on the way.

    For who has to see a view before knowing what is asked about it: one walk through the tile lists instead of two.
    """

    image: Tensor
    """[H, W], the composited values, not divided by alpha."""
    alpha: Tensor
    """[H, W]"""

    @torch.no_grad()
    def __init__(self, meta: dict[str, Any], regions: Tensor, values: Tensor) -> None:
        """Ask a view.

        Args:
            meta: from `project` or `rasterization`, with one camera.
            regions: [H, W] integer, from 0 on.
            values: [N], of each Gaussian.

        Raises:
            ValueError: wrong shape, or several cameras.
        """
        regions = _fitting(meta, regions)
        if len(regions) != 1:
            raise ValueError(f"RegionVotes: the view has {len(regions)} cameras; project one camera at a time")
        self._meta, self._regions = meta, regions
        self._pairs: tuple[Any, ...] | None = None
        if meta["means2d"].is_cuda:
            self._regions = regions.long().to(values.device)
            self.image, self.alpha = contributions_cuda.drawn(meta, values)
            return
        drawn = np.zeros((2, *regions.shape), values.detach().numpy().dtype)
        self._pairs = _pair_sums(meta, regions, int(regions.max()) + 1 if regions.numel() else 0, values, drawn)
        self.image, self.alpha = (torch.from_numpy(part[0]) for part in drawn)

    @torch.no_grad()
    def named(self, names: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `sparse_vote` of the label map `names[regions]`.

        Args:
            names: [R] integer, the label of each region, from 0 on.
        """
        if self._pairs is None:
            return contributions_cuda.sparse_vote(self._meta, names.to(self._regions.device)[self._regions])
        scene, present, *rest = self._pairs
        # What lies beyond a tile's own regions was never written.
        labels = np.take(names.cpu().numpy().astype(np.int32), present, mode="clip")
        return _listed(self._meta["means2d"].shape[1], scene, labels, *rest)


def _listed(
    count: int, scene: tuple[Any, ...], present: Any, counts: Any, pair_offsets: Any, pair_sums: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of (tile, Gaussian) pairs as those of Gaussians: what `sparse_vote` returns."""
    if len(present) == 0 or count == 0 or present.shape[1] == 0:
        none = torch.zeros(0, dtype=torch.int32)
        return none, none, none.float()
    # Each thread looks at tiles of its own, and counts for itself.
    entries = np.zeros((min(threads.num_threads(), _COUNTING), count), np.int32)
    parts = len(entries)
    threads.share(contribute.count_votes, parts, count, *scene[1:], counts, pair_offsets, pair_sums, entries)
    begins = np.zeros(count + 1, np.int64)
    np.cumsum(sum(entries), out=begins[1:])
    listed = np.empty(begins[-1], np.int32), np.empty(begins[-1], np.float32)
    starts = np.empty((parts, count), np.int64)
    starts[0] = begins[:-1]
    for part in range(1, parts):
        np.add(starts[part - 1], entries[part - 1], out=starts[part])
    threads.share(
        contribute.place_votes, parts, count, *scene[1:], present, counts, pair_offsets, pair_sums, starts, *listed
    )
    kept = np.empty(count, np.int64)
    threads.share(contribute.merge_votes, count, begins, *listed, kept, grain=1 << 15)
    ends = np.cumsum(kept)
    found = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.int32), np.empty(ends[-1], np.float32)
    threads.share(contribute.gather_lists, count, begins, kept, ends, *listed, *found, grain=1 << 17)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1]), torch.from_numpy(found[2])


def _fitting(meta: dict[str, Any], labels: Tensor) -> Tensor:
    """Labels [C, H, W] of the view's size.

    Raises:
        ValueError: wrong shape.
    """
    view = (meta["means2d"].shape[0], meta["height"], meta["width"])
    labels = labels[None] if labels.dim() == 2 else labels
    if tuple(labels.shape) != view:
        raise ValueError(f"vote: labels has shape {tuple(labels.shape)}; the view is {view[0]} x {view[1]} x {view[2]}")
    return labels


def _pair_sums(
    meta: dict[str, Any], labels: Tensor, num_labels: int, values: Tensor | None = None, drawn: Any = None
) -> tuple[tuple[Any, ...], Any, Any, Any, Any]:
    """The sums of each (tile, Gaussian) pair by the labels of the tile: `scene_of`, and arrays of `contribute.vote`.

    Args:
        meta: of the view.
        labels: [C, H, W].
        num_labels: one more than the largest.
        values: [C * N], composited into `drawn` [2, C, H, W], with their alpha.
        drawn: see there.
    """
    cameras, height, width = labels.shape
    tile_size, tile_width, tile_height = meta["tile_size"], meta["tile_width"], meta["tile_height"]
    grid = (width, height, tile_size, tile_width, tile_height)
    tiles = cameras * tile_width * tile_height
    local = np.empty((cameras, height, width), np.int32)
    present = np.empty((tiles, min(num_labels, tile_size * tile_size)), np.int32)
    counts = np.empty(tiles, np.int64)
    wide = labels.cpu().contiguous().numpy()
    threads.share(contribute.localise_labels, tiles, wide, num_labels, *grid, local, present, counts)
    scene = scene_of(meta)
    lengths = counts * np.diff(scene[1])
    pair_offsets = np.cumsum(lengths) - lengths
    pair_sums = np.empty(int(lengths.sum()), scene[0].dtype)
    if values is None:
        none = np.zeros((2, 1, 1, 1), scene[0].dtype)
        kept, images = np.zeros(0, scene[0].dtype), none
    else:
        kept, images = values.detach().contiguous().numpy(), drawn
    threads.share(contribute.vote, tiles, *scene, *grid, local, counts, pair_offsets, pair_sums, kept, *images)
    return scene, present, counts, pair_offsets, pair_sums


@torch.no_grad()
def dominant_labels(meta: dict[str, Any], labels: Tensor, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The label whose Gaussians weigh most at each pixel: exact for any number of labels, in memory for a tile.

    Args:
        meta: from `project` or `rasterization`, of N Gaussians.
        labels: [N] integer, any numbers; 0 is none and never an answer.
        factors: [N], what each Gaussian's weights are multiplied with for the choice (strengths); None: nothing.

    Returns:
        labels [H, W] int64, 0 where none is drawn, and their summed weights (without factors) [H, W]; [C, H, W] for
        several cameras.
    """
    return _dominant(meta, labels, factors)[:2]


@torch.no_grad()
def contested_labels(meta: dict[str, Any], labels: Tensor, factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `dominant_labels` with factors, and in the same pass the labels without them.

    Returns:
        labels [H, W] int64, their summed weights [H, W], and the labels of the largest weight without factors [H, W];
        [C, H, W] for several cameras.
    """
    winners, weights, plain = _dominant(meta, labels, factors)
    assert plain is not None
    return winners, weights, plain


def _dominant(meta: dict[str, Any], labels: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """See `contested_labels`; the last is None without factors."""
    device = meta["means2d"].device
    present, index = torch.unique(torch.cat([labels.new_zeros(1), labels]).to(device), return_inverse=True)
    zero = int(torch.searchsorted(present, 0))
    # Numbers from 1 on, with 0 for none.
    numbers = torch.where(index[1:] == zero, 0, index[1:] + (index[1:] < zero))
    present = torch.cat([present.new_zeros(1), present[present != 0]]).long()
    if meta["means2d"].is_cuda:
        winners, weights, plain = contributions_cuda.dominant_labels(meta, numbers, len(present), factors)
    else:
        cameras, count = meta["means2d"].shape[:2]
        width, height = meta["width"], meta["height"]
        winners = torch.empty((cameras, height, width), dtype=torch.int64)
        weights = torch.empty((cameras, height, width), dtype=meta["means2d"].dtype)
        plain = torch.empty_like(winners if factors is not None else winners[:0])
        tile_width, tile_height = meta["tile_width"], meta["tile_height"]
        loudness = np.empty(0, np.float32) if factors is None else factors.detach().float().contiguous().numpy()
        threads.share(
            contribute.dominant, cameras * tile_width * tile_height, *scene_of(meta), width, height, meta["tile_size"],
            tile_width, tile_height, max(count, 1), numbers.contiguous().numpy(), loudness, len(present),
            winners.numpy(), weights.numpy(), plain.numpy(),
        )  # fmt: skip
    one = winners.shape[0] == 1
    answers = present[winners]
    without = None if factors is None else present[plain]
    if one:
        return answers[0], weights[0], None if without is None else without[0]
    return answers, weights, without


@torch.no_grad()
def top_contributors(meta: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The Gaussian with the largest weight at each pixel, and that weight.

    Returns:
        ids [H, W] int64, -1 where nothing is drawn, and weights [H, W]; [C, H, W] for several cameras.
    """
    if meta["means2d"].is_cuda:
        ids, weights = contributions_cuda.top_contributors(meta)
    else:
        cameras, count = meta["means2d"].shape[:2]
        width, height = meta["width"], meta["height"]
        ids = torch.empty((cameras, height, width), dtype=torch.int64)
        weights = torch.empty((cameras, height, width), dtype=meta["means2d"].dtype)
        tile_width, tile_height = meta["tile_width"], meta["tile_height"]
        threads.share(
            contribute.top, cameras * tile_width * tile_height, *scene_of(meta), width, height, meta["tile_size"],
            tile_width, tile_height, max(count, 1), ids.numpy(), weights.numpy(),
        )  # fmt: skip
    return (ids[0], weights[0]) if ids.shape[0] == 1 else (ids, weights)


@torch.no_grad()
def pixel_weights(meta: dict[str, Any], pixels: Tensor) -> PixelWeights:
    """The weights of chosen pixels of one camera as a sparse matrix, each row front to back.

    With frozen geometry these are computed once a view; after that a feature image at those pixels is one sparse
    product, and its gradient another.

    Args:
        meta: from `project` or `rasterization`, with one camera.
        pixels: [P] int64 flat indices y * width + x, in any order, repeats allowed. Where the view is on a GPU, indices
            on the CPU are checked and sorted there, and the GPU is waited for once, not several times.

    Raises:
        ValueError: several cameras, or an index outside the image.
    """
    cameras, count = meta["means2d"].shape[:2]
    width, height = meta["width"], meta["height"]
    if cameras != 1:
        raise ValueError(f"pixel_weights: the view has {cameras} cameras; project one camera at a time")
    pixels = pixels.reshape(-1).to(torch.int64)
    if pixels.numel() and not (0 <= int(pixels.min()) and int(pixels.max()) < width * height):
        raise ValueError(f"pixel_weights: pixel indices must lie in 0..{width * height - 1}")
    if meta["means2d"].is_cuda:
        return contributions_cuda.pixel_weights(meta, pixels)
    tile_size, tile_width, tile_height = meta["tile_size"], meta["tile_width"], meta["tile_height"]
    tiles = tile_width * tile_height
    flat = pixels.cpu().contiguous().numpy()
    tile_of = flat // width // tile_size * tile_width + flat % width // tile_size
    order = np.argsort(tile_of, kind="stable")
    groups = np.zeros(tiles + 1, np.int64)
    np.cumsum(np.bincount(tile_of, minlength=tiles), out=groups[1:])
    scene = (groups, order, flat, *scene_of(meta), width, tile_size, tile_width)
    lengths = np.zeros(flat.shape[0], np.int64)
    listed: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def walk(start: int, stop: int) -> None:
        listed[start] = row_kernels.pixel_rows(start, stop, *scene, lengths)

    threads.share(walk, tiles)
    crow = np.zeros(flat.shape[0] + 1, np.int64)
    np.cumsum(lengths, out=crow[1:])
    cols, vals = np.empty(crow[-1], np.int64), np.empty(crow[-1], scene[3].dtype)
    begins = [*sorted(listed), tiles]
    for start, stop in pairwise(begins):
        members = int(groups[stop] - groups[start])
        threads.share(
            row_kernels.place_rows, members, int(groups[start]), order, crow, *listed.pop(start), cols, vals,
            grain=1 << 14,
        )  # fmt: skip
    return PixelWeights(torch.from_numpy(crow), torch.from_numpy(cols), torch.from_numpy(vals), count)
