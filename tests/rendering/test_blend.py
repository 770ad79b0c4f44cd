from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gseg_ns.rendering.blend import Alphas, Behind, clamp
from thread_counts import same_by_any_number_of_threads

Clamp = Callable[[Any, float, float], Tensor]


def picture(dtype: torch.dtype, height: int = 5, width: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """A picture [1, H, W, 3], its alphas and a background; some values lie outside of 0..1."""
    g = torch.Generator().manual_seed(0)
    image, alphas = (torch.rand(1, height, width, c, generator=g, dtype=dtype) for c in (3, 1))
    return image * 2 - 0.5, alphas, torch.rand(3, generator=g, dtype=dtype)


def drawn(image: Tensor, alphas: Any, background: Tensor, within: Clamp) -> Tensor:
    """Splatfacto's lines."""
    alphas = alphas[:, ...]
    return within(image[:, ..., :3] + (1 - alphas) * background, 0.0, 1.0)


def with_gradients(wrap: Callable[[Tensor], Any], within: Clamp, given: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    image, alphas = (t.clone().requires_grad_() for t in given[:2])
    out = drawn(image, wrap(alphas), given[2], within)
    (out * torch.arange(out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    assert image.grad is not None
    assert alphas.grad is not None
    return [out.detach(), image.grad, alphas.grad]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_picture_and_gradients_are_those_of_torch(dtype: torch.dtype) -> None:
    given = picture(dtype)
    found = with_gradients(Alphas, clamp, given)
    for mine, theirs in zip(found, with_gradients(lambda t: t, torch.clamp, given), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert 0 < int((found[1] == 0).sum()) < found[1].numel()


def test_what_splatfacto_does_goes_through_the_kernels_and_a_fourth_channel_or_another_color_does_not() -> None:
    image, alphas, background = picture(torch.float32)
    assert isinstance(image + (1 - Alphas(alphas)) * background, Behind)
    plain = image + (1 - alphas) * background
    trained: Any = (1 - Alphas(alphas)) * background.requires_grad_()
    assert torch.equal(image + trained, plain)
    twice: Any = 1 - (1 - Alphas(alphas))
    assert torch.equal(twice, 1 - (1 - alphas))
    more = torch.cat([image, alphas], dim=-1)
    with pytest.raises(RuntimeError, match="must match"):
        more + (1 - Alphas(alphas)) * background.detach()
    behind = (1 - Alphas(alphas)) * background.detach()
    torch.testing.assert_close(clamp(behind, 0.0, 0.5), torch.clamp((1 - alphas) * background, 0.0, 0.5))
    assert torch.equal(Alphas(alphas).squeeze(0), alphas.squeeze(0))
    assert torch.equal(Alphas(alphas) > 0.5, alphas > 0.5)
    assert torch.equal(clamp(torch.tensor([-1, 3]), 0, 1), torch.tensor([0, 1]))


def test_what_is_no_number_stays_so() -> None:
    nan, inf = float("nan"), float("inf")
    image = torch.tensor([nan, inf, -inf]).view(1, 1, 1, 3)
    found = drawn(image, Alphas(torch.ones(1, 1, 1, 1)), torch.ones(3), clamp)
    torch.testing.assert_close(found.flatten(), torch.tensor([nan, 1.0, 0.0]), equal_nan=True)


def test_a_picture_that_changed_since_is_noticed() -> None:
    image, alphas, background = picture(torch.float32)
    out = drawn(image.requires_grad_(), Alphas(alphas), background, clamp)
    total = out.sum()
    with torch.no_grad():
        out.mul_(10)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    given = picture(torch.float32, 300, 401)
    same_by_any_number_of_threads(lambda: with_gradients(Alphas, clamp, given), (1, 3))


@pytest.mark.cuda
def test_other_devices_blend_as_torch_does() -> None:
    given = tuple(t.cuda() for t in picture(torch.float32))
    found = with_gradients(Alphas, clamp, given)  # type: ignore[arg-type]
    for mine, theirs in zip(found, with_gradients(lambda t: t, torch.clamp, given), strict=True):  # type: ignore[arg-type]
        assert torch.equal(mine, theirs)
