from __future__ import annotations

import pytest
import torch

from gseg_ns.selection.neighbourhood import Neighbourhood, largest_component, middle_extents, named_groups


def grid(side: int, offset: float = 0.0) -> torch.Tensor:
    axis = torch.arange(side, dtype=torch.float32)
    points = torch.stack(torch.meshgrid(axis, axis, torch.zeros(1), indexing="ij"), -1).reshape(-1, 3)
    return points + torch.tensor([offset, 0.0, 0.0])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_grow_and_shrink_do_not_cross_gaps_and_ignore_the_unit(scale: float) -> None:
    means = torch.cat([grid(10), grid(10, offset=15.0)]) * scale
    graph = Neighbourhood(means)
    mask = torch.zeros(200, dtype=torch.bool)
    mask[55] = True
    grown = graph.grow(mask)
    assert 4 < int(grown.sum()) < 30
    assert graph.grow(mask, steps=30)[:100].all()
    assert not graph.grow(mask, steps=30)[100:].any()
    assert bool((graph.shrink(grown) <= grown).all())
    assert graph.shrink(torch.arange(200) < 100)[:100].all()  # nothing of the other object is near
    assert not graph.grow(torch.zeros(200, dtype=torch.bool)).any()


def test_shrink_takes_the_rim_away() -> None:
    graph = Neighbourhood(grid(10))
    mask = torch.arange(100) < 50
    shrunk = graph.shrink(mask)
    assert shrunk[:30].all()
    assert not shrunk[40:].any()


def test_largest_component() -> None:
    means = torch.cat([grid(10), grid(4, offset=30.0), grid(3, offset=60.0)])
    mask = torch.ones(len(means), dtype=torch.bool)
    mask[0] = False
    kept = largest_component(means, mask)
    assert kept.nonzero()[:, 0].tolist() == list(range(1, 100))


def test_large_gaussians_touch_over_a_distance_and_small_ones_do_not() -> None:
    """A dense half and a sparse half of one surface, and a dense floater as near as sparse neighbours are."""
    dense, sparse = grid(10), 8.0 * grid(5) + torch.tensor([13.0, 0, 0])
    floater = 0.5 * grid(4) + torch.tensor([-6.0, 0.0, 0.0])
    means = torch.cat([dense, sparse, floater])
    mask = torch.ones(len(means), dtype=torch.bool)
    extents = torch.cat([torch.full((100,), 0.3), torch.full((25,), 2.0), torch.full((16,), 0.15)])
    assert largest_component(means, mask, extents).nonzero()[:, 0].tolist() == list(range(125))
    assert not largest_component(means, mask)[102:].any()  # one distance for all tears the sparse half off


def test_the_middle_extent_of_a_needle_is_its_thickness() -> None:
    log_scales = torch.tensor([[0.01, 5.0, 0.02], [1.0, 0.001, 2.0]]).log()
    assert torch.allclose(middle_extents(log_scales), torch.tensor([0.02, 1.0]))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_gaussians(count: int) -> None:
    means = torch.rand(count, 3)
    mask = torch.ones(count, dtype=torch.bool)
    assert torch.equal(largest_component(means, mask), mask)
    assert len(Neighbourhood(means).grow(mask)) == count


def test_all_in_one_place() -> None:
    means = torch.zeros(30, 3)
    mask = torch.arange(30) < 3
    assert Neighbourhood(means).grow(mask).sum() > 3
    assert largest_component(means, mask).sum() == 3


def test_an_edit_changes_the_graph_around_it_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(600, 3, generator=generator)
    graph = Neighbourhood(means)
    assert graph.edited(means.clone()) is graph
    moved, part = means.clone(), means[:, 0] < 0.3
    moved[part] += torch.tensor([0.5, 0.0, 0.1])
    appended = torch.cat([means, means[part] + torch.tensor([0.0, 0.4, 0.0]), torch.full((2, 3), 9.0)])
    for after in (moved, appended, torch.cat([moved, appended[600:]])):
        found, whole = graph.edited(after), Neighbourhood(after)
        distances, indices = whole._tree.others(8)
        limit = graph._edges[2]
        whole.__dict__["_edges"] = indices.numpy(), distances.numpy() <= limit, limit
        for seed in range(20):
            mask = torch.zeros(len(after), dtype=torch.bool)
            mask[torch.randint(0, len(after), (5,), generator=generator)] = True
            assert torch.equal(found.grow(mask, 2), whole.grow(mask, 2)), seed
    assert torch.equal(graph.grow(part), Neighbourhood(means).grow(part))


def test_a_graph_of_few_takes_in_more() -> None:
    graph = Neighbourhood(torch.zeros(1, 3)).edited(torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]))
    assert graph.grow(torch.tensor([True, False])).tolist() == [True, False]


def test_the_largest_piece_of_each_object_stays() -> None:
    line = torch.arange(20.0)[:, None] * torch.tensor([0.1, 0.0, 0.0])
    shifts = [torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.0, 50.0, 0.0]), torch.tensor([0.0, 0.0, 90.0])]
    means = torch.cat([line + shifts[0], line[:10] + shifts[1], line[:4] + shifts[2], line[:16] + shifts[2] * 2])
    groups = torch.tensor([1] * 20 + [2] * 10 + [1] * 4 + [3] * 16)
    mask = torch.ones(50, dtype=torch.bool)
    mask[38:] = False  # of the third object a few strays, and no more
    assert torch.nonzero(largest_component(means, mask, groups=groups))[:, 0].tolist() == list(range(30))
    assert torch.nonzero(largest_component(means, mask))[:, 0].tolist() == list(range(20))
    assert [len(rows) for rows in named_groups(mask, groups)] == [24, 10]
