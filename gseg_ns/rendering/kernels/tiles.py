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
from gseg_ns.rendering.kernels.weights import DET, HALF_HEIGHT, HALF_WIDTH, INVERSE_C, ROOT, SHEAR, A, B, X, Y

# Values of a digit of `by_depth`: three of them are a float32.
DIGITS = 1 << 11


@kernel
def row_band(splat, y_first, y_last):  # type: ignore[no-untyped-def]
    """Leftmost and rightmost x of a Gaussian's ellipse over y_first <= y <= y_last; empty, (1, 0), where it has none.

    With a of its conic: x(y) = -b / a y +- sqrt(2 limit a - det y^2) / a, from the mean.

    Args:
        splat: a packed Gaussian with an ellipse, see `pack`.
    """
    y, half_height = float(splat[Y]), float(splat[HALF_HEIGHT])
    low, high = max(y_first - y, -half_height), min(y_last - y, half_height)
    if not low <= high:
        return 1.0, 0.0
    a, b, det = float(splat[A]), float(splat[B]), float(splat[DET])
    inverse, root = 1.0 / a, splat[ROOT] * splat[INVERSE_C] * a
    # x is largest where the gradient is horizontal: dy = -(b / c) dx at half of the width.
    extreme = -splat[SHEAR] * float(splat[HALF_WIDTH])
    dy = min(max(extreme, low), high)
    right = (math.sqrt(max(root - det * dy * dy, 0.0)) - b * dy) * inverse
    dy = min(max(-extreme, low), high)
    left = (-math.sqrt(max(root - det * dy * dy, 0.0)) - b * dy) * inverse
    return splat[X] + left, splat[X] + right


@kernel
def tile_rows(start, stop, order, packed, radii, tile_size, tile_height, rows):  # type: ignore[no-untyped-def]
    """For Gaussians order[start..stop]: the tile rows that each may touch.

    Args:
        packed: [M, PACKED] from `weights.pack`.
        rows: [S, 3] int32, of which the first row and the number of rows are written.
    """
    for i in range(start, stop):
        g = order[i]
        rows[i, 0] = 0
        rows[i, 1] = 0
        half_width = packed[g, HALF_WIDTH]
        if half_width < 0:
            continue
        radius, y = float(radii[g]), float(packed[g, Y])
        first_row = max(0, math.floor((y - radius) / tile_size))
        last_row = min(tile_height, math.ceil((y + radius) / tile_size))
        if half_width < np.inf:
            reach = float(packed[g, HALF_HEIGHT])
            # Pixel centres lie half a pixel in: row r has centres r * tile + 0.5 .. r * tile + tile - 0.5.
            first_row = max(first_row, math.floor((y - reach - 0.5) / tile_size))
            last_row = min(last_row, math.floor((y + reach - 0.5) / tile_size) + 1)
        if first_row < last_row:
            rows[i, 0] = first_row
            rows[i, 1] = last_row - first_row


@kernel
def tile_spans(  # type: ignore[no-untyped-def]
    start, stop, order, packed, radii, num_gaussians, tile_size, tile_width, tile_height, height, rows, counts, spans,
):  # fmt: skip
    """For Gaussians order[start..stop]: in each tile row that it may touch, the first and last+1 tile column.

    Args:
        packed: as in `tile_rows`.
        rows: from there, and in `rows[:, 2]` each Gaussian's first row in `spans`. The first row becomes the first tile
            of that row, counted through all cameras.
        counts: [M] int32, written where `order` says: how many tiles each touches.
        spans: [rows of all Gaussians, 2] int32, written.
    """
    for i in range(start, stop):
        g = order[i]
        splat, radius, x = packed[g], float(radii[g]), float(packed[g, X])
        first_column = max(0, math.floor((x - radius) / tile_size))
        last_column = min(tile_width, math.ceil((x + radius) / tile_size))
        regular = splat[HALF_WIDTH] < np.inf
        total = 0
        for number in range(rows[i, 1]):
            row = rows[i, 0] + number
            begin, end = first_column, last_column
            if regular:
                last_centre = min((row + 1) * tile_size, height) - 0.5
                left, right = row_band(splat, row * tile_size + 0.5, last_centre)
                if left > right:
                    begin, end = 0, 0
                else:
                    # First centre >= left is ceil(left - 0.5); last centre <= right is floor(right - 0.5).
                    begin = max(begin, math.floor(math.ceil(left - 0.5) / tile_size))
                    end = min(end, math.floor(math.floor(right - 0.5) / tile_size) + 1)
                    if begin >= end:
                        begin, end = 0, 0
            spans[rows[i, 2] + number, 0] = begin
            spans[rows[i, 2] + number, 1] = end
            total += end - begin
        counts[g] = total
        rows[i, 0] = (g // num_gaussians * tile_height + rows[i, 0]) * tile_width


@kernel
def by_depth(depths, chosen, order):  # type: ignore[no-untyped-def]
    """Sort by depth, equal ones in the order in which they are: a radix sort of the numbers' bits.

    Args:
        depths: [M] float32, finite.
        chosen: [S] which of them.
        order: [S] int32, written.
    """
    count = chosen.shape[0]
    keys, other_keys = np.empty(count, np.uint32), np.empty(count, np.uint32)
    ids, other_ids = order, np.empty(count, np.int32)
    bits = depths.view(np.uint32)
    tables = np.zeros((3, DIGITS), np.int64)
    for i in range(count):
        g = chosen[i]
        ids[i] = g
        # +0 and -0 are one depth; what is negative comes first, and rises backwards.
        key = bits[g] if depths[g] != 0 else np.uint32(0)
        keys[i] = key ^ (np.uint32(0xFFFFFFFF) if key >> np.uint32(31) else np.uint32(0x80000000))
        for digit in range(3):
            tables[digit, (keys[i] >> np.uint32(11 * digit)) & np.uint32(DIGITS - 1)] += 1
    for digit in range(3):
        table = tables[digit]
        place = 0
        for value in range(DIGITS):
            amount = table[value]
            table[value] = place
            place += amount
        for i in range(count):
            value = (keys[i] >> np.uint32(11 * digit)) & np.uint32(DIGITS - 1)
            place = table[value]
            table[value] = place + 1
            other_keys[place], other_ids[place] = keys[i], ids[i]
        keys, other_keys = other_keys, keys
        ids, other_ids = other_ids, ids
    order[:] = ids


@kernel
def count_tiles(start, stop, parts, rows, spans, tile_width, counts):  # type: ignore[no-untyped-def]
    """Gaussians of each tile, in parts start..stop of the depth order: [parts, tiles] int64, written."""
    for part in range(start, stop):
        counts[part] = 0
        for i in range(part * rows.shape[0] // parts, (part + 1) * rows.shape[0] // parts):
            tile = rows[i, 0]
            for row in range(rows[i, 2], rows[i, 2] + rows[i, 1]):
                for column in range(spans[row, 0], spans[row, 1]):
                    counts[part, np.uintp(tile + column)] += 1
                tile += tile_width


@kernel
def fill_tiles(start, stop, parts, order, rows, spans, tile_width, cursors, flatten_ids):  # type: ignore[no-untyped-def]
    """Counting sort: parts start..stop of the Gaussians in depth order into their tiles.

    Args:
        cursors: [parts, tiles] int64, where each part's Gaussians begin in the tile's list; advanced.
        flatten_ids: written.
    """
    for part in range(start, stop):
        for i in range(part * rows.shape[0] // parts, (part + 1) * rows.shape[0] // parts):
            tile = rows[i, 0]
            for row in range(rows[i, 2], rows[i, 2] + rows[i, 1]):
                for column in range(spans[row, 0], spans[row, 1]):
                    slot = cursors[part, np.uintp(tile + column)]
                    cursors[part, np.uintp(tile + column)] = slot + 1
                    flatten_ids[np.uintp(slot)] = order[i]
                tile += tile_width


@kernel
def name_pairs(start, stop, offsets, flatten_ids, depth_bits, tiles_per_camera, tile_bits, isect_ids):  # type: ignore[no-untyped-def]
    """Sort keys as gsplat's, of the lists of tiles start..stop: camera | tile | bits of the depth."""
    for tile in range(start, stop):
        camera = tile // tiles_per_camera
        high = (np.int64(camera) << (32 + tile_bits)) | (np.int64(tile - camera * tiles_per_camera) << 32)
        for slot in range(offsets[tile], offsets[tile + 1]):
            isect_ids[slot] = high | np.int64(depth_bits[flatten_ids[slot]])


@kernel
def tiles_with(start, stop, offsets, flatten_ids, rows, out):  # type: ignore[no-untyped-def]
    """Whether tiles start..stop list one of some Gaussians.

    Args:
        offsets: [tiles + 1] into `flatten_ids`.
        rows: [M] bool, the Gaussians.
        out: [tiles] bool, written.
    """
    for tile in range(start, stop):
        found = False
        for k in range(offsets[tile], offsets[tile + 1]):
            if rows[np.uintp(flatten_ids[k])]:
                found = True
                break
        out[tile] = found
