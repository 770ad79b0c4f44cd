"""What is selected, painted onto a picture."""

from __future__ import annotations

from gseg_ns.rendering.kernels.jit import kernel


@kernel
def highlight(start, stop, rgb, mask, color, tint, outline, out):  # type: ignore[no-untyped-def]
    """Rows start..stop of a picture: tinted by `mask`, with pixels of `color` where it ends.

    Args:
        rgb: [H, W, 3].
        mask: [H, W] in 0..1; a pixel is inside where it is above a half.
        color: [3].
        tint: strength of the tint, 0..1.
        outline: how near a pixel inside is to a pixel of the outline, in pixels along either axis; 0: none.
        out: [H, W, 3], written.
    """
    real = rgb.dtype.type
    height, width = mask.shape
    half, strength = real(0.5), real(tint)
    red, green, blue = color[0], color[1], color[2]
    for y in range(start, stop):
        for x in range(width):
            part = strength * mask[y, x]
            out[y, x, 0] = rgb[y, x, 0] + part * (red - rgb[y, x, 0])
            out[y, x, 1] = rgb[y, x, 1] + part * (green - rgb[y, x, 1])
            out[y, x, 2] = rgb[y, x, 2] + part * (blue - rgb[y, x, 2])
        if outline == 0:
            continue
        top, bottom = max(y - outline, 0), min(y + outline + 1, height)
        for near in range(top, bottom):
            for x in range(width):
                if mask[near, x] > half:
                    for at in range(max(x - outline, 0), min(x + outline + 1, width)):
                        if not mask[y, at] > half:
                            out[y, at, 0], out[y, at, 1], out[y, at, 2] = red, green, blue
