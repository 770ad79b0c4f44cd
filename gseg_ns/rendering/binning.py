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

_PARTS = 4
"""Parts of the depth order that are put into tiles side by side."""


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
    # Everything after the sort reads and writes in depth order, which is faster than to come back to each Gaussian.
    # Cameras stay apart because ids of one camera are contiguous and the tile sort below is stable.
    shown = np.flatnonzero(sizes)
    order = np.empty(len(shown), np.int32)
    tiles.by_depth(z, shown, order)
    counts = np.zeros(total, np.int32)
    rows = np.empty((len(shown), 3), np.int32)
    threads.share(tiles.tile_rows, len(shown), order, packed, sizes, tile_size, tile_height, rows, grain=_GRAIN)
    np.cumsum(rows[:, 1], out=rows[:, 2])
    spans = np.empty((int(rows[-1, 2]) if len(shown) else 0, 2), np.int32)
    rows[:, 2] -= rows[:, 1]
    threads.share(
        tiles.tile_spans, len(shown), order, packed, sizes, max(count, 1), tile_size, tile_width, tile_height, height,
        rows, counts, spans, grain=_GRAIN,
    )  # fmt: skip

    cursors = np.empty((_PARTS, cameras * per_camera), np.int64)
    threads.share(tiles.count_tiles, _PARTS, _PARTS, rows, spans, tile_width, cursors)
    in_tiles, offsets = cursors.sum(axis=0), np.zeros(cameras * per_camera + 1, np.int64)
    np.cumsum(in_tiles, out=offsets[1:])
    cursors = offsets[:-1] + np.cumsum(cursors, axis=0) - cursors
    flatten_ids, isect_ids = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int64)
    threads.share(tiles.fill_tiles, _PARTS, _PARTS, order, rows, spans, tile_width, cursors, flatten_ids)
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
