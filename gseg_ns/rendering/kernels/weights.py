"""The weight w = alpha T of a Gaussian at a pixel: the one definition behind rendering and contributions.

The rules are gsplat 1.4.0's (`rasterize_to_pixels_fwd.cu`): alpha = min(0.999, o exp(-sigma)), contributions with
sigma < 0 or alpha < 1/255 are skipped, and a pixel is finished before the contribution that would bring its
transmittance to 1e-4 or below.

A tile is cut into blocks of `COLUMNS` x `ROWS` pixels, and a block walks the tile's list alone. Its pixels lie row
after row in one buffer, so that the rows which a Gaussian can reach are one run of whole vectors: the inner loops have
no branches, no remainders and no work for rows outside the ellipse. All planes of a block live in one array at
constant distances, which is how the compiler knows that they do not overlap. A finished pixel is marked by a negative
transmittance: the test `after > 1e-4` then fails for ever, and |T| is still the pixel's final transmittance.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import exact, exp_negative, kernel, multiply_add, part

COLUMNS = 8
ROWS = 16
SIZE = COLUMNS * ROWS
# Planes of a block's buffer, by their offset: pixel column and row, transmittance, weight, and room for kernels.
COLUMN, ROW, TRANS, WEIGHT, PLANES = 0, SIZE, 2 * SIZE, 3 * SIZE, 4 * SIZE
# Gaussians between two looks at whether the whole block is finished.
CHECK_EVERY = 8
# Gaussians whose reach is found at a time.
LOOKAHEAD = 32
# Slack on the cut-off in units of sigma: float32 rounding in long thin ellipses must not drop a pixel that the
# alpha test itself keeps.
CUTOFF_SLACK = 0.02

# Columns of a packed Gaussian: mean, conic and opacity, then its extent for `reach`.
X, Y, A, B, C, OPACITY, HALF_WIDTH, HALF_HEIGHT, TOP_X, SHEAR, INVERSE_C, ROOT, DET = range(13)
PACKED = 16


@kernel
def cutoff(opacity):  # type: ignore[no-untyped-def]
    """Largest sigma at which `opacity` still gives alpha >= 1/255, plus slack; negative if there is none."""
    if not 1.0 <= opacity * 255.0 < np.inf:
        return -1.0
    return math.log(opacity * 255.0) + CUTOFF_SLACK


@kernel
def pack(start, stop, means2d, conics, opacities, packed):  # type: ignore[no-untyped-def]
    """Gather each Gaussian into one cache line of `packed` [M, PACKED], with its extent where alpha >= 1/255.

    The extent is that of the ellipse sigma <= cutoff (opacity-aware, as in Speedy-Splat, Hanson et al. 2025): half
    width (negative: nothing is drawn; infinite: no ellipse, every pixel must be tested), half height, the x of its
    topmost point, and the terms of y(x) = -SHEAR x +- sqrt(ROOT - DET x^2) INVERSE_C, all from the mean.
    """
    for g in range(start, stop):
        a, b, c = float(conics[g, 0]), float(conics[g, 1]), float(conics[g, 2])
        packed[g, X], packed[g, Y] = means2d[g, 0], means2d[g, 1]
        packed[g, A], packed[g, B], packed[g, C] = conics[g, 0], conics[g, 1], conics[g, 2]
        packed[g, OPACITY] = opacities[g]
        det = a * c - b * b
        # What is culled is no ellipse, and its logarithm is not asked for.
        if not 1.0 <= float(opacities[g]) * 255.0 < np.inf:
            packed[g, HALF_WIDTH] = -1.0
        elif not (a > 0 and c > 0 and det > 0):
            packed[g, HALF_WIDTH] = np.inf
        else:
            limit = cutoff(float(opacities[g]))
            half_height = math.sqrt(2.0 * limit * a / det)
            packed[g, HALF_WIDTH] = math.sqrt(2.0 * limit * c / det)
            packed[g, HALF_HEIGHT] = half_height
            packed[g, TOP_X] = -b / a * half_height
            packed[g, SHEAR] = b / c
            packed[g, INVERSE_C] = 1.0 / c
            packed[g, ROOT] = 2.0 * limit * c
            packed[g, DET] = det


@part
def reach(packed, g, left, top, columns, rows):  # type: ignore[no-untyped-def]
    """First and last+1 row of the block at (left, top) whose pixel centres Gaussian g can reach; equal if none."""
    half_width = float(packed[g, HALF_WIDTH])
    if half_width == np.inf:
        return 0, rows
    begin = max(left + 0.5 - packed[g, X], -half_width)
    end = min(left + columns - 0.5 - packed[g, X], half_width)
    if not begin <= end:
        return 0, 0
    high = low = float(packed[g, HALF_HEIGHT])
    at = float(packed[g, TOP_X])
    if not begin <= at <= end:
        at = min(max(at, begin), end)
        root = math.sqrt(max(packed[g, ROOT] - packed[g, DET] * at * at, 0.0))
        high = root * packed[g, INVERSE_C] - packed[g, SHEAR] * at
    at = -float(packed[g, TOP_X])
    if not begin <= at <= end:
        at = min(max(at, begin), end)
        root = math.sqrt(max(packed[g, ROOT] - packed[g, DET] * at * at, 0.0))
        low = root * packed[g, INVERSE_C] + packed[g, SHEAR] * at
    centre = packed[g, Y] - 0.5 - top
    return max(0, math.ceil(centre - low)), min(rows, math.floor(centre + high) + 1)


@part
def reaching(packed, flatten_ids, begin, end, left, top, columns, rows, firsts, lasts, found):  # type: ignore[no-untyped-def]
    """Which Gaussians of flatten_ids[begin:end] reach the block at (left, top), and its rows that they do.

    As `reach`, for up to `LOOKAHEAD` at a time and without branches, so that it vectorises.

    Args:
        firsts, lasts: [LOOKAHEAD] int32, written: what `reach` returns.
        found: [LOOKAHEAD] int32, written: places after `begin` of those that reach it.

    Returns how many do.
    """
    west, east = left + 0.5, left + columns - 0.5
    for i in range(end - begin):
        g = np.uintp(flatten_ids[np.uintp(begin + i)])
        x, half_width = float(packed[g, X]), float(packed[g, HALF_WIDTH])
        near, far = max(west - x, -half_width), min(east - x, half_width)
        top_x, half_height = float(packed[g, TOP_X]), float(packed[g, HALF_HEIGHT])
        shear, inverse = float(packed[g, SHEAR]), float(packed[g, INVERSE_C])
        root, det = float(packed[g, ROOT]), float(packed[g, DET])
        at = min(max(top_x, near), far)
        high = math.sqrt(max(root - det * at * at, 0.0)) * inverse - shear * at
        high = half_height if at == top_x else high
        at = min(max(-top_x, near), far)
        low = math.sqrt(max(root - det * at * at, 0.0)) * inverse + shear * at
        low = half_height if at == -top_x else low
        centre = float(packed[g, Y]) - 0.5 - top
        first = min(max(np.ceil(centre - low), 0.0), 1.0 * ROWS)
        last = min(max(np.floor(centre + high) + 1.0, 0.0), 1.0 * rows)
        everywhere = half_width == np.inf
        nowhere = not near <= far
        # The second clamp is for what a number that is none was turned into.
        firsts[np.uintp(i)] = 0 if everywhere | nowhere else min(max(np.int32(first), 0), ROWS)
        lasts[np.uintp(i)] = rows if everywhere else 0 if nowhere else min(max(np.int32(last), 0), rows)
    count = 0
    for i in range(end - begin):
        found[count] = i
        count += firsts[i] < lasts[i]
    return count


@part
def run_of(first, last):  # type: ignore[no-untyped-def]
    """Pixels of rows first..last, and of as many more as fill vectors of two rows, which change nothing.

    A processor with vectors of 16 numbers would else do the last 8 in half vectors, with a setup of their own.
    """
    return first // 2 * (2 * COLUMNS), (last + 1) // 2 * (2 * COLUMNS)


@exact
def falloff(dx, dy, a, b, c):  # type: ignore[no-untyped-def]
    """The exponent sigma = (a dx^2 + c dy^2) / 2 + b dx dy."""
    half = type(a)(0.5)
    return multiply_add(dx, multiply_add(half * a, dx, b * dy), half * c * dy * dy)  # type: ignore[call-arg]


@exact
def uncapped_alpha(opacity, sigma):  # type: ignore[no-untyped-def]
    """Alpha before its cap, opacity exp(-sigma), with negative sigma taken as 0."""
    return opacity * exp_negative(-max(sigma, type(sigma)(0)))


@exact
def drawn_alpha(raw, sigma):  # type: ignore[no-untyped-def]
    """The alpha that is composited: capped, and 0 where the contribution is skipped."""
    real = type(raw)
    alpha = min(real(0.999), raw)
    return alpha if (alpha >= real(1.0 / 255.0)) & (sigma >= real(0)) else real(0)


@exact
def next_transmittance(before, alpha):  # type: ignore[no-untyped-def]
    """T (1 - alpha)."""
    return before * (type(alpha)(1) - alpha)


@part
def blend(block, begin, end, packed, g, left, top):  # type: ignore[no-untyped-def]
    """Composite one Gaussian over pixels begin..end of a block: weights out, transmittances updated."""
    real = block.dtype.type
    zero, done = real(0), real(1e-4)
    x, y, a, b, c = packed[g, X], packed[g, Y], packed[g, A], packed[g, B], packed[g, C]
    opacity = packed[g, OPACITY]
    origin_x, origin_y = real(left) + real(0.5), real(top) + real(0.5)
    for p in range(begin, end):
        dx = (block[np.uintp(COLUMN + p)] + origin_x) - x
        dy = (block[np.uintp(ROW + p)] + origin_y) - y
        sigma = falloff(dx, dy, a, b, c)
        alpha = drawn_alpha(uncapped_alpha(opacity, sigma), sigma)
        before = block[np.uintp(TRANS + p)]
        after = next_transmittance(before, alpha)
        alive = after > done
        block[np.uintp(WEIGHT + p)] = alpha * before if alive else zero
        block[np.uintp(TRANS + p)] = after if alive else -abs(before)


@kernel
def new_block(planes, dtype):  # type: ignore[no-untyped-def]
    """A buffer with room for `planes` more planes, and its pixel columns and rows filled in."""
    block = np.zeros(PLANES + planes * SIZE, dtype)
    for p in range(SIZE):
        block[COLUMN + p] = p % COLUMNS
        block[ROW + p] = p // COLUMNS
    return block


@kernel
def new_lookahead():  # type: ignore[no-untyped-def]
    """What `reaching` writes to."""
    return np.empty(LOOKAHEAD, np.int32), np.empty(LOOKAHEAD, np.int32), np.empty(LOOKAHEAD, np.int32)


@kernel
def blocks_of(tile_size):  # type: ignore[no-untyped-def]
    """Blocks across and down a tile."""
    return (tile_size + COLUMNS - 1) // COLUMNS, (tile_size + ROWS - 1) // ROWS


@kernel
def open_block(block, number, tile, tile_size, tile_width, tile_height, width, height):  # type: ignore[no-untyped-def]
    """Start block `number` of a tile: transmittance 1 inside the image, finished outside.

    Returns its camera, left, top, columns and rows; rows is 0 for a block that lies outside.
    """
    real = block.dtype.type
    across, _ = blocks_of(tile_size)
    per_camera = tile_width * tile_height
    camera = tile // per_camera
    tile_y = (tile - camera * per_camera) // tile_width * tile_size
    tile_x = (tile - camera * per_camera) % tile_width * tile_size
    left = tile_x + number % across * COLUMNS
    top = tile_y + number // across * ROWS
    columns = min(COLUMNS, tile_x + tile_size - left, width - left)
    rows = min(ROWS, tile_y + tile_size - top, height - top)
    if columns <= 0 or rows <= 0:
        return camera, left, top, 0, 0
    for row in range(ROWS):
        for column in range(COLUMNS):
            inside = row < rows and column < columns
            block[TRANS + row * COLUMNS + column] = real(1) if inside else real(-1)
    return camera, left, top, columns, rows


@part
def finished(block):  # type: ignore[no-untyped-def]
    """Whether every pixel of the block is finished."""
    open_pixels = 0
    for p in range(SIZE):
        open_pixels += 1 if block[np.uintp(TRANS + p)] > 0 else 0
    return open_pixels == 0
