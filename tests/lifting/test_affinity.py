from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gseg_ns.errors import GsegError
from gseg_ns.lifting.affinity import ScaleGate, draw_ranks, gated, smooth


def test_gate_is_within_bounds_and_can_be_taken_out() -> None:
    gate = ScaleGate(8)
    values = gate(torch.linspace(0, 1, 5))
    assert values.shape == (5, 8)
    assert ((values >= 0) & (values <= 1)).all()
    assert ScaleGate(8, enabled=False)(torch.tensor([0.3])).eq(1).all()
    torch.testing.assert_close(gate.at(0.25), values[1])


@pytest.mark.parametrize("scale", [-0.1, 1.1, float("nan")])
def test_scale_outside_is_an_error(scale: float) -> None:
    with pytest.raises(GsegError, match="outside"):
        ScaleGate(4).at(scale)


def test_gated_features_are_unit_vectors() -> None:
    found = gated(torch.randn(6, 4), torch.rand(3, 4))
    assert found.shape == (3, 6, 4)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 6))


def test_smoothing_is_the_mean_of_unit_neighbours_with_its_gradient() -> None:
    features = torch.randn(20, 4, requires_grad=True)
    neighbours = torch.randint(0, 20, (7, 3))
    expected = F.normalize(F.normalize(features, dim=-1)[neighbours].mean(dim=1), dim=-1)
    weight = torch.randn(7, 4)
    (reference,) = torch.autograd.grad((expected * weight).sum(), features)
    found = smooth(features, neighbours)
    (gradient,) = torch.autograd.grad((found * weight).sum(), features)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, reference)


def test_ranks() -> None:
    generator = torch.Generator().manual_seed(0)
    ranks = draw_ranks(16, 0.5, generator)
    assert len(ranks.unique()) == 8
    assert int(ranks.max()) < 16
    assert sorted(draw_ranks(16, 1.0).tolist()) == list(range(16))
    assert len(draw_ranks(1, 0.5)) == 1
