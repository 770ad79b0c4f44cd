from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gseg_ns.selection.postprocess import (
    ENOUGH,
    ball_query,
    clean_up,
    grow_region,
    neighbour_radius,
    statistical_filter,
    validated,
)


def grid(side: int = 6) -> Tensor:
    axis = torch.arange(side, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)


@pytest.fixture
def scene() -> Tensor:
    """An object of 216 Gaussians, a like one 50 away, and two strays."""
    return torch.cat([grid(), grid() + torch.tensor([50.0, 0, 0]), torch.tensor([[20.0, 20, 20], [-15.0, 0, 0]])])


EMPTY = torch.zeros(434, dtype=torch.bool)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def first() -> Tensor:
    mask = EMPTY.clone()
    mask[:216] = True
    return mask


def strays() -> Tensor:
    mask = EMPTY.clone()
    mask[432:] = True
    return mask


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_all_steps_at_any_scale(scene: Tensor, device: str, unit: float) -> None:
    means = (scene * unit).to(device)
    noisy = (first() | strays()).to(device)
    filtered = statistical_filter(means, noisy)
    assert not filtered[432:].any()
    assert filtered[:216].sum() > 200
    seeds = EMPTY.clone()
    seeds[:8] = True
    both = noisy.clone()
    both[216:432] = True
    assert torch.equal(grow_region(means, both, seeds.to(device)).cpu(), first())
    holes = first().to(device)
    holes[40:60] = False
    # The grid's own spacing is the radius, so the holes close layer by layer and nothing else comes in.
    grown = ball_query(means, holes)
    assert (grown & ~holes).any()
    assert not grown[216:].any()
    assert neighbour_radius(means, first().to(device)) == pytest.approx(unit)


def test_distances_are_plain_not_squared(scene: Tensor) -> None:
    # Spacing 3: squared, the radius would be 9 and reach what is 8 away.
    means = torch.cat([3 * grid(3), torch.tensor([[6.0 + 2.9, 0, 0], [6.0 + 8.0, 0, 0]])])
    selected = torch.zeros(29, dtype=torch.bool)
    selected[:27] = True
    assert neighbour_radius(means, selected) == pytest.approx(3.0)
    assert ball_query(means, selected)[27:].tolist() == [True, False]
    assert ball_query(means, selected, radius=8.5)[27:].tolist() == [True, True]
    assert not ball_query(means, selected, among=~selected & False)[27:].any()


def test_empty_and_single_selections_stay(scene: Tensor) -> None:
    one = EMPTY.clone()
    one[5] = True
    for mask in (EMPTY, one):
        assert torch.equal(statistical_filter(scene, mask), mask)
        assert torch.equal(ball_query(scene, mask), mask)
        assert torch.equal(grow_region(scene, mask, mask), mask)
    assert not grow_region(scene, first(), EMPTY).any()


def test_quantile_ignores_an_outlier(scene: Tensor) -> None:
    selected = first() | strays()
    assert neighbour_radius(scene, selected) > 5
    assert neighbour_radius(scene, selected, quantile=0.98) == pytest.approx(1.0)


def test_validated() -> None:
    inside = torch.tensor([1.0, 0.4, 0.0, 0.5])
    outside = torch.tensor([0.0, 0.6, 0.0, 0.5])
    assert validated(inside, outside).tolist() == [True, False, False, True]


@pytest.mark.parametrize("device", DEVICES)
def test_clean_up_fills_the_object_and_leaves_the_floor(device: str) -> None:
    box = grid() + torch.tensor([10.0, 10, 1])
    x, y = torch.meshgrid(torch.arange(26.0), torch.arange(26.0), indexing="ij")
    floor = torch.stack([x.flatten(), y.flatten(), torch.zeros(26 * 26)], dim=1)
    means = torch.cat([box, floor, torch.tensor([[12.0, 12, 40]])]).to(device)
    object_ = torch.zeros(len(means), dtype=torch.bool)
    object_[: len(box)] = True
    selected = object_.clone()
    selected[[50, 86, 129]] = False  # holes inside
    selected[-1] = True  # an outlier
    cleaned = clean_up(means, selected.to(device)).cpu()
    assert cleaned[[50, 86, 129]].all()
    assert not cleaned[len(box) :].any()
    assert cleaned[: len(box)].float().mean() > 0.9
    assert ball_query(means, object_.to(device))[len(box) : -1].any()  # the query alone takes the floor
    assert not clean_up(means, torch.zeros_like(selected).to(device)).any()
    assert clean_up(means, torch.ones_like(selected).to(device)).float().mean() > 0.9


def test_outliers_of_a_large_selection_are_those_of_all_its_neighbours() -> None:
    """Beyond some hundred Gaussians a part of them is asked: the same go."""
    generator = torch.Generator().manual_seed(0)
    body = torch.rand((9000, 3), generator=generator)
    strays = torch.rand((30, 3), generator=generator) + torch.tensor([2.0, 0, 0])
    means = torch.cat([body, strays])
    everything = torch.ones(len(means), dtype=torch.bool)
    count = int(len(means) ** 0.5)
    assert count > 3 * ENOUGH
    apart = torch.cdist(means, means).topk(count + 1, largest=False).values[:, 1:].mean(dim=1)
    expected = apart <= apart.mean() + 3 * apart.std(unbiased=False)
    found = statistical_filter(means, everything, deviations=3.0)
    assert (found == expected).float().mean() > 0.998
    assert not found[9000:].any()
