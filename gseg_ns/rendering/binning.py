"""Depth-sorted lists of the Gaussians of every tile, on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import tiles

_GRAIN = 4096
"""Gaussians worth handing to a thread."""

_PARTS_PER_THREAD = 4

_CHANGES = 1 << 24
"""Numbers that all parts count pairs of tile and Gaussian in, each for itself: 64 MiB, or one part's."""


class TileLists(NamedTuple):
    """gsplat's intersection tensors (`isect_tiles` and `isect_offset_encode`), with tighter lists."""

    tiles_per_gauss: Tensor  # [C, N] int32
    isect_ids: Tensor  # [n_isects] int64: camera | tile | depth bits, ascending
    flatten_ids: Tensor  # [n_isects] int32, indices into C * N
    isect_offsets: Tensor  # [C, tile_height, tile_width] int32


@torch.no_grad()
def tile_lists(
    packed: np.ndarray,  # [C * N, PACKED]
    radii: Tensor,  # [C, N] int32
    depths: Tensor,  # [C, N]
    width: int,
    height: int,
    tile_size: int,
) -> TileLists:
    """List the Gaussians of every tile in depth order; equal depths keep their index order, as in gsplat.

    The lists hold for these opacities: compositing them with larger ones later would miss pixels at the rim.

    Args:
        packed: the projected Gaussians, see `gseg_ns.rendering.cpu.pack`.
        radii: of them.
        depths: of them.
        width: of the image.
        height: of it.
        tile_size: pixels along a side of a tile.
    """
    cameras, count = radii.shape
    tile_width, tile_height = -(-width // tile_size), -(-height // tile_size)
    per_camera = tile_width * tile_height
    total = cameras * count
    sizes = radii.reshape(total).contiguous().numpy()
    z = depths.detach().reshape(total).contiguous().float().numpy()
    all_rows = cameras * tile_height
    counted = all_rows * (tile_width + 1)
    parts = max(min(_PARTS_PER_THREAD * threads.num_threads(), total // _GRAIN, _CHANGES // max(counted, 1)), 1)
    rows, lengths = np.empty((total, 3), np.int32), np.empty(parts, np.int64)
    threads.share(tiles.tile_rows, parts, parts, packed, sizes, tile_size, tile_height, rows, lengths)
    begins, counts = np.cumsum(lengths) - lengths, np.empty(total, np.int32)
    spans, changes = np.empty((lengths.sum(), 2), np.int32), np.empty((parts, counted), np.int32)
    order = np.empty(np.count_nonzero(sizes > 0), np.int32)

    def sort_or_find_spans(start: int, stop: int) -> None:
        """The sort goes beside the rest: it has no parts."""
        if start == 0:
            tiles.by_depth(z, sizes, order)
        if stop > 1:
            tiles.tile_spans(
                max(start - 1, 0), stop - 1, packed, sizes, max(count, 1), tile_size, tile_width, tile_height, height,
                rows, begins, counts, spans, changes,
            )  # fmt: skip

    threads.share(sort_or_find_spans, parts + 1)
    offsets = np.zeros(cameras * per_camera + 1, np.int64)
    in_tiles = changes.sum(axis=0).reshape(all_rows, tile_width + 1).cumsum(axis=1)[:, :-1]
    np.cumsum(in_tiles, out=offsets[1:])
    flatten_ids, isect_ids = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int64)
    # Bands of tile rows with as many pairs each. Each walks all Gaussians: not more of them than threads.
    fair = offsets[-1] * np.arange(1, threads.num_threads()) // threads.num_threads()
    bands = np.concatenate([[0], np.searchsorted(offsets[::tile_width], fair), [all_rows]])
    threads.share(
        tiles.fill_tiles, len(bands) - 1, order, rows, spans, bands, tile_width, offsets[:-1].copy(), flatten_ids
    )
    threads.share(
        tiles.name_pairs, cameras * per_camera, offsets, flatten_ids, z.view(np.int32), per_camera,
        per_camera.bit_length(), isect_ids,
    )  # fmt: skip
    return TileLists(
        torch.from_numpy(counts).reshape(cameras, count),
        torch.from_numpy(isect_ids),
        torch.from_numpy(flatten_ids),
        torch.from_numpy(offsets[:-1].astype(np.int32)).reshape(cameras, tile_height, tile_width),
    )
