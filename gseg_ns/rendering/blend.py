"""A rendered picture over a background on the CPU, in one pass each way: torch takes twenty, on one thread."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import blend as kernels

_GRAIN = 1 << 14
"""Pixels worth handing to a thread."""


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, alphas: Tensor, background: Tensor, low: float, high: float) -> Tensor:
        out = torch.empty(image.shape, dtype=image.dtype)
        arrays = (
            image.detach().contiguous().view(-1).numpy(),
            alphas.detach().contiguous().view(-1).numpy(),
            background.numpy(),
        )
        threads.share(kernels.forward, alphas.numel(), *arrays, low, high, out.view(-1).numpy(), grain=_GRAIN)
        # By torch, which finds out when it is changed in place before the gradients are asked for.
        ctx.save_for_backward(out)
        ctx.given = background, low, high, alphas.shape
        return out

    @staticmethod
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (out,), (background, low, high, shape) = ctx.saved_tensors, ctx.given
        v_image, v_alphas = torch.empty(out.shape, dtype=out.dtype), torch.empty(shape, dtype=out.dtype)
        threads.share(
            kernels.backward, v_alphas.numel(), out.detach().view(-1).numpy(), background.numpy(), low, high,
            v_out.contiguous().view(-1).numpy(), v_image.view(-1).numpy(), v_alphas.view(-1).numpy(),
            grain=_GRAIN,
        )  # fmt: skip
        return v_image, v_alphas, None, None, None


class Behind:
    """What is left of a background behind a picture, or the picture on it, until it is clamped.

    Made by arithmetic on `Alphas`; each of its steps can be had from torch as well, which is what happens where the
    kernels do not fit.
    """

    def __init__(self, alphas: Tensor, background: Tensor, image: Tensor | None = None) -> None:
        """`background` [3] is seen through pixels [..., 1]; `image` [..., 3] lies before it."""
        self.alphas, self.background, self.image = alphas, background, image

    def __radd__(self, image: Tensor) -> Behind | Tensor:
        """Put a picture before it."""
        if self.image is None and image.shape == (*self.alphas.shape[:-1], 3) and image.dtype == self.alphas.dtype:
            return Behind(self.alphas, self.background, image)
        return image + self.tensor()

    def tensor(self) -> Tensor:
        """What it stands for, by torch."""
        behind = (1 - self.alphas) * self.background
        return behind if self.image is None else self.image + behind

    def clamp(self, low: float, high: float) -> Tensor:
        """The picture within two bounds."""
        if self.image is None:
            return torch.clamp(self.tensor(), low, high)
        return cast(Tensor, _Blend.apply(self.image, self.alphas, self.background, low, high))


class Alphas:
    """Alphas [..., 1] of a picture, of which `image + (1 - alphas) * background` waits for `clamp` to be made at once.

    Splatfacto's own lines are what does the arithmetic; all else is asked of the `tensor`.
    """

    def __init__(self, tensor: Tensor, left: bool = False) -> None:
        """`left`: 1 - alphas is meant."""
        self.tensor, self._left = tensor, left

    def __rsub__(self, one: float) -> Alphas | Tensor:
        """What is left for the background."""
        return Alphas(self.tensor, left=True) if one == 1 and not self._left else one - self._plain()

    def __mul__(self, background: Tensor) -> Behind | Tensor:
        """The background as it is seen."""
        fits = (
            self._left
            and background.shape == (3,)
            and background.dtype == self.tensor.dtype
            and background.dtype in (torch.float32, torch.float64)
            and background.device.type == self.tensor.device.type == "cpu"
            and not background.requires_grad
        )
        return Behind(self.tensor, background) if fits else self._plain() * background

    def __getitem__(self, place: Any) -> Alphas:
        """As of the tensor."""
        return Alphas(self.tensor[place], self._left)

    def __gt__(self, other: float) -> Tensor:
        """As of the tensor."""
        return self._plain() > other

    def squeeze(self, dim: int) -> Tensor:
        """As of the tensor."""
        return self._plain().squeeze(dim)

    def _plain(self) -> Tensor:
        return 1 - self.tensor if self._left else self.tensor


def clamp(values: Tensor | Behind, low: float, high: float) -> Tensor:
    """Return the values within two bounds: `torch.clamp`, which a picture before its background waits for."""
    return values.clamp(low, high) if isinstance(values, Behind) else torch.clamp(values, low, high)
