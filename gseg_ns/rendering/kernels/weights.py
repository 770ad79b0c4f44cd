"""The weight w = alpha T of a Gaussian at a pixel: the one definition behind rendering and contributions.

The rules are gsplat 1.4.0's (`rasterize_to_pixels_fwd.cu`): alpha = min(0.999, o exp(-sigma)), contributions with
sigma < 0 or alpha < 1/255 are skipped, and a pixel is finished before the contribution that would bring its
transmittance to 1e-4 or below.

Inside a tile each Gaussian is visited row by row over the columns that its ellipse can reach, widened to whole groups
of `LANES` columns, so that the inner loops have no branches and full vectors. A finished pixel is marked by a negative
transmittance: the test `after > 1e-4` then fails for ever, and |T| is still the pixel's final transmittance.
"""

from __future__ import annotations

import math

from gseg_ns.rendering.kernels.jit import exact, exp_negative, kernel, multiply_add

LANES = 8
# Gaussians between two looks at whether the whole tile is finished.
CHECK_EVERY = 8
# Slack on the cut-off in units of sigma: float32 rounding in long thin ellipses must not drop a pixel that the
# alpha test itself keeps.
CUTOFF_SLACK = 0.02


@kernel
def cutoff(opacity):  # type: ignore[no-untyped-def]
    """Largest sigma at which `opacity` still gives alpha >= 1/255, plus slack; negative if there is none."""
    if not opacity * 255.0 >= 1.0:
        return -1.0
    return math.log(opacity * 255.0) + CUTOFF_SLACK


@kernel
def row_limits(mean_y, a, b, c, limit, tile_y, rows):  # type: ignore[no-untyped-def]
    """First and last+1 row (within the tile) whose pixel centres the ellipse can reach."""
    if not (a > 0 and c > 0 and a * c > b * b):
        return 0, rows
    reach = math.sqrt(2.0 * limit * a / (a * c - b * b))
    first = max(0, math.ceil(mean_y - reach - 0.5) - tile_y)
    last = min(rows, math.floor(mean_y + reach - 0.5) + 1 - tile_y)
    return first, last


@kernel
def column_limits(mean_x, dy, a, b, c, limit, tile_x, columns):  # type: ignore[no-untyped-def]
    """First and last+1 column (within the tile) that the ellipse can reach in one row, in whole groups of lanes."""
    if not (a > 0 and c > 0 and a * c > b * b):
        return 0, (columns + LANES - 1) // LANES * LANES
    root = math.sqrt(max(b * b * dy * dy - a * (c * dy * dy - 2.0 * limit), 0.0)) / a
    centre = mean_x - b * dy / a - 0.5 - tile_x
    first = max(0, math.ceil(centre - root))
    last = min(columns, math.floor(centre + root) + 1)
    if first >= last:
        return 0, 0
    return first // LANES * LANES, (last + LANES - 1) // LANES * LANES


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


@kernel
def blend_row(trans, weight, base, first, last, tile_x, x, dy, a, b, c, opacity):  # type: ignore[no-untyped-def]
    """Composite one Gaussian over columns first..last of a row: weights out, transmittances updated."""
    real = trans.dtype.type
    half, zero, done = real(0.5), real(0), real(1e-4)
    for i in range(first, last):
        dx = real(tile_x + i) + half - x
        sigma = falloff(dx, dy, a, b, c)
        alpha = drawn_alpha(uncapped_alpha(opacity, sigma), sigma)
        before = trans[base + i]
        after = next_transmittance(before, alpha)
        alive = after > done
        weight[i] = alpha * before if alive else zero
        trans[base + i] = after if alive else -abs(before)


@kernel
def open_tile(trans, tile_x, tile_y, stride, tile_size, width, height):  # type: ignore[no-untyped-def]
    """Start a tile: transmittance 1 inside the image, finished outside. Returns its rows and columns."""
    real = trans.dtype.type
    rows = min(tile_size, height - tile_y)
    columns = min(tile_size, width - tile_x)
    trans[:] = real(-1)
    for row in range(rows):
        trans[row * stride : row * stride + columns] = real(1)
    return rows, columns


@kernel
def finished(trans):  # type: ignore[no-untyped-def]
    """Whether every pixel of the tile is finished."""
    best = trans[0]
    for p in range(trans.shape[0]):
        best = max(best, trans[p])
    return best < 0
