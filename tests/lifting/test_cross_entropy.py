from __future__ import annotations

import pytest
import torch

from gseg_ns.lifting import cross_entropy
from gseg_ns.lifting.cross_entropy import cross_entropies
from thread_counts import same_by_any_number_of_threads

Leaves = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def inputs(rows: int, classes: int, device: str = "cpu") -> tuple[Leaves, torch.Tensor]:
    """Features, weight and bias; targets, some of which do not count."""
    generator = torch.Generator().manual_seed(0)
    shapes = (rows, 16), (classes, 16), (classes,)
    made = (torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes)
    features, weight, bias = made
    return (features, weight, bias), torch.randint(-1, classes, (rows,), generator=generator).to(device)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_it_is_torchs_whatever_the_blocks(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves, targets = inputs(2000, 9, device)
    scores = torch.nn.functional.linear(*leaves)
    expected = torch.nn.functional.cross_entropy(scores, targets, ignore_index=-1, reduction="sum")
    slopes = torch.autograd.grad(3 * expected, leaves)
    for together in (1 << 20, 9 * 100):
        monkeypatch.setattr(cross_entropy, "TOGETHER", together)
        monkeypatch.setattr(cross_entropy, "SCORES", together)
        loss = cross_entropies(*leaves, targets)
        torch.testing.assert_close(loss, expected)
        for mine, theirs in zip(torch.autograd.grad(3 * loss, leaves), slopes, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_sum() -> None:
    leaves, targets = inputs(5, 4)
    double = [leaf.detach().double().requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(lambda f, w, b: cross_entropies(f, w, b, targets), double)


def test_huge_scores_stay_finite() -> None:
    features, weight = torch.tensor([[1e4], [-1e4]]), torch.tensor([[1.0], [-1.0]])
    assert cross_entropies(features, weight, torch.zeros(2), torch.tensor([0, 0])).item() == 2e4


def test_nothing_depends_on_the_number_of_threads() -> None:
    leaves, targets = inputs(5000, 300)

    def find() -> list[torch.Tensor]:
        loss = cross_entropies(*leaves, targets)
        return [loss, *torch.autograd.grad(loss, leaves)]

    same_by_any_number_of_threads(find, (1, 3))


def test_mixed_precision_is_that_of_the_features_alone() -> None:
    leaves, targets = inputs(300, 9)
    expected = cross_entropies(*leaves, targets)
    with torch.autocast("cpu", torch.bfloat16):
        features = leaves[0].to(torch.bfloat16)
        found = cross_entropies(features, *leaves[1:], targets)
        (slope,) = torch.autograd.grad(found, features)
    assert found.dtype == torch.float32
    assert slope.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)
