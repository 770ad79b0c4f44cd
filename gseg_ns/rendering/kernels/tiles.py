"""Which tiles each projected Gaussian touches, listed tile by tile in depth order.

A Gaussian touches a tile when some pixel centre of the tile can have alpha >= 1/255, that is when the ellipse
sigma(x) <= ln(255 opacity) meets it (the opacity-aware extent of Speedy-Splat, Hanson et al. 2025, with its exact
ellipse-tile test), and the tile also lies in the square of gsplat's 3-sigma radius. Tiles dropped by the first
condition add nothing; the second is gsplat's own cut. So the image is gsplat's, with far shorter lists.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel
from gseg_ns.rendering.kernels.weights import cutoff


@kernel
def row_band(mean_x, mean_y, a, b, c, limit, y_first, y_last):  # type: ignore[no-untyped-def]
    """Leftmost and rightmost x of the ellipse a dx^2 + 2 b dx dy + c dy^2 <= 2 limit over y_first <= y <= y_last.

    Returns an empty interval (1, 0) where the band misses the ellipse. Float64 throughout.
    """
    det = a * c - b * b
    top = math.sqrt(2.0 * limit * a / det)
    low = max(y_first - mean_y, -top)
    high = min(y_last - mean_y, top)
    if not low <= high:
        return 1.0, 0.0
    # x is largest where the gradient is horizontal: dy = -(b / c) dx with dx = sqrt(2 limit c / det).
    extreme = -b / c * math.sqrt(2.0 * limit * c / det)
    dy = min(max(extreme, low), high)
    right = (-b * dy + math.sqrt(max(b * b * dy * dy - a * (c * dy * dy - 2.0 * limit), 0.0))) / a
    dy = min(max(-extreme, low), high)
    left = (-b * dy - math.sqrt(max(b * b * dy * dy - a * (c * dy * dy - 2.0 * limit), 0.0))) / a
    return mean_x + left, mean_x + right


@kernel
def tile_spans(  # type: ignore[no-untyped-def]
    start,
    stop,
    means2d,
    conics,
    opacities,
    radii,
    tile_size,
    tile_width,
    tile_height,
    width,
    height,
    counts,
    rows,
    spans,
):
    """For Gaussians start..stop: the tile rows each touches, and in each row the first and last+1 tile column.

    With `spans` empty only `counts` (tiles) and `rows` (first row, number of rows) are written; call again with
    `spans` [rows of all Gaussians, 2] and `rows[:, 2]` holding each Gaussian's first row in it.
    """
    for g in range(start, stop):
        fill = spans.shape[0] > 0
        if not fill:
            counts[g] = 0
            rows[g, 0] = 0
            rows[g, 1] = 0
        radius = float(radii[g])
        limit = cutoff(float(opacities[g]))
        if not (radius > 0 and limit >= 0):
            continue
        x, y = float(means2d[g, 0]), float(means2d[g, 1])
        a, b, c = float(conics[g, 0]), float(conics[g, 1]), float(conics[g, 2])
        first_column = max(0, math.floor((x - radius) / tile_size))
        last_column = min(tile_width, math.ceil((x + radius) / tile_size))
        first_row = max(0, math.floor((y - radius) / tile_size))
        last_row = min(tile_height, math.ceil((y + radius) / tile_size))
        regular = a > 0 and c > 0 and a * c > b * b
        if regular:
            reach = math.sqrt(2.0 * limit * a / (a * c - b * b))
            # Pixel centres lie half a pixel in: row r has centres r * tile + 0.5 .. r * tile + tile - 0.5.
            first_row = max(first_row, math.floor((y - reach - 0.5) / tile_size))
            last_row = min(last_row, math.floor((y + reach - 0.5) / tile_size) + 1)
        if first_row >= last_row:
            continue
        total = 0
        base = rows[g, 2]
        for row in range(first_row, last_row):
            begin, end = first_column, last_column
            if regular:
                last_centre = min((row + 1) * tile_size, height) - 0.5
                left, right = row_band(x, y, a, b, c, limit, row * tile_size + 0.5, last_centre)
                if left > right:
                    begin, end = 0, 0
                else:
                    # First centre >= left is ceil(left - 0.5); last centre <= right is floor(right - 0.5).
                    begin = max(begin, math.floor(math.ceil(left - 0.5) / tile_size))
                    end = min(end, math.floor(math.floor(right - 0.5) / tile_size) + 1)
                    if begin >= end:
                        begin, end = 0, 0
            if fill:
                spans[base + row - first_row, 0] = begin
                spans[base + row - first_row, 1] = end
            total += end - begin
        if not fill:
            counts[g] = total
            rows[g, 0] = first_row
            rows[g, 1] = last_row - first_row


@kernel
def count_tiles(order, rows, spans, num_gaussians, tiles_per_camera, tile_width, offsets):  # type: ignore[no-untyped-def]
    """Number of Gaussians of each tile, written as exclusive sums into `offsets` [tiles + 1]."""
    offsets[:] = 0
    for g in order:
        tile = (g // num_gaussians) * tiles_per_camera + rows[g, 0] * tile_width
        for row in range(rows[g, 2], rows[g, 2] + rows[g, 1]):
            for column in range(spans[row, 0], spans[row, 1]):
                offsets[tile + column + 1] += 1
            tile += tile_width
    for tile in range(1, offsets.shape[0]):
        offsets[tile] += offsets[tile - 1]


@kernel
def fill_tiles(  # type: ignore[no-untyped-def]
    order,
    rows,
    spans,
    depth_bits,
    num_gaussians,
    tiles_per_camera,
    tile_width,
    tile_bits,
    cursor,
    flatten_ids,
    isect_ids,
):
    """Counting sort: Gaussians in depth order into their tiles. `cursor` starts as the tiles' offsets."""
    for g in order:
        camera = g // num_gaussians
        tile = rows[g, 0] * tile_width
        for row in range(rows[g, 2], rows[g, 2] + rows[g, 1]):
            for column in range(spans[row, 0], spans[row, 1]):
                slot = cursor[camera * tiles_per_camera + tile + column]
                cursor[camera * tiles_per_camera + tile + column] = slot + 1
                flatten_ids[slot] = g
                isect_ids[slot] = (
                    (np.int64(camera) << (32 + tile_bits)) | (np.int64(tile + column) << 32) | np.int64(depth_bits[g])
                )
            tile += tile_width
