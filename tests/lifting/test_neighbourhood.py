from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.lifting.neighbourhood import (
    NeighbourhoodLoss,
    NeighbourSearch,
    directional_neighbours,
    neighbourhood_kl,
    update_running_mean,
)


def brute_force(points: torch.Tensor, k: int, include_self: bool) -> torch.Tensor:
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    if not include_self:
        distance.fill_diagonal_(torch.inf)
    return distance.topk(k, largest=False).values


@pytest.mark.parametrize("include_self", [False, True])
def test_tree_finds_the_nearest(include_self: bool) -> None:
    points = torch.randn(300, 3)
    search = NeighbourSearch()
    search.refresh(points)
    found = search.query(torch.arange(300), 5, include_self)
    distance = (points[found] - points[:, None]).norm(dim=-1)
    torch.testing.assert_close(distance, brute_force(points, 5, include_self), atol=1e-5, rtol=1e-4)
    assert (found == torch.arange(300)[:, None]).any() == include_self


def test_coincident_points_never_return_themselves() -> None:
    search = NeighbourSearch()
    search.refresh(torch.zeros(40, 3))
    found = search.query(torch.arange(40), 5)
    assert found.shape == (40, 5)
    assert not (found == torch.arange(40)[:, None]).any()


def test_tree_is_kept_until_positions_move() -> None:
    points = torch.nn.Parameter(torch.randn(50, 3))
    search = NeighbourSearch()
    search.refresh(points)
    index = search._points
    search.refresh(points)
    assert search._points is index
    with torch.no_grad():
        points[0] += 100.0
    search.refresh(points)
    assert search._points is not index
    assert 0 not in search.query(torch.arange(1, 50), 3)


def test_a_large_scene_is_searched_through_a_random_pool() -> None:
    points = torch.randn(100, 3)
    search = NeighbourSearch(max_points=30)
    pool = search.refresh(points, torch.Generator().manual_seed(0)).clone()
    assert pool.shape == (30,)
    assert pool.unique().shape == (30,)
    for _ in range(60):
        search.refresh(points)
    assert not torch.equal(pool, search.pool)


def test_kl_matches_torch_and_skips_invalid_pairs() -> None:
    p = torch.rand(6, 4).softmax(-1)
    q = torch.rand(6, 3, 4).softmax(-1)
    expected = torch.nn.functional.kl_div(q.log(), p[:, None].expand_as(q), reduction="none").sum(-1)
    torch.testing.assert_close(neighbourhood_kl(p, q), expected.mean() / 4, atol=1e-6, rtol=1e-5)
    valid = torch.rand(6, 3) > 0.5
    valid[0, 0] = True
    torch.testing.assert_close(
        neighbourhood_kl(p, q, valid, divide_by_classes=False), expected[valid].mean(), atol=1e-6, rtol=1e-5
    )
    assert neighbourhood_kl(p, q, torch.zeros(6, 3, dtype=torch.bool)) == 0


def test_both_sides_learn_and_positions_do_not() -> None:
    positions = torch.randn(20, 3, requires_grad=True)
    encodings = torch.randn(20, 4, requires_grad=True)
    classifier = torch.nn.Linear(4, 3)
    NeighbourhoodLoss(num_samples=1, k=2)(positions, encodings, classifier).backward()
    assert positions.grad is None
    assert encodings.grad is not None
    assert (encodings.grad.abs().sum(1) > 0).sum() == 3


def test_equal_encodings_cost_nothing() -> None:
    loss = NeighbourhoodLoss(num_samples=50)(torch.randn(50, 3), torch.ones(50, 4), torch.nn.Linear(4, 3))
    assert loss.abs().item() < 1e-6


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tiny_scenes(count: int) -> None:
    encodings = torch.randn(count, 4, requires_grad=True)
    loss = NeighbourhoodLoss(k=5)(torch.randn(count, 3), encodings, torch.nn.Linear(4, 3), torch.randn(count, 3))
    assert torch.isfinite(loss)
    loss.backward()


@given(seed=st.integers(0, 10_000), rank_by=st.sampled_from(["projection", "distance"]))
@settings(max_examples=25, deadline=None)
def test_local_neighbours_are_ahead_and_never_the_target(seed: int, rank_by: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(60, 3, generator=generator)
    directions = torch.randn(60, 3, generator=generator)
    search = NeighbourSearch()
    search.refresh(points)
    rows = torch.arange(60)
    chosen, valid = directional_neighbours(points, rows, directions, search.query(rows, 32), 5, rank_by)
    assert not (chosen == rows[:, None]).any()
    ahead = ((points[chosen] - points[:, None]) * directions[:, None]).sum(-1)
    assert (ahead[valid] > 0).all()
    assert valid.any(1).float().mean() > 0.8


def test_local_neighbours_minimise_the_projection() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 5, 0], [-1, 0, 0], [3, 0, 0]])
    candidates = torch.tensor([[1, 3, 4, 2]])
    chosen, valid = directional_neighbours(points, torch.tensor([0]), torch.tensor([[7.0, 0, 0]]), candidates, k=2)
    assert chosen.tolist() == [[1, 2]]
    assert valid.all()
    chosen, _ = directional_neighbours(
        points, torch.tensor([0]), torch.tensor([[7.0, 0, 0]]), candidates, 2, "distance"
    )
    assert chosen.tolist() == [[1, 4]]


def test_unknown_direction_takes_the_nearest() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [-0.5, 0, 0], [3, 0, 0]])
    chosen, valid = directional_neighbours(points, torch.tensor([0]), torch.zeros(1, 3), torch.tensor([[2, 1, 3]]), k=2)
    assert chosen.tolist() == [[2, 1]]
    assert valid.all()


def test_unknown_ranking_is_refused() -> None:
    with pytest.raises(ValueError, match="rank_by"):
        directional_neighbours(torch.zeros(2, 3), torch.tensor([0]), torch.ones(1, 3), torch.tensor([[1]]), 1, "angle")


def test_running_mean_ignores_unseen_gaussians() -> None:
    mean = torch.ones(3, 3)
    update_running_mean(mean, torch.zeros(3, 3), torch.tensor([True, False, True]), decay=0.5)
    assert mean[:, 0].tolist() == [0.5, 1.0, 0.5]


@pytest.mark.cuda
def test_cuda_agrees_with_the_tree() -> None:
    points = torch.randn(500, 3)
    rows = torch.arange(500)
    search, on_device = NeighbourSearch(), NeighbourSearch()
    search.refresh(points)
    on_device.refresh(points.to("cuda"))
    a = (points[search.query(rows, 5)] - points[:, None]).norm(dim=-1)
    b = (points[on_device.query(rows.to("cuda"), 5).cpu()] - points[:, None]).norm(dim=-1)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
