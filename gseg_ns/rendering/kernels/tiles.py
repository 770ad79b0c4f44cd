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

# Rows of tiles that are looked at at a time, and the planes of what is known of each: its Gaussian's mean, half of its
# height, terms of its ellipse and the columns that it may touch; and where the row begins.
BLOCK = 128
CENTRE, MIDDLE, REACH, DETERMINANT, SQUARE, INVERSE, SLOPE, EXTREME, FIRST, LAST, TOP = (
    number * BLOCK for number in range(11)
)
PLANES = 11
# Values of a digit of `by_depth`: three of them are a float32.
DIGITS = 1 << 11


@kernel
def row_bands(block, whose, count, tile_size, height, spans, at, counts, changes):  # type: ignore[no-untyped-def]
    """The first and last+1 tile column of the first rows of a block, each of one Gaussian: spans[at] and on, written.

    An ellipse over y_first <= y <= y_last, with a, b of its conic: x(y) = -b / a y +- sqrt(2 limit a - det y^2) / a,
    from the mean. Without branches, so that it vectorises.

    Args:
        block: planes of what is known of each row; `whose`: of which Gaussian it is, and where it begins in `changes`.
        counts, changes: see `tile_spans`.
    """
    for k in range(count):
        x, y, half_height = block[np.uintp(CENTRE + k)], block[np.uintp(MIDDLE + k)], block[np.uintp(REACH + k)]
        det, root = block[np.uintp(DETERMINANT + k)], block[np.uintp(SQUARE + k)]
        inverse, slope, extreme = block[np.uintp(INVERSE + k)], block[np.uintp(SLOPE + k)], block[np.uintp(EXTREME + k)]
        top = block[np.uintp(TOP + k)]
        # First and last pixel centre of the row.
        low = max(top + 0.5 - y, -half_height)
        high = min(min(top + tile_size, height) - 0.5 - y, half_height)
        # x is largest where the gradient is horizontal: dy = -(b / c) dx at half of the width.
        dy = min(max(extreme, low), high)
        right = x + math.sqrt(max(root - det * dy * dy, 0.0)) * inverse - slope * dy
        dy = min(max(-extreme, low), high)
        left = x - math.sqrt(max(root - det * dy * dy, 0.0)) * inverse - slope * dy
        # First centre >= left is ceil(left - 0.5); last centre <= right is floor(right - 0.5).
        begin = max(block[np.uintp(FIRST + k)], np.floor(np.ceil(left - 0.5) / tile_size))
        end = min(block[np.uintp(LAST + k)], np.floor(np.floor(right - 0.5) / tile_size) + 1.0)
        drawn = (low <= high) & (left <= right) & (begin < end)
        block[np.uintp(FIRST + k)] = begin if drawn else 0.0
        block[np.uintp(LAST + k)] = end if drawn else 0.0
    for k in range(count):
        begin, end = int(block[np.uintp(FIRST + k)]), int(block[np.uintp(LAST + k)])
        spans[np.uintp(at + k), 0], spans[np.uintp(at + k), 1] = begin, end
        counts[np.uintp(whose[k, 0])] += end - begin
        changes[np.uintp(whose[k, 1] + begin)] += 1
        changes[np.uintp(whose[k, 1] + end)] -= 1


@kernel
def tile_rows(start, stop, parts, packed, radii, tile_size, tile_height, rows, lengths):  # type: ignore[no-untyped-def]
    """For parts start..stop of the Gaussians: the tile rows that each may touch.

    Args:
        packed: [M, PACKED] from `weights.pack`.
        rows: [M, 3] int32, of which the first row and the number of rows are written.
        lengths: [parts], written: the rows of each part.
    """
    for part in range(start, stop):
        length = 0
        for g in range(part * radii.shape[0] // parts, (part + 1) * radii.shape[0] // parts):
            rows[g] = 0
            half_width = packed[g, HALF_WIDTH]
            if radii[g] <= 0 or half_width < 0:
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
                rows[g, 0] = first_row
                rows[g, 1] = last_row - first_row
                length += last_row - first_row
        lengths[part] = length


@kernel
def tile_spans(  # type: ignore[no-untyped-def]
    start, stop, packed, radii, num_gaussians, tile_size, tile_width, tile_height, height, rows, begins, counts, spans,
    changes,
):  # fmt: skip
    """For parts start..stop of the Gaussians: in each tile row that one may touch, the first and last+1 tile column.

    Args:
        packed, radii: as in `tile_rows`.
        rows: from there. The first row becomes one of all cameras' rows; written is where one's begin in `spans`.
        begins: [parts] where those of a part begin.
        counts: [M] int32, written: how many tiles each touches.
        spans: [rows of all Gaussians, 2] int32, written.
        changes: [parts, rows of tiles of all cameras * (tile_width + 1)] int32, written: how many Gaussians of a part a
            tile has more than the one on its left.
    """
    parts, block, whose = begins.shape[0], np.empty(PLANES * BLOCK, np.float64), np.empty((BLOCK, 2), np.int64)
    for part in range(start, stop):
        first, last = part * radii.shape[0] // parts, (part + 1) * radii.shape[0] // parts
        counts[first:last] = 0
        changes[part] = 0
        at, k = begins[part], 0
        for g in range(first, last):
            number = rows[g, 1]
            if number == 0:
                continue
            x, radius, a = float(packed[g, X]), float(radii[g]), float(packed[g, A])
            # What is no ellipse may touch all of the radius' square.
            inverse, slope, extreme, det, root, half_height = 1.0, 0.0, 0.0, 0.0, np.inf, np.inf
            if packed[g, HALF_WIDTH] < np.inf:
                inverse = 1.0 / a
                slope, extreme = packed[g, B] * inverse, -float(packed[g, SHEAR]) * packed[g, HALF_WIDTH]
                det, root = float(packed[g, DET]), packed[g, ROOT] * packed[g, INVERSE_C] * a
                half_height = float(packed[g, HALF_HEIGHT])
            before = g // num_gaussians * tile_height
            for row in range(rows[g, 0], rows[g, 0] + number):
                block[CENTRE + k], block[MIDDLE + k], block[REACH + k] = x, packed[g, Y], half_height
                block[DETERMINANT + k], block[SQUARE + k], block[INVERSE + k] = det, root, inverse
                block[SLOPE + k], block[EXTREME + k], block[TOP + k] = slope, extreme, row * tile_size
                block[FIRST + k] = max(0, math.floor((x - radius) / tile_size))
                block[LAST + k] = min(tile_width, math.ceil((x + radius) / tile_size))
                whose[k, 0], whose[k, 1] = g, (before + row) * (tile_width + 1)
                k += 1
                if k == BLOCK:
                    row_bands(block, whose, k, tile_size, height, spans, at, counts, changes[part])
                    at, k = at + BLOCK, 0
            rows[g, 0], rows[g, 2] = before + rows[g, 0], at + k - number
        row_bands(block, whose, k, tile_size, height, spans, at, counts, changes[part])


@kernel
def by_depth(depths, radii, order):  # type: ignore[no-untyped-def]
    """Sort by depth, equal ones in the order in which they are: a radix sort of the numbers' bits.

    Args:
        depths: [M] float32, finite.
        radii: [M], which of them: those above 0.
        order: [S] int32, as many as there are of those, written.
    """
    count = order.shape[0]
    keys, other_keys = np.empty(count, np.uint32), np.empty(count, np.uint32)
    ids, other_ids = order, np.empty(count, np.int32)
    bits = depths.view(np.uint32)
    tables = np.zeros((3, DIGITS), np.int64)
    i = 0
    for g in range(radii.shape[0]):
        if radii[g] <= 0:
            continue
        ids[i] = g
        # +0 and -0 are one depth; what is negative comes first, and rises backwards.
        key = bits[g] if depths[g] != 0 else np.uint32(0)
        keys[i] = key ^ (np.uint32(0xFFFFFFFF) if key >> np.uint32(31) else np.uint32(0x80000000))
        for digit in range(3):
            tables[digit, (keys[i] >> np.uint32(11 * digit)) & np.uint32(DIGITS - 1)] += 1
        i += 1
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
def fill_tiles(start, stop, order, rows, spans, bands, tile_width, cursors, flatten_ids):  # type: ignore[no-untyped-def]
    """Counting sort of the Gaussians, in depth order, into the tiles of bands start..stop.

    Args:
        order: from `by_depth`.
        rows, spans: from `tile_spans`.
        bands: [bands + 1] tile rows of all cameras where each begins, and the last ends.
        cursors: [tiles] int64, where each tile's list begins; advanced.
        flatten_ids: written.
    """
    for band in range(start, stop):
        first, last = bands[band], bands[band + 1]
        for i in range(order.shape[0]):
            g = np.uintp(order[i])
            row, at = rows[g, 0], rows[g, 2]
            begin, end = max(row, first), min(row + rows[g, 1], last)
            for other in range(begin, end):
                tile, span = other * tile_width, np.uintp(at + other - row)
                for column in range(spans[span, 0], spans[span, 1]):
                    slot = cursors[np.uintp(tile + column)]
                    cursors[np.uintp(tile + column)] = slot + 1
                    flatten_ids[np.uintp(slot)] = order[i]


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
