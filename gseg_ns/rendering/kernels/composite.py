"""Front-to-back alpha compositing of one tile at a time, forward and backward.

The rules are gsplat 1.4.0's (`rasterize_to_pixels_{fwd,bwd}.cu`): alpha = min(0.999, o exp(-sigma)), contributions
with sigma < 0 or alpha < 1/255 are skipped, and a pixel is finished before the contribution that would bring its
transmittance to 1e-4 or below.

Inside a tile each Gaussian is visited row by row over the columns that its ellipse can reach, widened to whole groups
of `LANES` columns, so that the inner loops have no branches and full vectors. A finished pixel is marked by a negative
transmittance: the test `next > 1e-4` then fails for ever, and |T| is still the pixel's final transmittance.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import exp_negative, kernel
from gseg_ns.rendering.kernels.tiles import cutoff

LANES = 8
# Gaussians between two looks at whether the whole tile is finished.
CHECK_EVERY = 8


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
        return 0, columns
    root = math.sqrt(max(b * b * dy * dy - a * (c * dy * dy - 2.0 * limit), 0.0)) / a
    centre = mean_x - b * dy / a - 0.5 - tile_x
    first = max(0, math.ceil(centre - root))
    last = min(columns, math.floor(centre + root) + 1)
    if first >= last:
        return 0, 0
    return first // LANES * LANES, (last + LANES - 1) // LANES * LANES


@kernel
def forward(  # type: ignore[no-untyped-def]
    start, stop, means2d, conics, colors, opacities, offsets, flatten_ids, masks, width, height, tile_size, tile_width,
    tile_height, out_colors, out_transmittance,
):  # fmt: skip
    """Composite tiles start..stop (numbered camera by camera, row by row).

    Args:
        means2d: [M, 2], conics [M, 3], colors [M, D], opacities [M], with M = cameras * Gaussians.
        offsets: [tiles + 1] into `flatten_ids`.
        masks: [tiles] bool; tiles that are False stay empty. Length 0 means every tile.
        out_colors: [C, H, W, D], written. Without background.
        out_transmittance: [C, H, W], written.
    """
    real = means2d.dtype.type
    one, half, least, largest, done, zero = real(1), real(0.5), real(1.0 / 255.0), real(0.999), real(1e-4), real(0)
    channels = colors.shape[1]
    stride = (tile_size + LANES - 1) // LANES * LANES
    size = stride * tile_size
    trans = np.empty(size, means2d.dtype)
    total = np.empty(size * channels, means2d.dtype)
    weight = np.empty(stride, means2d.dtype)
    per_camera = tile_width * tile_height
    for tile in range(start, stop):
        camera = tile // per_camera
        tile_y = (tile - camera * per_camera) // tile_width * tile_size
        tile_x = (tile - camera * per_camera) % tile_width * tile_size
        rows = min(tile_size, height - tile_y)
        columns = min(tile_size, width - tile_x)
        trans[:] = -one
        total[:] = zero
        for row in range(rows):
            trans[row * stride : row * stride + columns] = one
        begin, end = offsets[tile], offsets[tile + 1]
        if masks.shape[0] > 0 and not masks[tile]:
            end = begin
        for k in range(begin, end):
            if (k - begin) % CHECK_EVERY == CHECK_EVERY - 1:
                best = -one
                for p in range(size):
                    best = max(best, trans[p])
                if best < zero:
                    break
            g = flatten_ids[k]
            opacity = opacities[g]
            limit = cutoff(opacity)
            if not limit >= 0:
                continue
            x, y = means2d[g, 0], means2d[g, 1]
            a, b, c = conics[g, 0], conics[g, 1], conics[g, 2]
            first_row, last_row = row_limits(y, a, b, c, limit, tile_y, rows)
            for row in range(first_row, last_row):
                dy = real(tile_y + row) + half - y
                first, last = column_limits(x, dy, a, b, c, limit, tile_x, columns)
                base = row * stride
                offset = real(tile_x) + half - x
                for i in range(first, last):
                    dx = offset + real(i)
                    sigma = half * (a * dx * dx + c * dy * dy) + b * dx * dy
                    alpha = min(largest, opacity * exp_negative(-max(sigma, zero)))
                    alpha = alpha if (alpha >= least) & (sigma >= zero) else zero
                    before = trans[base + i]
                    after = before * (one - alpha)
                    alive = after > done
                    weight[i] = alpha * before if alive else zero
                    trans[base + i] = after if alive else -abs(before)
                for channel in range(channels):
                    value = colors[g, channel]
                    plane = channel * size + base
                    for i in range(first, last):
                        total[plane + i] += weight[i] * value
        for row in range(rows):
            for column in range(columns):
                p = row * stride + column
                out_transmittance[camera, tile_y + row, tile_x + column] = abs(trans[p])
                for channel in range(channels):
                    out_colors[camera, tile_y + row, tile_x + column, channel] = total[channel * size + p]


@kernel
def backward(  # type: ignore[no-untyped-def]
    start, stop, means2d, conics, colors, opacities, offsets, flatten_ids, masks, width, height, tile_size, tile_width,
    tile_height, out_colors, out_transmittance, v_colors, v_alphas, v_isect,
):  # fmt: skip
    """Gradients of each (tile, Gaussian) pair, front to back.

    For a pixel let v be its colour gradient, R_i = sum over j > i of w_j (c_j . v) minus T_final v_alpha. Then
    d loss / d alpha_i = T_i (c_i . v) - R_i / (1 - alpha_i), and R_0 = out . v - T_final v_alpha needs nothing but
    the final image; a background cancels out of it (out here excludes it, and the caller adds it to v_alpha).

    Args:
        v_colors: [C, H, W, D]; v_alphas [C, H, W].
        v_isect: [pairs, D + 8], written: colours, then x, y, |x|, |y|, conic (3), opacity.
    """
    real = means2d.dtype.type
    one, half, least, largest, done, zero = real(1), real(0.5), real(1.0 / 255.0), real(0.999), real(1e-4), real(0)
    channels = colors.shape[1]
    stride = (tile_size + LANES - 1) // LANES * LANES
    size = stride * tile_size
    trans = np.empty(size, means2d.dtype)
    rest = np.empty(size, means2d.dtype)
    grad = np.empty(size * channels, means2d.dtype)
    weight = np.empty(stride, means2d.dtype)
    dot = np.empty(stride, means2d.dtype)
    per_camera = tile_width * tile_height
    for tile in range(start, stop):
        camera = tile // per_camera
        tile_y = (tile - camera * per_camera) // tile_width * tile_size
        tile_x = (tile - camera * per_camera) % tile_width * tile_size
        rows = min(tile_size, height - tile_y)
        columns = min(tile_size, width - tile_x)
        trans[:] = -one
        rest[:] = zero
        grad[:] = zero
        begin, end = offsets[tile], offsets[tile + 1]
        if masks.shape[0] > 0 and not masks[tile]:
            v_isect[begin:end] = zero
            continue
        for row in range(rows):
            for column in range(columns):
                p = row * stride + column
                trans[p] = one
                left = (
                    -out_transmittance[camera, tile_y + row, tile_x + column]
                    * (v_alphas[camera, tile_y + row, tile_x + column])
                )
                for channel in range(channels):
                    v = v_colors[camera, tile_y + row, tile_x + column, channel]
                    grad[channel * size + p] = v
                    left += v * out_colors[camera, tile_y + row, tile_x + column, channel]
                rest[p] = left
        for k in range(begin, end):
            v_isect[k] = zero
            if (k - begin) % CHECK_EVERY == CHECK_EVERY - 1:
                best = -one
                for p in range(size):
                    best = max(best, trans[p])
                if best < zero:
                    v_isect[k:end] = zero
                    break
            g = flatten_ids[k]
            opacity = opacities[g]
            limit = cutoff(opacity)
            if not limit >= 0:
                continue
            x, y = means2d[g, 0], means2d[g, 1]
            a, b, c = conics[g, 0], conics[g, 1], conics[g, 2]
            v_x, v_y, v_abs_x, v_abs_y = zero, zero, zero, zero
            v_a, v_b, v_c, v_sum = zero, zero, zero, zero
            first_row, last_row = row_limits(y, a, b, c, limit, tile_y, rows)
            for row in range(first_row, last_row):
                dy = real(tile_y + row) + half - y
                first, last = column_limits(x, dy, a, b, c, limit, tile_x, columns)
                if first >= last:
                    continue
                base = row * stride
                offset = real(tile_x) + half - x
                for i in range(first, last):
                    dot[i] = zero
                for channel in range(channels):
                    value = colors[g, channel]
                    plane = channel * size + base
                    for i in range(first, last):
                        dot[i] += grad[plane + i] * value
                s0, s1, s2 = zero, zero, zero
                for i in range(first, last):
                    dx = offset + real(i)
                    sigma = half * (a * dx * dx + c * dy * dy) + b * dx * dy
                    raw = opacity * exp_negative(-max(sigma, zero))
                    alpha = min(largest, raw)
                    alpha = alpha if (alpha >= least) & (sigma >= zero) else zero
                    before = trans[base + i]
                    keep = one - alpha
                    after = before * keep
                    alive = after > done
                    w = alpha * before if alive else zero
                    weight[i] = w
                    trans[base + i] = after if alive else -abs(before)
                    left = rest[base + i] - w * dot[i]
                    rest[base + i] = left
                    v_alpha = before * dot[i] - left / keep
                    v_sigma = -alpha * v_alpha if alive & (raw <= largest) else zero
                    s0 += v_sigma
                    s1 += v_sigma * dx
                    s2 += v_sigma * dx * dx
                    v_abs_x += abs(v_sigma * (a * dx + b * dy))
                    v_abs_y += abs(v_sigma * (b * dx + c * dy))
                v_sum += s0
                v_x -= a * s1 + b * dy * s0
                v_y -= b * s1 + c * dy * s0
                v_a += half * s2
                v_b += dy * s1
                v_c += half * dy * dy * s0
                for channel in range(channels):
                    plane = channel * size + base
                    acc = zero
                    for i in range(first, last):
                        acc += weight[i] * grad[plane + i]
                    v_isect[k, channel] += acc
            v_isect[k, channels] = v_x
            v_isect[k, channels + 1] = v_y
            v_isect[k, channels + 2] = v_abs_x
            v_isect[k, channels + 3] = v_abs_y
            v_isect[k, channels + 4] = v_a
            v_isect[k, channels + 5] = v_b
            v_isect[k, channels + 6] = v_c
            v_isect[k, channels + 7] = -v_sum / opacity


@kernel
def reduce_pairs(start, stop, flatten_ids, v_isect, v_gauss):  # type: ignore[no-untyped-def]
    """Sum the pairs' rows into rows start..stop of `v_gauss` [M, D + 8], in list order whatever the cut."""
    v_gauss[start:stop] = 0
    for k in range(flatten_ids.shape[0]):
        g = flatten_ids[k]
        if start <= g < stop:
            for column in range(v_isect.shape[1]):
                v_gauss[g, column] += v_isect[k, column]
