"""Pictures over a background, kept between two bounds, forward and backward."""

from __future__ import annotations

from gseg_ns.rendering.kernels.jit import kernel


@kernel
def forward(start, stop, image, alphas, background, low, high, out):  # type: ignore[no-untyped-def]
    """out[start..stop] = image + (1 - alpha) background, at least low and at most high; what is no number stays so.

    Args:
        image: [P, 3], alphas [P], background [3], out [P, 3], written.
    """
    real = image.dtype.type
    low, high, one = real(low), real(high), real(1)
    b0, b1, b2 = background[0], background[1], background[2]
    for p in range(start, stop):
        left = one - alphas[p]
        v0, v1, v2 = image[p, 0] + left * b0, image[p, 1] + left * b1, image[p, 2] + left * b2
        out[p, 0] = low if v0 < low else high if v0 > high else v0
        out[p, 1] = low if v1 < low else high if v1 > high else v1
        out[p, 2] = low if v2 < low else high if v2 > high else v2


@kernel
def backward(start, stop, out, background, low, high, v_out, v_image, v_alphas):  # type: ignore[no-untyped-def]
    """Gradients of pixels start..stop: what `out` says lies within the bounds passes on.

    Args:
        out: from `forward`, background as there, v_out [P, 3].
        v_image: [P, 3], v_alphas [P], written.
    """
    real = out.dtype.type
    low, high, zero = real(low), real(high), real(0)
    b0, b1, b2 = background[0], background[1], background[2]
    for p in range(start, stop):
        v0 = v_out[p, 0] if (out[p, 0] > low) & (out[p, 0] < high) else zero
        v1 = v_out[p, 1] if (out[p, 1] > low) & (out[p, 1] < high) else zero
        v2 = v_out[p, 2] if (out[p, 2] > low) & (out[p, 2] < high) else zero
        v_image[p, 0], v_image[p, 1], v_image[p, 2] = v0, v1, v2
        v_alphas[p] = -(v0 * b0 + v1 * b1 + v2 * b2)
