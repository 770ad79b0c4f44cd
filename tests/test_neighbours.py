from __future__ import annotations

import pytest
import torch

from gseg_ns import neighbours
from gseg_ns.neighbours import PointTree, by_distances, nearest

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def table(points: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    return (queries[:, None] - points[None]).norm(dim=-1)


@pytest.mark.parametrize("few", [0, 4096])
@pytest.mark.parametrize("device", DEVICES)
def test_the_nearest_are_those_of_all_distances(device: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "FEW", few)
    monkeypatch.setattr(neighbours, "BLOCK", 700)  # several portions
    points, queries = torch.randn(300, 3), torch.randn(90, 3)
    expected = table(points, queries).sort(dim=1)
    distances, index = PointTree(points.to(device)).nearest(queries.to(device), 7)
    assert distances.dtype == torch.float32
    assert torch.equal(index.cpu(), expected.indices[:, :7])
    torch.testing.assert_close(distances.cpu(), expected.values[:, :7])
    found = by_distances(points, queries, 7)
    assert torch.equal(found[1], expected.indices[:, :7])
    near = PointTree(points.to(device)).within(queries.to(device), 0.3)
    assert torch.equal(near.cpu(), expected.values[:, 0] <= 0.3)
    assert 0 < near.sum() < 90


def test_others_leave_out_the_point_itself_and_nothing_else() -> None:
    points = torch.randn(200, 3)
    points[50:80] = points[0]  # thirty-one in one place, more than are asked for
    expected = (table(points, points) + torch.diag(torch.full((200,), torch.inf))).sort(dim=1).values
    distances, index = PointTree(points).others(9)
    assert not (index == torch.arange(200)[:, None]).any()
    torch.testing.assert_close(distances, expected[:, :9])
    rows = torch.tensor([3, 60, 3])
    some = PointTree(points).others(9, rows)
    torch.testing.assert_close(some[0], distances[rows])
    assert all(len(set(row)) == 9 for row in index.tolist())


def test_a_point_is_its_own_nearest() -> None:
    points = torch.rand(50, 3)
    assert torch.equal(nearest(points, 5)[:, 0], torch.arange(50))


def test_a_radius_holds_what_lies_on_it() -> None:
    queries = torch.tensor([[3.0, 0, 0], [3.0 + 1e-6, 0, 0]])
    assert PointTree(torch.zeros(1, 3)).within(queries, 3.0).tolist() == [True, False]
    assert PointTree(torch.zeros(2, 3)).within(torch.zeros(1, 3), 0.0).tolist() == [True]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_points(count: int) -> None:
    tree = PointTree(torch.rand(count, 3))
    distances, index = tree.nearest(torch.rand(4, 3), 16)
    assert distances.shape == index.shape == (4, count)
    distances, index = tree.others(16)
    assert distances.shape == index.shape == (count, max(count - 1, 0))
    assert tree.within(torch.rand(4, 3), 100.0).tolist() == [count > 0] * 4
    assert tree.nearest(torch.rand(0, 3), 2)[1].shape == (0, min(count, 2))
    assert nearest(torch.rand(count, 3), 2).shape == (count, min(count, 2))
