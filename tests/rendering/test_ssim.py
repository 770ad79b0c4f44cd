"""Structural similarity against pytorch-msssim: values, gradients, sizes, and what is left to it."""

from __future__ import annotations

import pytest
import torch
from pytorch_msssim import SSIM
from torch import Tensor, nn

from gseg_ns.rendering import threads
from gseg_ns.rendering.ssim import Ssim


def photographs(
    height: int, width: int, channels: int = 3, batch: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Two pictures [B, C, H, W] that are alike, as training has them: channels last in memory."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, channels, -(-height // 6), -(-width // 6), generator=g)
    picture = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    other = (picture + 0.1 * torch.randn(picture.shape, generator=g)).clamp(0, 1)
    other[..., : height // 2, : width // 3] = picture[..., : height // 2, : width // 3]
    first, second = (p.to(dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for p in (picture, other))
    return first, second


def with_gradients(measure: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    x, y = x.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    value = measure(x, y)
    (value * 3).backward()
    assert x.grad is not None
    assert y.grad is not None
    return [value.detach(), x.grad, y.grad]


@pytest.mark.parametrize("size", [(12, 300), (45, 27), (43, 266), (76, 267)])
def test_value_and_gradients_are_those_of_pytorch_msssim(size: tuple[int, int]) -> None:
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    x, y = photographs(*size)
    value, *grads = with_gradients(Ssim(upstream), x, y)
    expected, *expected_grads = with_gradients(upstream, x, y)
    _, *exact_grads = with_gradients(upstream, x.double(), y.double())
    assert abs(float(value) - float(expected)) <= 1e-6
    assert value.dtype == torch.float32
    for grad, theirs, best in zip(grads, expected_grads, exact_grads, strict=True):
        assert grad.stride() == theirs.stride()
        assert (grad - theirs).abs().max() <= 1e-6
        # Upstream loses digits where a picture is smooth; ours must not lose more.
        largest = best.abs().max()
        assert (grad - best).abs().max() <= max(5e-6 * largest, (theirs - best).abs().max())


@pytest.mark.parametrize(("channels", "size"), [(1, (11, 11)), (3, (33, 50)), (5, (11, 40)), (2, (45, 530))])
def test_in_float64_all_agrees_to_the_last_digits(channels: int, size: tuple[int, int]) -> None:
    upstream = SSIM(data_range=2.0, size_average=True, channel=channels, K=(0.02, 0.05))
    x, y = photographs(size[0], size[1], channels, batch=2, dtype=torch.float64)
    for mine, theirs in zip(with_gradients(Ssim(upstream), x, y), with_gradients(upstream, x, y), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


def test_gradcheck_in_float64() -> None:
    measure = Ssim(SSIM(data_range=1.0, size_average=True, channel=1))
    x, y = (picture.requires_grad_() for picture in photographs(13, 12, 1, dtype=torch.float64))
    assert torch.autograd.gradcheck(measure, (x, y), eps=1e-6, atol=1e-8)
    assert torch.autograd.gradcheck(lambda y: measure(x.detach(), y), (y,), eps=1e-6, atol=1e-8)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    measure = Ssim(SSIM(data_range=1.0, size_average=True, channel=3))
    x, y = photographs(91, 300)
    found = []
    for count in (1, 2, 5):
        threads.configure(kernel_threads=count)
        found.append(with_gradients(measure, x, y))
    threads.configure()
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_without_gradients_and_of_any_layout() -> None:
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    x, y = photographs(40, 50)
    with torch.no_grad():
        assert not Ssim(upstream)(x, y).requires_grad
        torch.testing.assert_close(Ssim(upstream)(x.contiguous(), y[..., ::1]), upstream(x, y))
        assert float(Ssim(upstream)(x, x)) == pytest.approx(1.0, abs=1e-6)


def test_what_the_kernels_cannot_do_is_upstreams() -> None:
    x, y = photographs(9, 40)
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    with pytest.warns(UserWarning, match="Skipping Gaussian Smoothing"):
        value = Ssim(upstream)(x, y)
    with pytest.warns(UserWarning, match="Skipping Gaussian Smoothing"):
        assert torch.equal(value, upstream(x, y))
    x, y = photographs(20, 40, batch=2)
    each = SSIM(data_range=1.0, size_average=False, channel=3)
    assert torch.equal(Ssim(each)(x, y), each(x, y))
    wide = SSIM(data_range=1.0, size_average=True, channel=3, win_size=7)
    assert torch.equal(Ssim(wide)(x, y), wide(x, y))
    with pytest.raises(ValueError, match="same dimensions"):
        Ssim(upstream)(x, y[..., :-1])
