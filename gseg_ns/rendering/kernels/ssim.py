"""Likeness of two images: structural similarity (Wang et al. 2004) with its gradient, and absolute differences.

With p = x + y and q = x - y, and m and v the means and variances of either under the window, the similarity is

    S = (m_p^2 - m_q^2 + 2 C1) (v_p - v_q + 2 C2) / ((m_p^2 + m_q^2 + 2 C1) (v_p + v_q + 2 C2)),

so four filters do instead of five, and where two images are alike all that differs is in q, which is small and has
lost no digits. The window is separable: columns of pixels first, then rows. Channels stay side by side as images have
them: a neighbour in a row is as many numbers away as there are channels, and every pass reads whole vectors.

A tile goes down its rows once. Of the images, and of the slopes that the gradient is a filter of, no more rows are kept
than the window has; each is kept twice, so that a window's rows always lie one after another, each step a constant:
that is how the compiler knows what does not overlap.
"""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel

TAPS = 11
BORDER = TAPS - 1
# A tile of the image at most. Rows of a buffer have room for the border, and are worked on in whole vectors.
TILE_ROWS = 96
TILE_COLUMNS = 256
VECTOR = 16


@kernel
def smoothed(values, at, step, taps):  # type: ignore[no-untyped-def]
    """The symmetric window over values[at], values[at + step], ... values[at + BORDER * step]."""
    return (
        taps[0] * (values[np.uintp(at)] + values[np.uintp(at + 10 * step)])
        + taps[1] * (values[np.uintp(at + step)] + values[np.uintp(at + 9 * step)])
        + taps[2] * (values[np.uintp(at + 2 * step)] + values[np.uintp(at + 8 * step)])
        + taps[3] * (values[np.uintp(at + 3 * step)] + values[np.uintp(at + 7 * step)])
        + taps[4] * (values[np.uintp(at + 4 * step)] + values[np.uintp(at + 6 * step)])
        + taps[5] * values[np.uintp(at + 5 * step)]
    )


@kernel
def square(values, at):  # type: ignore[no-untyped-def]
    """The square of one value."""
    value = values[np.uintp(at)]
    return value * value


@kernel
def smoothed_squares(values, at, step, taps):  # type: ignore[no-untyped-def]
    """The window over the squares of what `smoothed` sees."""
    return (
        taps[0] * (square(values, at) + square(values, at + 10 * step))
        + taps[1] * (square(values, at + step) + square(values, at + 9 * step))
        + taps[2] * (square(values, at + 2 * step) + square(values, at + 8 * step))
        + taps[3] * (square(values, at + 3 * step) + square(values, at + 7 * step))
        + taps[4] * (square(values, at + 4 * step) + square(values, at + 6 * step))
        + taps[5] * square(values, at + 5 * step)
    )


@kernel
def half_of(window):  # type: ignore[no-untyped-def]
    """The window's first half and its middle, as numbers that stay in registers."""
    return window[0], window[1], window[2], window[3], window[4], window[5]


@kernel
def whole(count):  # type: ignore[no-untyped-def]
    """The count, rounded up to whole vectors."""
    return (count + VECTOR - 1) // VECTOR * VECTOR


@kernel
def piece(number, pieces, size):  # type: ignore[no-untyped-def]
    """First and last+1 of one of several pieces of a length, as even as can be."""
    return number * size // pieces, (number + 1) * size // pieces


@kernel
def likeness(start, stop, x, unit, y, channels, window, c1, c2, sums, slopes):  # type: ignore[no-untyped-def]
    """Compare tiles start..stop.

    Args:
        x: [B, H, W * C], which times `unit` is an image.
        unit: a number; 1 / 255 of bytes: 0 and 255 are 0 and 1, and others right but for the last digit.
        y: the other image [B, H, W * C].
        channels: a tuple of C things: its length is known when this is compiled.
        window: [TAPS], symmetric.
        c1, c2: the two constants of the similarity.
        sums: [tiles, 2], written: of the similarity and of the absolute differences within each.
        slopes: as y, written: the gradient of the sum of the similarity by y. Or empty.
    """
    real = y.dtype.type
    half, one, two = real(0.5), real(1), real(2)
    unit, c1, c2, taps = real(unit), real(c1), real(c2), half_of(window)
    step = len(channels)
    # Room for a tile's numbers in a row, with the border on both sides.
    stride = whole((TILE_COLUMNS + 2 * BORDER) * step) + VECTOR
    plane = 2 * TAPS * stride
    rows, columns = y.shape[1], y.shape[2] // step
    across, down = (columns + TILE_COLUMNS - 1) // TILE_COLUMNS, (rows + TILE_ROWS - 1) // TILE_ROWS
    # p, q; the slopes by their squares' means and by y.
    kept, line, kept_slopes = np.zeros(2 * plane, y.dtype), np.zeros(4 * stride, y.dtype), np.zeros(3 * plane, y.dtype)
    values = np.zeros(4 * stride, y.dtype)
    for tile in range(start, stop):
        image, number = tile // (down * across), tile % (down * across)
        top, bottom = piece(number // across, down, rows)
        left, right = piece(number % across, across, columns)
        # Columns whose windows say something of the tile's pixels, and what these see. Where there is none, slopes are
        # 0.
        begin, end = max(left - BORDER, 0), min(right, columns - BORDER)
        seen, found = (end + BORDER - begin) * step, (end - begin) * step
        inner, shift, own = (left - begin) * step, (begin + BORDER - left) * step, (right - left) * step
        kept_slopes[:] = 0
        total, difference = 0.0, 0.0
        wanted = slopes.size > 0
        first_row = top - BORDER if wanted else top
        loaded = max(first_row, 0)
        for row in range(first_row, bottom):
            while loaded < min(row + TAPS, rows):
                at = loaded % TAPS * stride
                for i in range(seen):
                    column = np.uintp(begin * step + i)
                    first, second = real(x[image, loaded, column]) * unit, y[image, loaded, column]
                    p, q = first + second, first - second
                    kept[np.uintp(at + i)], kept[np.uintp(at + TAPS * stride + i)] = p, p
                    kept[np.uintp(at + plane + i)], kept[np.uintp(at + plane + TAPS * stride + i)] = q, q
                loaded += 1
            at = row % TAPS * stride
            if 0 <= row < rows - BORDER:
                for i in range(whole(seen)):
                    line[np.uintp(i)] = smoothed(kept, at + i, stride, taps)
                    line[np.uintp(stride + i)] = smoothed_squares(kept, at + i, stride, taps)
                    line[np.uintp(2 * stride + i)] = smoothed(kept, at + plane + i, stride, taps)
                    line[np.uintp(3 * stride + i)] = smoothed_squares(kept, at + plane + i, stride, taps)
                for i in range(whole(found)):
                    mp = smoothed(line, i, step, taps)
                    vp = smoothed(line, stride + i, step, taps) - mp * mp
                    mq = smoothed(line, 2 * stride + i, step, taps)
                    vq = smoothed(line, 3 * stride + i, step, taps) - mq * mq
                    # Both fractions of the formula above, halved.
                    light, spread = one / (half * (mp * mp + mq * mq) + c1), one / (half * (vp + vq) + c2)
                    lights, spreads = (half * (mp * mp - mq * mq) + c1) * light, (half * (vp - vq) + c2) * spread
                    by_p, by_q = half * lights * vq * spread * spread, -lights * (half * vp + c2) * spread * spread
                    by_mp = mp * (spreads * mq * mq * light * light - two * by_p)
                    by_mq = -mq * (spreads * (mp * mp + two * c1) * light * light + two * by_q)
                    values[np.uintp(i)] = two * by_p
                    values[np.uintp(stride + i)] = -two * by_q
                    values[np.uintp(2 * stride + i)] = by_mp - by_mq
                    values[np.uintp(3 * stride + i)] = lights * spreads
                if row >= top:
                    subtotal = real(0)
                    for i in range(inner, found):
                        subtotal += values[np.uintp(3 * stride + i)]
                    total += subtotal
            else:
                values[:] = 0
            if row >= top:
                subtotal = real(0)
                for i in range(own):
                    subtotal += abs(kept[np.uintp(at + plane + inner + i)])
                difference += subtotal
            if not wanted:
                continue
            for which in range(3):
                to = which * plane + at + shift
                for i in range(found):
                    kept_slopes[np.uintp(to + i)] = values[np.uintp(which * stride + i)]
                    kept_slopes[np.uintp(to + TAPS * stride + i)] = values[np.uintp(which * stride + i)]
            if row < top:
                continue
            # The window ends in this row.
            before = (row + 1) % TAPS * stride
            for i in range(whole(own + BORDER * step)):
                line[np.uintp(i)] = smoothed(kept_slopes, before + i, stride, taps)
                line[np.uintp(stride + i)] = smoothed(kept_slopes, before + plane + i, stride, taps)
                line[np.uintp(2 * stride + i)] = smoothed(kept_slopes, before + 2 * plane + i, stride, taps)
            for i in range(whole(own)):
                values[np.uintp(i)] = (
                    smoothed(line, i, step, taps) * kept[np.uintp(at + inner + i)]
                    + smoothed(line, stride + i, step, taps) * kept[np.uintp(at + plane + inner + i)]
                    + smoothed(line, 2 * stride + i, step, taps)
                )
            for i in range(own):
                slopes[image, row, np.uintp(left * step + i)] = values[np.uintp(i)]
        sums[tile, 0], sums[tile, 1] = total, difference


@kernel
def mixed(start, stop, x, unit, y, slopes, by_similarity, by_difference, out):  # type: ignore[no-untyped-def]
    """The gradient of numbers start..stop of y in both ways of comparing: [B * H * W * C], written.

    Args:
        x, unit, y: as in `likeness`, flat.
        slopes: from there.
        by_similarity, by_difference: gradients of the sums.
        out: written; no slope where both images are one.
    """
    real = y.dtype.type
    unit, by_similarity, by_difference, zero = real(unit), real(by_similarity), real(by_difference), real(0)
    for i in range(start, stop):
        k = np.uintp(i)
        first, second = real(x[k]) * unit, y[k]
        away = by_difference if second > first else (-by_difference if second < first else zero)
        out[k] = by_similarity * slopes[k] + away
