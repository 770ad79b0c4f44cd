"""Compositing of channels, block by block, forward and backward. The weights are those of `weights`."""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel, part
from gseg_ns.rendering.kernels.weights import (
    CHECK_EVERY,
    COLUMN,
    COLUMNS,
    LOOKAHEAD,
    OPACITY,
    PLANES,
    ROW,
    SIZE,
    TRANS,
    WEIGHT,
    A,
    B,
    C,
    X,
    Y,
    blend,
    blocks_of,
    drawn_alpha,
    falloff,
    finished,
    new_block,
    new_lookahead,
    next_transmittance,
    open_block,
    reaching,
    run_of,
    uncapped_alpha,
)

# Planes of the backward block: what is left of the loss behind a Gaussian, its color times the gradient, channels.
REST, DOT, GRADS = PLANES, PLANES + SIZE, PLANES + 2 * SIZE
# Columns after the channels in a row of gradients: mean, |mean|, conic, opacity.
EXTRA = 8


@part
def add_channels(block, begin, end, colors, g, channels):  # type: ignore[no-untyped-def]
    """Add weight times color to the channel planes, four channels at a time."""
    channel = 0
    while channel + 4 <= channels:
        plane = PLANES + channel * SIZE
        c0, c1, c2, c3 = colors[g, channel], colors[g, channel + 1], colors[g, channel + 2], colors[g, channel + 3]
        for p in range(begin, end):
            w = block[np.uintp(WEIGHT + p)]
            block[np.uintp(plane + p)] += w * c0
            block[np.uintp(plane + SIZE + p)] += w * c1
            block[np.uintp(plane + 2 * SIZE + p)] += w * c2
            block[np.uintp(plane + 3 * SIZE + p)] += w * c3
        channel += 4
    if channels - channel == 3:
        plane = PLANES + channel * SIZE
        c0, c1, c2 = colors[g, channel], colors[g, channel + 1], colors[g, channel + 2]
        for p in range(begin, end):
            w = block[np.uintp(WEIGHT + p)]
            block[np.uintp(plane + p)] += w * c0
            block[np.uintp(plane + SIZE + p)] += w * c1
            block[np.uintp(plane + 2 * SIZE + p)] += w * c2
    else:
        for rest in range(channel, channels):
            plane = PLANES + rest * SIZE
            c0 = colors[g, rest]
            for p in range(begin, end):
                block[np.uintp(plane + p)] += block[np.uintp(WEIGHT + p)] * c0


@part
def blend_three(block, begin, end, packed, colors, g, left, top):  # type: ignore[no-untyped-def]
    """What `blend` and `add_channels` do for three channels, in one pass over the pixels."""
    real = block.dtype.type
    zero, done = real(0), real(1e-4)
    x, y, a, b, c = packed[g, X], packed[g, Y], packed[g, A], packed[g, B], packed[g, C]
    opacity = packed[g, OPACITY]
    c0, c1, c2 = colors[g, 0], colors[g, 1], colors[g, 2]
    origin_x, origin_y = real(left) + real(0.5), real(top) + real(0.5)
    for p in range(begin, end):
        dx = (block[np.uintp(COLUMN + p)] + origin_x) - x
        dy = (block[np.uintp(ROW + p)] + origin_y) - y
        sigma = falloff(dx, dy, a, b, c)
        alpha = drawn_alpha(uncapped_alpha(opacity, sigma), sigma)
        before = block[np.uintp(TRANS + p)]
        after = next_transmittance(before, alpha)
        alive = after > done
        w = alpha * before if alive else zero
        block[np.uintp(TRANS + p)] = after if alive else -abs(before)
        block[np.uintp(PLANES + p)] += w * c0
        block[np.uintp(PLANES + SIZE + p)] += w * c1
        block[np.uintp(PLANES + 2 * SIZE + p)] += w * c2


@kernel
def forward(  # type: ignore[no-untyped-def]
    start, stop, packed, colors, offsets, flatten_ids, masks, width, height, tile_size, tile_width, tile_height,
    out_colors, out_transmittance,
):  # fmt: skip
    """Composite tiles start..stop (numbered camera by camera, row by row).

    Args:
        packed: [M, PACKED] from `weights.pack`, colors [M, D], with M = cameras * Gaussians.
        offsets: [tiles + 1] into `flatten_ids`.
        masks: [tiles] bool; tiles that are False stay empty. Length 0 means every tile.
        out_colors: [C, H, W, D], written. Without background.
        out_transmittance: [C, H, W], written.
    """
    channels = colors.shape[1]
    block = new_block(channels, packed.dtype)
    firsts, lasts, found = new_lookahead()
    across, down = blocks_of(tile_size)
    for tile in range(start, stop):
        begin, end = offsets[tile], offsets[tile + 1]
        if masks.shape[0] > 0 and not masks[tile]:
            end = begin
        for number in range(across * down):
            camera, left, top, columns, rows = open_block(
                block, number, tile, tile_size, tile_width, tile_height, width, height
            )
            block[PLANES:] = 0
            ahead = begin
            while ahead < end and not finished(block):
                stop_at = min(ahead + LOOKAHEAD, end)
                count = reaching(packed, flatten_ids, ahead, stop_at, left, top, columns, rows, firsts, lasts, found)
                for i in range(count):
                    if i % CHECK_EVERY == CHECK_EVERY - 1 and finished(block):
                        break
                    place = found[i]
                    g = flatten_ids[ahead + place]
                    first, last = run_of(firsts[place], lasts[place])
                    if channels == 3:
                        blend_three(block, first, last, packed, colors, g, left, top)
                    else:
                        blend(block, first, last, packed, g, left, top)
                        add_channels(block, first, last, colors, g, channels)
                ahead = stop_at
            for row in range(rows):
                for column in range(columns):
                    p = row * COLUMNS + column
                    out_transmittance[camera, top + row, left + column] = abs(block[TRANS + p])
                    for channel in range(channels):
                        out_colors[camera, top + row, left + column, channel] = block[PLANES + channel * SIZE + p]


@part
def dot_channels(block, begin, end, colors, g, channels):  # type: ignore[no-untyped-def]
    """DOT = sum over channels of color times the pixel's gradient, four channels at a time."""
    real = block.dtype.type
    if channels == 3:
        c0, c1, c2 = colors[g, 0], colors[g, 1], colors[g, 2]
        for p in range(begin, end):
            block[np.uintp(DOT + p)] = (
                block[np.uintp(GRADS + p)] * c0
                + block[np.uintp(GRADS + SIZE + p)] * c1
                + block[np.uintp(GRADS + 2 * SIZE + p)] * c2
            )
        return
    for p in range(begin, end):
        block[np.uintp(DOT + p)] = real(0)
    channel = 0
    while channel + 4 <= channels:
        plane = GRADS + channel * SIZE
        c0, c1, c2, c3 = colors[g, channel], colors[g, channel + 1], colors[g, channel + 2], colors[g, channel + 3]
        for p in range(begin, end):
            block[np.uintp(DOT + p)] += (
                block[np.uintp(plane + p)] * c0
                + block[np.uintp(plane + SIZE + p)] * c1
                + block[np.uintp(plane + 2 * SIZE + p)] * c2
                + block[np.uintp(plane + 3 * SIZE + p)] * c3
            )
        channel += 4
    for rest in range(channel, channels):
        plane = GRADS + rest * SIZE
        c0 = colors[g, rest]
        for p in range(begin, end):
            block[np.uintp(DOT + p)] += block[np.uintp(plane + p)] * c0


@part
def color_gradients(block, begin, end, channels, row):  # type: ignore[no-untyped-def]
    """Add to row[:channels] the sums of weight times the pixel's gradient, four channels at a time."""
    real = block.dtype.type
    channel = 0
    while channel + 4 <= channels:
        plane = GRADS + channel * SIZE
        s0, s1, s2, s3 = real(0), real(0), real(0), real(0)
        for p in range(begin, end):
            w = block[np.uintp(WEIGHT + p)]
            s0 += w * block[np.uintp(plane + p)]
            s1 += w * block[np.uintp(plane + SIZE + p)]
            s2 += w * block[np.uintp(plane + 2 * SIZE + p)]
            s3 += w * block[np.uintp(plane + 3 * SIZE + p)]
        row[channel] += s0
        row[channel + 1] += s1
        row[channel + 2] += s2
        row[channel + 3] += s3
        channel += 4
    if channels - channel == 3:
        plane = GRADS + channel * SIZE
        s0, s1, s2 = real(0), real(0), real(0)
        for p in range(begin, end):
            w = block[np.uintp(WEIGHT + p)]
            s0 += w * block[np.uintp(plane + p)]
            s1 += w * block[np.uintp(plane + SIZE + p)]
            s2 += w * block[np.uintp(plane + 2 * SIZE + p)]
        row[channel] += s0
        row[channel + 1] += s1
        row[channel + 2] += s2
    else:
        for rest in range(channel, channels):
            plane = GRADS + rest * SIZE
            s0 = real(0)
            for p in range(begin, end):
                s0 += block[np.uintp(WEIGHT + p)] * block[np.uintp(plane + p)]
            row[rest] += s0


@part
def slope_of_sigma(alpha, raw, before, alive, dot, behind):  # type: ignore[no-untyped-def]
    """The derivative of the loss by a Gaussian's sigma at a pixel, see `backward`."""
    real = type(alpha)
    v_alpha = before * dot - behind / (real(1) - alpha)
    return -alpha * v_alpha if alive & (raw <= real(0.999)) else real(0)


@part
def pull(block, begin, end, packed, g, left, top):  # type: ignore[no-untyped-def]
    """Walk a Gaussian's pixels once more: weights out, transmittances and what is left of the loss updated.

    Returns the sums over the pixels of d loss / d sigma times 1, dx, dy, dx^2, dx dy and dy^2, and of the absolute
    gradients of the mean.
    """
    real = block.dtype.type
    done, zero = real(1e-4), real(0)
    x, y, a, b, c = packed[g, X], packed[g, Y], packed[g, A], packed[g, B], packed[g, C]
    opacity = packed[g, OPACITY]
    origin_x, origin_y = real(left) + real(0.5), real(top) + real(0.5)
    s, sx, sy, sxx, sxy, syy, abs_x, abs_y = zero, zero, zero, zero, zero, zero, zero, zero
    for p in range(begin, end):
        dx = (block[np.uintp(COLUMN + p)] + origin_x) - x
        dy = (block[np.uintp(ROW + p)] + origin_y) - y
        sigma = falloff(dx, dy, a, b, c)
        raw = uncapped_alpha(opacity, sigma)
        alpha = drawn_alpha(raw, sigma)
        before = block[np.uintp(TRANS + p)]
        after = next_transmittance(before, alpha)
        alive = after > done
        w = alpha * before if alive else zero
        block[np.uintp(WEIGHT + p)] = w
        block[np.uintp(TRANS + p)] = after if alive else -abs(before)
        dot = block[np.uintp(DOT + p)]
        behind = block[np.uintp(REST + p)] - w * dot
        block[np.uintp(REST + p)] = behind
        v_sigma = slope_of_sigma(alpha, raw, before, alive, dot, behind)
        tx, ty = v_sigma * dx, v_sigma * dy
        s += v_sigma
        sx += tx
        sy += ty
        sxx += tx * dx
        sxy += tx * dy
        syy += ty * dy
        abs_x += abs(a * tx + b * ty)
        abs_y += abs(b * tx + c * ty)
    return s, sx, sy, sxx, sxy, syy, abs_x, abs_y


@part
def pull_three(block, begin, end, packed, colors, g, left, top, row):  # type: ignore[no-untyped-def]
    """What `dot_channels`, `pull` and `color_gradients` do for three channels, in one pass over the pixels."""
    real = block.dtype.type
    done, zero = real(1e-4), real(0)
    x, y, a, b, c = packed[g, X], packed[g, Y], packed[g, A], packed[g, B], packed[g, C]
    opacity = packed[g, OPACITY]
    c0, c1, c2 = colors[g, 0], colors[g, 1], colors[g, 2]
    origin_x, origin_y = real(left) + real(0.5), real(top) + real(0.5)
    s, sx, sy, sxx, sxy, syy, abs_x, abs_y = zero, zero, zero, zero, zero, zero, zero, zero
    s0, s1, s2 = zero, zero, zero
    for p in range(begin, end):
        dx = (block[np.uintp(COLUMN + p)] + origin_x) - x
        dy = (block[np.uintp(ROW + p)] + origin_y) - y
        sigma = falloff(dx, dy, a, b, c)
        raw = uncapped_alpha(opacity, sigma)
        alpha = drawn_alpha(raw, sigma)
        before = block[np.uintp(TRANS + p)]
        after = next_transmittance(before, alpha)
        alive = after > done
        w = alpha * before if alive else zero
        block[np.uintp(TRANS + p)] = after if alive else -abs(before)
        g0, g1, g2 = (
            block[np.uintp(GRADS + p)],
            block[np.uintp(GRADS + SIZE + p)],
            block[np.uintp(GRADS + 2 * SIZE + p)],
        )
        dot = g0 * c0 + g1 * c1 + g2 * c2
        s0 += w * g0
        s1 += w * g1
        s2 += w * g2
        behind = block[np.uintp(REST + p)] - w * dot
        block[np.uintp(REST + p)] = behind
        v_sigma = slope_of_sigma(alpha, raw, before, alive, dot, behind)
        tx, ty = v_sigma * dx, v_sigma * dy
        s += v_sigma
        sx += tx
        sy += ty
        sxx += tx * dx
        sxy += tx * dy
        syy += ty * dy
        abs_x += abs(a * tx + b * ty)
        abs_y += abs(b * tx + c * ty)
    row[0] += s0
    row[1] += s1
    row[2] += s2
    return s, sx, sy, sxx, sxy, syy, abs_x, abs_y


@kernel
def backward(  # type: ignore[no-untyped-def]
    start, stop, packed, colors, offsets, flatten_ids, masks, width, height, tile_size, tile_width, tile_height,
    out_colors, out_transmittance, v_colors, v_alphas, v_pairs,
):  # fmt: skip
    """Gradients of each (tile, Gaussian) pair, front to back.

    For a pixel let v be its color gradient, R_i = sum over j > i of w_j (c_j . v) minus T_final v_alpha. Then
    d loss / d alpha_i = T_i (c_i . v) - R_i / (1 - alpha_i), and R_0 = out . v - T_final v_alpha needs nothing but
    the final image; a background cancels out of it (out here excludes it, and the caller adds it to v_alpha).

    Args:
        v_colors: [C, H, W, D]; v_alphas [C, H, W].
        v_pairs: [pairs, D + EXTRA], written: colors, then x, y, |x|, |y|, conic (3), opacity.
    """
    real = packed.dtype.type
    channels = colors.shape[1]
    block = new_block(2 + channels, packed.dtype)
    firsts, lasts, found = new_lookahead()
    across, down = blocks_of(tile_size)
    for tile in range(start, stop):
        begin, end = offsets[tile], offsets[tile + 1]
        v_pairs[begin:end] = 0
        if masks.shape[0] > 0 and not masks[tile]:
            continue
        for number in range(across * down):
            camera, left, top, columns, rows = open_block(
                block, number, tile, tile_size, tile_width, tile_height, width, height
            )
            block[PLANES:] = 0
            for row in range(rows):
                for column in range(columns):
                    p = row * COLUMNS + column
                    behind = (
                        -out_transmittance[camera, top + row, left + column]
                        * (v_alphas[camera, top + row, left + column])
                    )
                    for channel in range(channels):
                        v = v_colors[camera, top + row, left + column, channel]
                        block[GRADS + channel * SIZE + p] = v
                        behind += v * out_colors[camera, top + row, left + column, channel]
                    block[REST + p] = behind
            ahead = begin
            while ahead < end and not finished(block):
                stop_at = min(ahead + LOOKAHEAD, end)
                count = reaching(packed, flatten_ids, ahead, stop_at, left, top, columns, rows, firsts, lasts, found)
                for i in range(count):
                    if i % CHECK_EVERY == CHECK_EVERY - 1 and finished(block):
                        break
                    place = found[i]
                    g = flatten_ids[ahead + place]
                    first, last = run_of(firsts[place], lasts[place])
                    row = v_pairs[ahead + place]
                    if channels == 3:
                        sums = pull_three(block, first, last, packed, colors, g, left, top, row)
                    else:
                        dot_channels(block, first, last, colors, g, channels)
                        sums = pull(block, first, last, packed, g, left, top)
                        color_gradients(block, first, last, channels, row)
                    s, sx, sy, sxx, sxy, syy, abs_x, abs_y = sums
                    a, b, c = packed[g, A], packed[g, B], packed[g, C]
                    row[channels] -= a * sx + b * sy
                    row[channels + 1] -= b * sx + c * sy
                    row[channels + 2] += abs_x
                    row[channels + 3] += abs_y
                    row[channels + 4] += real(0.5) * sxx
                    row[channels + 5] += sxy
                    row[channels + 6] += real(0.5) * syy
                    row[channels + 7] -= s / packed[g, OPACITY]
                ahead = stop_at


@kernel
def reduce_pairs(  # type: ignore[no-untyped-def]
    start, stop, flatten_ids, v_pairs, sums, v_colors, v_means2d, absolute, v_conics, v_opacities
):
    """Sum the pairs' rows of Gaussians start..stop (of M), in list order whatever the cut, and take the sums apart.

    Args:
        v_pairs: [pairs, D + EXTRA], see `backward`.
        sums: [M, D + EXTRA], written.
        v_colors: [M, D], v_means2d [M, 2], absolute [M, 2] or length 0, v_conics [M, 3], v_opacities [M], written.
    """
    channels = v_colors.shape[1]
    sums[start:stop] = 0
    for k in range(flatten_ids.shape[0]):
        g = flatten_ids[k]
        if start <= g < stop:
            for column in range(v_pairs.shape[1]):
                sums[g, column] += v_pairs[k, column]
    for g in range(start, stop):
        for channel in range(channels):
            v_colors[g, channel] = sums[g, channel]
        v_means2d[g, 0], v_means2d[g, 1] = sums[g, channels], sums[g, channels + 1]
        if absolute.shape[0] > 0:
            absolute[g, 0], absolute[g, 1] = sums[g, channels + 2], sums[g, channels + 3]
        for column in range(3):
            v_conics[g, column] = sums[g, channels + 4 + column]
        v_opacities[g] = sums[g, channels + 7]
