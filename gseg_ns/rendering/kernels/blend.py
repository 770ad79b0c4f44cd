"""Pictures over a background, kept between two bounds, forward and backward.

Blocks of pixels: what a pixel has in common goes through a buffer, so that all else reads whole vectors.
"""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel

BLOCK = 256


@kernel
def forward(start, stop, image, alphas, background, low, high, out):  # type: ignore[no-untyped-def]
    """Pixels start..stop of image + (1 - alpha) background, at least low and at most high; what is no number stays so.

    Args:
        image: [P * 3], alphas [P], background [3], out [P * 3], written.
    """
    real = image.dtype.type
    low, high, one = real(low), real(high), real(1)
    b0, b1, b2 = background[0], background[1], background[2]
    behind = np.empty(3 * BLOCK, image.dtype)
    for begin in range(start, stop, BLOCK):
        count = min(BLOCK, stop - begin)
        for p in range(count):
            left = one - alphas[np.uintp(begin + p)]
            behind[np.uintp(3 * p)] = left * b0
            behind[np.uintp(3 * p + 1)] = left * b1
            behind[np.uintp(3 * p + 2)] = left * b2
        for i in range(3 * count):
            value = image[np.uintp(3 * begin + i)] + behind[np.uintp(i)]
            value = low if value < low else value
            out[np.uintp(3 * begin + i)] = high if value > high else value


@kernel
def backward(start, stop, out, background, low, high, v_out, v_image, v_alphas):  # type: ignore[no-untyped-def]
    """Gradients of pixels start..stop: what `out` says lies within the bounds passes on.

    Args:
        out: from `forward`, background as there, v_out [P * 3].
        v_image: [P * 3], v_alphas [P], written.
    """
    real = out.dtype.type
    low, high, zero = real(low), real(high), real(0)
    b0, b1, b2 = background[0], background[1], background[2]
    passed = np.empty(3 * BLOCK, out.dtype)
    for begin in range(start, stop, BLOCK):
        count = min(BLOCK, stop - begin)
        for i in range(3 * count):
            value, slope = out[np.uintp(3 * begin + i)], v_out[np.uintp(3 * begin + i)]
            slope = slope if (value > low) & (value < high) else zero
            v_image[np.uintp(3 * begin + i)] = slope
            passed[np.uintp(i)] = slope
        for p in range(count):
            by = passed[np.uintp(3 * p)] * b0 + passed[np.uintp(3 * p + 1)] * b1 + passed[np.uintp(3 * p + 2)] * b2
            v_alphas[np.uintp(begin + p)] = -by
