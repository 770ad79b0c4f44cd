"""Structural similarity on the CPU as an autograd function, in place of pytorch-msssim's filters."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import ssim


def _tiles(shape: tuple[int, ...]) -> int:
    """Tiles of planes [..., H, W]."""
    planes, height, width = int(np.prod(shape[:-2])), *shape[-2:]
    return planes * -(-height // ssim.TILE_ROWS) * -(-width // ssim.TILE_COLUMNS)


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, window: np.ndarray, c1: float, c2: float) -> Tensor:
        batch, channels, height, width = x.shape
        first, second = x.detach().numpy(), y.detach().numpy()
        # The last is x's own.
        planes = (4 if ctx.needs_input_grad[0] else 3) if any(ctx.needs_input_grad[:2]) else 0
        border = ssim.BORDER
        slopes = np.empty((planes, batch, channels, height + border, width + border), first.dtype)
        for rim in (slopes[..., :border, :], slopes[..., height:, :], slopes[..., :border], slopes[..., width:]):
            rim.fill(0)
        inner = (batch, channels, height - border, width - border)
        sums = np.empty(_tiles(inner), np.float64)
        threads.share(ssim.forward, len(sums), first, second, window, c1, c2, sums, slopes)
        ctx.inputs, ctx.count = (slopes, first, second, window), float(np.prod(inner))
        return torch.tensor(sums.sum() / ctx.count, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, v_value: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        slopes, first, second, window = ctx.inputs
        grads: list[Tensor | None] = []
        for wanted, own, sign in zip(ctx.needs_input_grad[:2], (3, 2), (1.0, -1.0), strict=True):
            if not wanted:
                grads.append(None)
                continue
            # The strides of the image: its other operations then read the gradient in the order of memory.
            grad = torch.empty_like(torch.from_numpy(second if own == 2 else first))
            scale = float(v_value) / ctx.count
            threads.share(
                ssim.backward, _tiles(first.shape), slopes, own, first, second, sign, window, scale, grad.numpy()
            )
            grads.append(grad)
        return (*grads, None, None, None)


class Ssim(nn.Module):
    """The mean structural similarity of two batches of images: pytorch-msssim's `SSIM`, with kernels on the CPU.

    What they cannot do (tensors of a GPU, images smaller than the window, another window than the usual) is left to the
    module that was given.
    """

    def __init__(self, upstream: nn.Module) -> None:
        """Stand for a `pytorch_msssim.SSIM`."""
        super().__init__()
        self.upstream = upstream

    @property
    def win(self) -> Tensor:
        """The window of each channel, [C, 1, 1, taps], which upstream keeps on the CPU."""
        return cast(Tensor, self.upstream.win)

    @win.setter
    def win(self, window: Tensor) -> None:
        self.upstream.win = window

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarity of [B, C, H, W] and [B, C, H, W]: a scalar."""
        options = cast(Any, self.upstream)
        fits = (
            options.size_average
            and not options.nonnegative_ssim
            and options.win_size == ssim.TAPS
            and x.dim() == 4
            and x.shape == y.shape
            and x.dtype == y.dtype
            and x.dtype in (torch.float32, torch.float64)
            and x.device.type == y.device.type == "cpu"
            and min(x.shape[0], x.shape[1]) > 0
            and min(x.shape[2], x.shape[3]) >= ssim.TAPS
        )
        if not fits:
            return self.upstream(x, y)
        window = self.win[0].reshape(-1).to(x).numpy()
        c1, c2 = ((k * options.data_range) ** 2 for k in options.K)
        return cast(Tensor, _Ssim.apply(x, y, window, c1, c2))
