"""Depth-sorted lists of the Gaussians of every tile, on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import tiles


class TileLists(NamedTuple):
    """gsplat's intersection tensors (`isect_tiles` and `isect_offset_encode`), with tighter lists."""

    tiles_per_gauss: Tensor  # [C, N] int32
    isect_ids: Tensor  # [n_isects] int64: camera | tile | depth bits, ascending
    flatten_ids: Tensor  # [n_isects] int32, indices into C * N
    isect_offsets: Tensor  # [C, tile_height, tile_width] int32


@torch.no_grad()
def tile_lists(
    means2d: Tensor,  # [C, N, 2]
    conics: Tensor,  # [C, N, 3]
    opacities: Tensor,  # [C, N]
    radii: Tensor,  # [C, N] int32
    depths: Tensor,  # [C, N]
    width: int,
    height: int,
    tile_size: int,
) -> TileLists:
    """List the Gaussians of every tile in depth order; equal depths keep their index order, as in gsplat.

    The lists hold for these opacities: compositing them with larger ones later would miss pixels at the rim.
    """
    cameras, count = radii.shape
    tile_width, tile_height = -(-width // tile_size), -(-height // tile_size)
    per_camera = tile_width * tile_height
    total = cameras * count
    points = means2d.detach().reshape(total, 2).contiguous().numpy()
    shapes = conics.detach().reshape(total, 3).contiguous().numpy()
    alphas = opacities.detach().reshape(total).contiguous().numpy()
    sizes = radii.reshape(total).contiguous().numpy()
    counts = np.empty(total, np.int32)
    rows = np.empty((total, 3), np.int32)
    layout = (points, shapes, alphas, sizes, tile_size, tile_width, tile_height, width, height, counts, rows)
    threads.share(tiles.tile_spans, total, *layout, np.empty((0, 2), np.int32), grain=4096)
    np.cumsum(rows[:, 1], out=rows[:, 2])
    num_rows = int(rows[-1, 2]) if total else 0
    rows[:, 2] -= rows[:, 1]
    spans = np.empty((max(num_rows, 1), 2), np.int32)
    threads.share(tiles.tile_spans, total, *layout, spans, grain=4096)

    z = depths.detach().reshape(total).contiguous().float().numpy()
    seen = np.flatnonzero(counts)
    # Cameras stay apart because ids of one camera are contiguous and the tile sort below is stable.
    order = seen[np.argsort(z[seen], kind="stable")]
    offsets = np.empty(cameras * per_camera + 1, np.int64)
    tiles.count_tiles(order, rows, spans, max(count, 1), per_camera, tile_width, offsets)
    flatten_ids = np.empty(offsets[-1], np.int32)
    isect_ids = np.empty(offsets[-1], np.int64)
    bits = per_camera.bit_length()
    tiles.fill_tiles(
        order, rows, spans, z.view(np.int32), max(count, 1), per_camera, tile_width, bits, offsets[:-1].copy(),
        flatten_ids, isect_ids,
    )  # fmt: skip
    return TileLists(
        torch.from_numpy(counts).reshape(cameras, count),
        torch.from_numpy(isect_ids),
        torch.from_numpy(flatten_ids),
        torch.from_numpy(offsets[:-1].astype(np.int32)).reshape(cameras, tile_height, tile_width),
    )
