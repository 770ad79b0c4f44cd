"""Drawing a selection onto a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.selection import kernels

HIGHLIGHT = (1.0, 0.58, 0.0)
"""Orange, seldom the color of a thing."""


def highlight(
    rgb: Tensor, mask: Tensor, color: tuple[float, float, float] = HIGHLIGHT, tint: float = 0.4, outline: int = 1
) -> Tensor:
    """Tint what is selected and draw its outline.

    Args:
        rgb: [H, W, 3] in 0..1.
        mask: [H, W] share of each pixel that shows selected Gaussians, 0..1.
        color: of tint and outline.
        tint: strength of the tint, 0..1.
        outline: width in pixels, 0 for none.

    Returns:
        [H, W, 3], a new tensor.
    """
    paint = rgb.new_tensor(color)
    if rgb.is_cuda:
        return paint_over(rgb, mask, paint, tint, outline)
    result = torch.empty(rgb.shape, dtype=rgb.dtype)
    threads.share(
        kernels.highlight, len(rgb), rgb.detach().contiguous().numpy(),
        mask.detach().to(rgb.dtype).contiguous().numpy(), paint.numpy(), tint, outline, result.numpy(), grain=16,
    )  # fmt: skip
    return result


def paint_over(rgb: Tensor, mask: Tensor, paint: Tensor, tint: float, outline: int) -> Tensor:
    """`highlight` by operations of torch, on any device; paint [3]."""
    result = torch.lerp(rgb, paint.expand_as(rgb), tint * mask[..., None])
    if outline > 0:
        inside = (mask > 0.5).to(rgb)[None]
        grown = torch.nn.functional.max_pool2d(inside, 2 * outline + 1, stride=1, padding=outline)
        result[(grown > inside)[0]] = paint
    return result
