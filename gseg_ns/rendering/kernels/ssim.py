"""Structural similarity of two images and its gradient (Wang et al. 2004), tile by tile.

With p = x + y and q = x - y, and m and v the means and variances of either under the window, the similarity is

    S = (m_p^2 - m_q^2 + 2 C1) (v_p - v_q + 2 C2) / ((m_p^2 + m_q^2 + 2 C1) (v_p + v_q + 2 C2)),

so four filters do instead of five, and where two images are alike all that differs is in q, which is small and has
lost no digits. The window is separable: columns of pixels first, then rows, with everything between in buffers of the
size of a tile, where each step is a constant: that is how the compiler knows what does not overlap.
"""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel

TAPS = 11
BORDER = TAPS - 1
# A tile of the result. Rows of a buffer have room for the border, and are worked on in whole vectors.
TILE_ROWS = 32
TILE_COLUMNS = 256
VECTOR = 16
STRIDE = TILE_COLUMNS + VECTOR
PLANE = (TILE_ROWS + BORDER) * STRIDE


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
def place_of(tile, rows, columns):  # type: ignore[no-untyped-def]
    """Plane, first and last+1 row, first column and number of columns of a tile of planes [rows, columns]."""
    across = (columns + TILE_COLUMNS - 1) // TILE_COLUMNS
    down = (rows + TILE_ROWS - 1) // TILE_ROWS
    plane, number = tile // (down * across), tile % (down * across)
    top, left = number // across * TILE_ROWS, number % across * TILE_COLUMNS
    return plane, top, min(top + TILE_ROWS, rows), left, min(TILE_COLUMNS, columns - left)


@kernel
def forward(start, stop, x, y, window, c1, c2, sums, slopes):  # type: ignore[no-untyped-def]
    """Sums of the similarity over tiles start..stop, and what `backward` filters.

    Args:
        x, y: [B, C, H, W], of any strides.
        window: [6] or more, its first half and its middle.
        c1, c2: the stabilising constants.
        sums: [tiles] float64, written.
        slopes: [3 or 4, B, C, H + BORDER, W + BORDER], or length 0. Written inside of its border, which must be 0: the
            derivatives by the means of p^2, of q^2, of y, and of x, each with the others as they are.
    """
    real = x.dtype.type
    half, one, two = real(0.5), real(1), real(2)
    c1, c2, taps = real(c1), real(c2), half_of(window)
    channels, rows, columns = x.shape[1], x.shape[2] - BORDER, x.shape[3] - BORDER
    block, line, slope = np.zeros(2 * PLANE, x.dtype), np.zeros(4 * STRIDE, x.dtype), np.zeros(5 * STRIDE, x.dtype)
    for tile in range(start, stop):
        plane, top, bottom, left, count = place_of(tile, rows, columns)
        image, channel = plane // channels, plane % channels
        for row in range(bottom - top + BORDER):
            at = row * STRIDE
            for i in range(count + BORDER):
                column = np.uintp(left + i)
                first, second = x[image, channel, top + row, column], y[image, channel, top + row, column]
                block[np.uintp(at + i)] = first + second
                block[np.uintp(at + PLANE + i)] = first - second
        total = 0.0
        for row in range(bottom - top):
            at = row * STRIDE
            for i in range(whole(count + BORDER)):
                line[np.uintp(i)] = smoothed(block, at + i, STRIDE, taps)
                line[np.uintp(STRIDE + i)] = smoothed_squares(block, at + i, STRIDE, taps)
                line[np.uintp(2 * STRIDE + i)] = smoothed(block, at + PLANE + i, STRIDE, taps)
                line[np.uintp(3 * STRIDE + i)] = smoothed_squares(block, at + PLANE + i, STRIDE, taps)
            for i in range(whole(count)):
                mp = smoothed(line, i, 1, taps)
                vp = smoothed(line, STRIDE + i, 1, taps) - mp * mp
                mq = smoothed(line, 2 * STRIDE + i, 1, taps)
                vq = smoothed(line, 3 * STRIDE + i, 1, taps) - mq * mq
                # Both fractions of the formula above, halved.
                light, spread = one / (half * (mp * mp + mq * mq) + c1), one / (half * (vp + vq) + c2)
                lights, spreads = (half * (mp * mp - mq * mq) + c1) * light, (half * (vp - vq) + c2) * spread
                by_p, by_q = half * lights * vq * spread * spread, -lights * (half * vp + c2) * spread * spread
                by_mp = mp * (spreads * mq * mq * light * light - two * by_p)
                by_mq = -mq * (spreads * (mp * mp + two * c1) * light * light + two * by_q)
                slope[np.uintp(i)] = by_p
                slope[np.uintp(STRIDE + i)] = by_q
                slope[np.uintp(2 * STRIDE + i)] = by_mp - by_mq
                slope[np.uintp(3 * STRIDE + i)] = by_mp + by_mq
                slope[np.uintp(4 * STRIDE + i)] = lights * spreads
            subtotal = real(0)
            for i in range(count):
                subtotal += slope[np.uintp(4 * STRIDE + i)]
            total += subtotal
            for number in range(slopes.shape[0]):
                out = slopes[number, image, channel, top + row + BORDER]
                for i in range(count):
                    out[np.uintp(left + BORDER + i)] = slope[np.uintp(number * STRIDE + i)]
        sums[tile] = total


@kernel
def backward(start, stop, slopes, own, x, y, sign, window, scale, out):  # type: ignore[no-untyped-def]
    """The gradient of tiles start..stop of x or of y.

    Args:
        slopes: from `forward`.
        own: which of them is the image's own.
        x, y: the images, as there.
        sign: 1 for x and -1 for y.
        window: as there.
        scale: what everything is multiplied with.
        out: [B, C, H, W], of any strides, written.
    """
    real = x.dtype.type
    twice_p, twice_q, scale, taps = real(2), real(2 * sign), real(scale), half_of(window)
    channels, height, width = x.shape[1:]
    block, line, result = np.zeros(3 * PLANE, x.dtype), np.zeros(3 * STRIDE, x.dtype), np.zeros(3 * STRIDE, x.dtype)
    for tile in range(start, stop):
        plane, top, bottom, left, count = place_of(tile, height, width)
        image, channel = plane // channels, plane % channels
        for number in range(3):
            for row in range(bottom - top + BORDER):
                values = slopes[own if number == 2 else number, image, channel, top + row]
                at = number * PLANE + row * STRIDE
                for i in range(count + BORDER):
                    block[np.uintp(at + i)] = values[np.uintp(left + i)]
        for row in range(bottom - top):
            at = row * STRIDE
            for i in range(whole(count + BORDER)):
                line[np.uintp(i)] = smoothed(block, at + i, STRIDE, taps)
                line[np.uintp(STRIDE + i)] = smoothed(block, at + PLANE + i, STRIDE, taps)
                line[np.uintp(2 * STRIDE + i)] = smoothed(block, at + 2 * PLANE + i, STRIDE, taps)
            for i in range(whole(count)):
                result[np.uintp(i)] = scale * twice_p * smoothed(line, i, 1, taps)
                result[np.uintp(STRIDE + i)] = scale * twice_q * smoothed(line, STRIDE + i, 1, taps)
                result[np.uintp(2 * STRIDE + i)] = scale * smoothed(line, 2 * STRIDE + i, 1, taps)
            for i in range(count):
                column = np.uintp(left + i)
                first, second = x[image, channel, top + row, column], y[image, channel, top + row, column]
                out[image, channel, top + row, column] = (
                    result[np.uintp(i)] * (first + second)
                    + result[np.uintp(STRIDE + i)] * (first - second)
                    + result[np.uintp(2 * STRIDE + i)]
                )
