"""Compositing of channels, one tile at a time, forward and backward. The weights are those of `weights`."""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel
from gseg_ns.rendering.kernels.weights import (
    CHECK_EVERY,
    LANES,
    blend_row,
    column_limits,
    cutoff,
    drawn_alpha,
    falloff,
    finished,
    next_transmittance,
    open_tile,
    row_limits,
    uncapped_alpha,
)


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
    half, zero = real(0.5), real(0)
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
        rows, columns = open_tile(trans, tile_x, tile_y, stride, tile_size, width, height)
        total[:] = zero
        begin, end = offsets[tile], offsets[tile + 1]
        if masks.shape[0] > 0 and not masks[tile]:
            end = begin
        for k in range(begin, end):
            if (k - begin) % CHECK_EVERY == CHECK_EVERY - 1:
                if finished(trans):
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
                blend_row(trans, weight, base, first, last, tile_x, x, dy, a, b, c, opacity)
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
    one, half, largest, done, zero = real(1), real(0.5), real(0.999), real(1e-4), real(0)
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
        rows, columns = open_tile(trans, tile_x, tile_y, stride, tile_size, width, height)
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
                if finished(trans):
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
                for i in range(first, last):
                    dot[i] = zero
                for channel in range(channels):
                    value = colors[g, channel]
                    plane = channel * size + base
                    for i in range(first, last):
                        dot[i] += grad[plane + i] * value
                s0, s1, s2 = zero, zero, zero
                for i in range(first, last):
                    dx = real(tile_x + i) + half - x
                    sigma = falloff(dx, dy, a, b, c)
                    raw = uncapped_alpha(opacity, sigma)
                    alpha = drawn_alpha(raw, sigma)
                    before = trans[base + i]
                    after = next_transmittance(before, alpha)
                    alive = after > done
                    w = alpha * before if alive else zero
                    weight[i] = w
                    trans[base + i] = after if alive else -abs(before)
                    left = rest[base + i] - w * dot[i]
                    rest[base + i] = left
                    v_alpha = before * dot[i] - left / (one - alpha)
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
