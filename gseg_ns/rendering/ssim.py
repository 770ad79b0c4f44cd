"""Likeness of images on the CPU, in place of pytorch-msssim's filters and of torch's passes over differences.

What Splatfacto's loss asks of a photograph and its rendered picture, the mean absolute difference and the structural
similarity, is found in one pass over both, with the gradient, and the photograph stays as it is kept: in bytes.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import ssim

Real: TypeAlias = float
"""By another name: a photograph has a method of that one."""

_GRAIN = 1 << 15
"""Numbers worth handing to a thread."""


def _compared(
    x: np.ndarray, unit: float, y: np.ndarray, window: np.ndarray, constants: tuple[float, float], wanted: bool
) -> tuple[float, float, np.ndarray]:
    """Sums of the similarity and of the absolute differences of [B, H, W, C], and the first one's gradient by y."""
    batch, height, width, channels = y.shape
    flat = (batch, height, width * channels)
    tiles = batch * -(-height // ssim.TILE_ROWS) * -(-width // ssim.TILE_COLUMNS)
    sums = np.empty((tiles, 2), np.float64)
    slopes = np.empty(flat if wanted else (0, 0, 0), y.dtype)
    threads.share(
        ssim.likeness, tiles, x.reshape(flat), unit, y.reshape(flat), (0,) * channels, window, *constants, sums, slopes
    )
    return *sums.sum(axis=0).tolist(), slopes


def _windows(height: int, width: int) -> int:
    """Places of the window within an image."""
    return (height - ssim.BORDER) * (width - ssim.BORDER)


def _rows(image: Tensor) -> np.ndarray:
    """An image [B, C, H, W] as [B, H, W, C], one after another in memory."""
    return image.detach().permute(0, 2, 3, 1).contiguous().numpy()


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, window: np.ndarray, constants: tuple[float, float]) -> Tensor:
        first, second = _rows(x), _rows(y)
        count = float(first.shape[0] * first.shape[3] * _windows(*first.shape[1:3]))
        by_x, by_y = ctx.needs_input_grad[:2]
        total, _, slopes = _compared(first, 1.0, second, window, constants, by_y)
        # It does not matter which of the images is which.
        others = _compared(second, 1.0, first, window, constants, True)[2] if by_x else slopes
        ctx.save_for_backward(*(t for t, wanted in ((x, by_x), (y, by_y)) if wanted))
        ctx.slopes, ctx.count = (others if by_x else None, slopes if by_y else None), count
        return torch.tensor(total / count, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, v_value: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # Torch refuses second derivatives by what is given here alone: hence the images.
        return _Ssim.once(ctx, v_value, *ctx.saved_tensors)

    @staticmethod
    @once_differentiable
    def once(ctx: Any, v_value: Tensor, *images: Tensor) -> tuple[Tensor | None, ...]:
        left, grads = iter(images), list[Tensor | None]()
        for slopes in ctx.slopes:
            if slopes is None:
                grads.append(None)
                continue
            image = next(left)
            batch, channels, height, width = image.shape
            # The strides of the image: its other operations then read the gradient in the order of memory.
            grad = torch.empty_like(image)
            found = torch.from_numpy(slopes).view(batch, height, width, channels).permute(0, 3, 1, 2)
            grads.append(torch.mul(found, v_value / ctx.count, out=grad))
        return (*grads, None, None)


class _Likeness(torch.autograd.Function):
    """Mean absolute difference and structural similarity of a picture [H, W, C] and a photograph of that shape."""

    @staticmethod
    def forward(
        ctx: Any,
        picture: Tensor,
        photograph: Tensor,
        unit: float,
        window: np.ndarray,
        constants: tuple[float, float],
    ) -> tuple[Tensor, Tensor]:
        height, width, channels = picture.shape
        similarity, difference, slopes = _compared(
            photograph.numpy()[None], unit, picture.detach().numpy()[None], window, constants, ctx.needs_input_grad[0]
        )
        counts = float(channels * _windows(height, width)), float(picture.numel())
        # Both are read again: torch tells who changes one in between.
        ctx.save_for_backward(picture, photograph)
        ctx.given = unit, slopes, counts
        values = difference / counts[1], similarity / counts[0]
        return torch.tensor(values[0], dtype=picture.dtype), torch.tensor(values[1], dtype=picture.dtype)

    @staticmethod
    def backward(ctx: Any, *v_values: Tensor) -> tuple[Tensor | None, ...]:
        return _Likeness.once(ctx, *v_values, *ctx.saved_tensors)

    @staticmethod
    @once_differentiable
    def once(
        ctx: Any, v_difference: Tensor, v_similarity: Tensor, picture: Tensor, photograph: Tensor
    ) -> tuple[Tensor | None, ...]:
        unit, slopes, counts = ctx.given
        grad = torch.empty_like(picture)
        threads.share(
            ssim.mixed, picture.numel(), photograph.view(-1).numpy(), unit, picture.detach().view(-1).numpy(),
            slopes.reshape(-1), float(v_similarity) / counts[0], float(v_difference) / counts[1],
            grad.view(-1).numpy(), grain=_GRAIN,
        )  # fmt: skip
        return grad, None, None, None, None


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

    def forward(self, x: Tensor | InBatch, y: Tensor) -> Tensor:
        """Return the similarity of [B, C, H, W] and [B, C, H, W]: a scalar."""
        if isinstance(x, InBatch):
            return x.photograph.similarity(y)
        fits = (
            x.dim() == 4
            and x.shape == y.shape
            and x.dtype == y.dtype
            and x.device.type == "cpu"
            and self.takes(y, *y.shape[2:])
            and min(x.shape[0], x.shape[1]) > 0
        )
        return cast(Tensor, _Ssim.apply(x, y, *self.given(x))) if fits else self.upstream(x, y)

    def takes(self, image: Tensor, height: int, width: int) -> bool:
        """Whether the kernels can do what is asked, of an image."""
        options = cast(Any, self.upstream)
        return (
            options.size_average
            and not options.nonnegative_ssim
            and options.win_size == ssim.TAPS
            and image.dtype in (torch.float32, torch.float64)
            and image.device.type == "cpu"
            and min(height, width) >= ssim.TAPS
        )

    def given(self, image: Tensor) -> tuple[np.ndarray, tuple[float, float]]:
        """The window [taps] and the two constants of the similarity."""
        options = cast(Any, self.upstream)
        c1, c2 = ((k * options.data_range) ** 2 for k in options.K)
        return self.win[0].reshape(-1).to(image).numpy(), (c1, c2)


class Photograph:
    """A photograph [H, W, 3] in a loss, whose differences and similarity to a picture wait to be found at once.

    Splatfacto's own lines ask for them. Each of their steps can be had from torch as well, which is what happens where
    the kernels do not fit.
    """

    def __init__(self, image: Tensor, ssim: Ssim, divisor: Real = 1.0) -> None:
        """`image` / `divisor` is meant; `ssim` is what it will be asked for the similarity with."""
        self.image, self.ssim, self.divisor = image, ssim, divisor
        self.dtype, self.shape = image.dtype, image.shape
        self._found: tuple[Tensor, tuple[int, int], Tensor] | None = None

    @staticmethod
    def fits(image: Tensor, ssim: nn.Module) -> bool:
        """Whether an image may be wrapped."""
        return (
            isinstance(ssim, Ssim)
            and image.device.type == "cpu"
            and image.dim() == 3
            and image.shape[2] == 3
            and image.dtype in (torch.uint8, torch.float32)
            and image.is_contiguous()
            and not image.requires_grad
            and not image.is_inference()
        )

    def tensor(self) -> Tensor:
        """What it stands for, by torch."""
        return self.image.float() / self.divisor

    def float(self) -> Photograph:
        """As numbers, which it is in the kernels."""
        return self

    def __truediv__(self, divisor: Real) -> Photograph:
        """In other units."""
        return Photograph(self.image, self.ssim, self.divisor * divisor)

    def to(self, device: torch.device | str) -> Photograph | Tensor:
        """As of the tensor."""
        return self if torch.device(device).type == "cpu" else self.tensor().to(device)

    def __sub__(self, picture: Tensor) -> Differences | Tensor:
        """The differences to a picture."""
        fits = (
            picture.shape == self.shape
            and picture.dtype == torch.float32
            and picture.is_contiguous()
            and not picture.is_inference()
            and self.ssim.takes(picture, *picture.shape[:2])
        )
        if not fits:
            return self.tensor() - picture
        given = self.image, 1 / self.divisor, *self.ssim.given(picture)
        absolute_mean, similarity = _Likeness.apply(picture, *given)
        self._found = picture, (picture._version, self.image._version), similarity
        return Differences(self, picture, absolute_mean)

    def permute(self, *order: int) -> Turned | Tensor:
        """As of the tensor: with the channels first, the similarity can be had."""
        return Turned(self) if order == (2, 0, 1) else self.tensor().permute(order)

    def similarity(self, picture: Tensor) -> Tensor:
        """The similarity to a picture [1, 3, H, W]."""
        if self._found is not None:
            known, versions, similarity = self._found
            turned = known.permute(2, 0, 1)[None]
            # One that was detached looks the same, and has another graph.
            same = (
                picture._base is (known if known._base is None else known._base)
                and picture.requires_grad == known.requires_grad
                and picture.data_ptr() == known.data_ptr()
                and (picture.shape, picture.stride()) == (turned.shape, turned.stride())
            )
            if same and (known._version, self.image._version) == versions:
                return similarity
        return cast(Tensor, self.ssim(self.tensor().permute(2, 0, 1)[None], picture))


class Differences:
    """Those of a photograph and a picture, of which the mean absolute one was found."""

    def __init__(self, photograph: Photograph, picture: Tensor, absolute_mean: Tensor) -> None:
        self._photograph, self._picture, self._absolute_mean = photograph, picture, absolute_mean
        self._absolute = False

    def abs(self) -> Differences:
        """Their absolute values."""
        found = Differences(self._photograph, self._picture, self._absolute_mean)
        found._absolute = True
        return found

    def mean(self) -> Tensor:
        """Their mean."""
        return self._absolute_mean if self._absolute else (self._photograph.tensor() - self._picture).mean()


class Turned:
    """A photograph with its channels first, [3, H, W], of which a batch of one can be made."""

    def __init__(self, photograph: Photograph) -> None:
        self._photograph = photograph

    def __getitem__(self, place: Any) -> InBatch | Tensor:
        """As of the tensor."""
        if place == (None, ...):
            return InBatch(self._photograph)
        return self._photograph.tensor().permute(2, 0, 1)[place]


class InBatch:
    """A photograph as `Ssim` takes it, [1, 3, H, W]."""

    def __init__(self, photograph: Photograph) -> None:
        self.photograph = photograph


def absolute(values: Tensor | Differences) -> Tensor | Differences:
    """Absolute values: `torch.abs`, which differences wait for to be found."""
    return values.abs() if isinstance(values, Differences) else torch.abs(values)
