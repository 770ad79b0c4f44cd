"""Structural similarity against pytorch-msssim, and the loss of a photograph against Splatfacto's lines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_msssim import SSIM
from torch import Tensor, nn

from gseg_ns.rendering.ssim import Differences, Photograph, Ssim, absolute
from thread_counts import same_by_any_number_of_threads


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
    same_by_any_number_of_threads(lambda: with_gradients(measure, x, y))


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


def loss(photograph: Any, picture: Tensor, measure: nn.Module) -> Tensor:
    """Splatfacto's lines."""
    photograph = photograph.float() if picture.dtype == torch.float32 else photograph.double()
    photograph = photograph / 255.0
    photograph = photograph.to(picture.device)
    difference = absolute(photograph - picture).mean()
    similarity = 1 - measure(photograph.permute(2, 0, 1)[None, ...], picture.permute(2, 0, 1)[None, ...])
    return 0.7 * difference + 0.3 * similarity


@pytest.mark.parametrize("size", [(11, 11), (45, 27), (97, 259), (200, 530)])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_the_loss_of_a_photograph_is_splatfactos(size: tuple[int, int], kind: torch.dtype) -> None:
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    x, y = (picture[0].permute(1, 2, 0).contiguous() for picture in photographs(*size))
    image, found = (x * 255).to(kind), []
    given = (
        (Photograph(image, Ssim(upstream)), Ssim(upstream), y),
        (image, upstream, y),
        (image, upstream, y.double()),
    )
    for photograph, measure, start in given:
        picture = start.clone().requires_grad_()
        value = loss(photograph, picture, measure)
        (value * 2).backward()
        assert picture.grad is not None
        found.append((value.detach(), picture.grad))
    (value, grad), (expected, theirs), (_, best) = found
    assert abs(float(value) - float(expected)) <= 1e-6
    # Where both are one but for the last digit, the sign of the difference is as it falls.
    differs = (x - y).abs() > 1e-6
    assert int(differs.sum()) > differs.numel() // 2
    wrong, wrongly = ((one - best).abs()[differs].max() for one in (grad, theirs))
    assert wrong <= max(5e-6 * float(best.abs().max()), float(wrongly))


def test_where_photograph_and_picture_are_one_nothing_moves() -> None:
    measure = Ssim(SSIM(data_range=1.0, size_average=True, channel=3))
    picture = photographs(40, 60)[0][0].permute(1, 2, 0).contiguous().requires_grad_()
    photograph = Photograph(picture.detach().clone(), measure)
    difference = absolute(photograph - picture)
    assert isinstance(difference, Differences)
    (difference.mean() + measure(photograph.permute(2, 0, 1)[None, ...], picture.permute(2, 0, 1)[None])).backward()  # type: ignore[arg-type]
    assert picture.grad is not None
    assert picture.grad.abs().max() < 1e-6


def test_the_loss_is_found_with_the_same_bits_by_any_number_of_threads() -> None:
    measure = Ssim(SSIM(data_range=1.0, size_average=True, channel=3))
    x, y = (picture[0].permute(1, 2, 0).contiguous() for picture in photographs(211, 530))

    def find() -> list[Tensor]:
        picture = y.clone().requires_grad_()
        value = loss(Photograph((x * 255).byte(), measure), picture, measure)
        return [value.detach(), *torch.autograd.grad(value, picture)]

    same_by_any_number_of_threads(find)


def test_each_step_on_a_photograph_can_be_had_from_torch() -> None:
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    measure = Ssim(upstream)
    x, y = (picture[0].permute(1, 2, 0).contiguous() for picture in photographs(20, 30))
    image = (x * 255).byte()
    assert Photograph.fits(image, measure)
    for other in (image[:, ::2], image[..., :1], image.int(), x.requires_grad_()):
        assert not Photograph.fits(other, measure)
    assert not Photograph.fits(image, upstream)
    photograph: Any = Photograph(image, measure) / 255.0
    plain = image.float() / 255.0
    assert torch.equal(photograph.tensor(), plain)
    assert torch.equal((photograph - y).mean(), (plain - y).mean())  # type: ignore[arg-type]
    double = y.double()
    small: Any = Photograph(image[:9], measure) / 255.0
    assert torch.equal(small - y[:9], plain[:9] - y[:9])  # type: ignore[arg-type]
    assert torch.equal(photograph - double, plain - double)  # type: ignore[arg-type]
    assert torch.equal(photograph.permute(1, 0, 2), plain.permute(1, 0, 2))
    assert torch.equal(photograph.permute(2, 0, 1)[1], plain[..., 1])
    # Of another picture than the differences were of.
    assert isinstance(photograph - y, Differences)
    batch, expected = photograph.permute(2, 0, 1)[None, ...], plain.permute(2, 0, 1)[None]
    other = y.flip(0).permute(2, 0, 1)[None]
    torch.testing.assert_close(measure(batch, other), upstream(expected, other))
    torch.testing.assert_close(measure(batch, y.permute(2, 0, 1)[None]), upstream(expected, y.permute(2, 0, 1)[None]))
    assert torch.equal(absolute(torch.tensor([-1.0])), torch.tensor([1.0]))  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", ["picture", "photograph"])
def test_what_changed_since_is_noticed(changed: str) -> None:
    measure = Ssim(SSIM(data_range=1.0, size_average=True, channel=3))
    x, y = (picture[0].permute(1, 2, 0).contiguous() for picture in photographs(20, 30))
    image, picture = (x * 255).byte(), y.requires_grad_() * 1
    value = loss(Photograph(image, measure), picture, measure)
    with torch.no_grad():
        (picture if changed == "picture" else image).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_second_derivatives_are_refused() -> None:
    measure = Ssim(SSIM(data_range=1.0, size_average=True, channel=3))
    x, y = photographs(20, 30)
    picture = y[0].permute(1, 2, 0).contiguous().requires_grad_()
    photograph = Photograph(x[0].permute(1, 2, 0).contiguous(), measure)
    y.requires_grad_()
    for value, leaf in ((measure(x, y), y), (loss(photograph, picture, measure), picture)):
        (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            (leaf + slope).square().sum().backward()


def test_a_similarity_that_is_known_is_of_the_same_picture_alone() -> None:
    """Whatever else lies in the same memory has its own: parts, what changed since, one of another graph."""
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    measure = Ssim(upstream)
    x, y = (picture[0].permute(1, 2, 0).contiguous() for picture in photographs(40, 30))
    picture = (y.requires_grad_() * 1)[None].squeeze(0)
    image = x.clone()

    def expected(image: Tensor, picture: Tensor) -> Tensor:
        return upstream(image.permute(2, 0, 1)[None], picture.permute(2, 0, 1)[None])

    photograph = Photograph(image, measure)
    assert isinstance(photograph - picture, Differences)
    known = photograph.similarity(picture.permute(2, 0, 1)[None])
    assert photograph.similarity(picture.permute(2, 0, 1)[None]) is known
    torch.testing.assert_close(known, expected(x, picture))
    with pytest.raises(ValueError, match="same dimensions"):
        photograph.similarity(picture[:20].permute(2, 0, 1)[None])
    twin = picture.detach().requires_grad_()
    (slope,) = torch.autograd.grad(photograph.similarity(twin.permute(2, 0, 1)[None]), twin)
    (slope_of_twin,) = torch.autograd.grad(expected(x, twin), twin)
    torch.testing.assert_close(slope, slope_of_twin, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        picture.mul_(0.5)
    torch.testing.assert_close(photograph.similarity(picture.permute(2, 0, 1)[None]), expected(x, picture))
    assert isinstance(photograph - picture, Differences)
    image.mul_(0.5)
    torch.testing.assert_close(photograph.similarity(picture.permute(2, 0, 1)[None]), expected(image, picture))


def test_tensors_whose_changes_torch_does_not_count_are_torchs() -> None:
    measure = Ssim(SSIM(data_range=1.0, size_average=True, channel=3))
    x, y = (picture[0].permute(1, 2, 0).contiguous() for picture in photographs(20, 30))
    with torch.inference_mode():
        assert not Photograph.fits(x * 1, measure)
        other = y * 1
        assert torch.equal(Photograph(x, measure) - other, x - other)  # type: ignore[arg-type]


@pytest.mark.cuda
def test_what_is_on_a_gpu_is_left_to_torch() -> None:
    x, y = (picture.cuda() for picture in photographs(20, 31))
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    upstream.win = upstream.win.cuda()
    measure = Ssim(upstream)
    for mine, theirs in zip(with_gradients(measure, x, y), with_gradients(upstream, x, y), strict=True):
        assert torch.equal(mine, theirs)
    assert not measure.takes(y, 20, 31)
    image = x[0].permute(1, 2, 0).contiguous()
    assert not Photograph.fits(image, measure)
    assert Photograph.fits(image.cpu(), measure)
    sent = Photograph(image.cpu(), measure).to("cuda")
    assert isinstance(sent, Tensor)
    assert sent.is_cuda
    assert torch.equal(sent, image)
