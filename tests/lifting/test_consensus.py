from __future__ import annotations

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.lifting import consensus
from gseg_ns.lifting.consensus import (
    ConsensusOptions,
    _supported,
    find_groups,
    foremost,
    group_lookup,
    view_labels,
)
from gseg_ns.lifting.votes import ViewVotes
from gseg_ns.rendering import project, vote

OBJECTS = 4
PER_OBJECT = 400


def boxes(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Four boxes that touch, in a row: means [N, 3] and the true object of each [N] from 1."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.rand((OBJECTS * PER_OBJECT, 3), generator=generator)
    truth = torch.arange(OBJECTS).repeat_interleave(PER_OBJECT)
    means[:, 0] += truth
    return means, truth + 1


def said(labels: torch.Tensor, weights: torch.Tensor) -> ViewVotes:
    """What a view says that gives each Gaussian [N] to a label, 0 = none."""
    seen = (labels > 0).nonzero().squeeze(1)
    return ViewVotes(seen.int(), labels[seen].int(), weights[seen].float())


def views(truth: torch.Tensor, count: int = 30, seed: int = 0, errors: float = 0.2) -> list[ViewVotes]:
    """Each view sees half of every object, under numbers of its own, and merges or cuts some objects."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for _ in range(count):
        number = torch.randperm(OBJECTS, generator=generator) + 1
        labels = number[truth - 1]
        if torch.rand(1, generator=generator) < errors:  # two neighbours become one mask
            first = int(torch.randint(1, OBJECTS, (1,), generator=generator))
            labels[truth == first] = number[first]
        if torch.rand(1, generator=generator) < errors:  # an object falls apart
            which = int(torch.randint(1, OBJECTS + 1, (1,), generator=generator))
            half = (truth == which) & (torch.arange(len(truth)) % PER_OBJECT < PER_OBJECT // 2)
            labels[half] = OBJECTS + 1
        seen = torch.rand(len(truth), generator=generator) < 0.5
        result.append(said(torch.where(seen, labels, 0).int(), seen * 2))
    return result


def same_partition(a: torch.Tensor, b: torch.Tensor) -> bool:
    pairs = torch.unique(torch.stack([a, b]), dim=1)
    return bool(len(pairs[0].unique()) == len(pairs[1].unique()) == pairs.shape[1])


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_found_in_spite_of_merged_and_split_masks(seed: int) -> None:
    means, truth = boxes(seed)
    groups = find_groups(means, views(truth, seed=seed), ConsensusOptions())
    assert groups.max() == OBJECTS
    for group in range(1, OBJECTS + 1):
        share = torch.bincount(truth[groups == group], minlength=OBJECTS + 1).float()
        assert share.max() / share.sum() > 0.97


def test_neither_views_nor_masks_nor_gaussians_have_an_order() -> None:
    means, truth = boxes()
    asked = views(truth)
    groups = find_groups(means, asked, ConsensusOptions())
    assert same_partition(groups, find_groups(means, asked[::-1], ConsensusOptions()))

    # Contributions of all sizes: their sums differ in the last digit with the order.
    generator = torch.Generator().manual_seed(1)
    uneven = [v._replace(weights=v.weights * torch.rand(len(v.weights), generator=generator)) for v in asked]
    first = find_groups(means, uneven, ConsensusOptions(same_region=0.8))
    assert torch.equal(first, find_groups(means, uneven[::-1], ConsensusOptions(same_region=0.8)))

    renumbered = [v._replace(labels=7 - v.labels) for v in asked]
    assert same_partition(groups, find_groups(means, renumbered, ConsensusOptions()))

    order = torch.randperm(len(means), generator=torch.Generator().manual_seed(0))
    # Distinct contributions, so that the leader of a cell is the same Gaussian in both orders.
    exact = [v._replace(weights=1 + v.gaussians / len(truth)) for v in asked]
    place = torch.argsort(order)
    moved = []
    for view in exact:
        places, rising = place[view.gaussians.long()].sort()
        moved.append(ViewVotes(places.int(), view.labels[rising], view.weights[rising]))
    one = find_groups(means, exact, ConsensusOptions())
    two = find_groups(means[order], moved, ConsensusOptions())
    assert one.max() == OBJECTS
    assert same_partition(one[order], two)


def test_a_part_smaller_than_a_cell_is_found() -> None:
    """A handle on a large body: the cells of the body are much larger than the handle."""
    generator = torch.Generator().manual_seed(0)
    body, handle = torch.rand((3000, 3), generator=generator), torch.rand((25, 3), generator=generator) * 0.02
    handle[:, 0] += 1.0
    handle[:, 1:] += 0.5
    truth = torch.cat([torch.full((3000,), 1), torch.full((25,), 2)])
    means = torch.cat([body, handle])
    options = ConsensusOptions(regions=30)
    groups = find_groups(means, [said(truth.int(), torch.full((3025,), 5.0))] * 4, options)
    assert same_partition(groups[groups > 0], truth[groups > 0])
    assert (groups[truth == 2] > 0).all()


def test_what_shines_through_hardly_counts() -> None:
    """Gaussians just beneath a surface get a little of the masks in front of it, in most views."""
    means, truth = boxes()
    hidden = (truth == 2) & (torch.arange(len(truth)) % 2 == 0)
    clear = said(truth.int(), torch.full((len(truth),), 4.0))
    faint = torch.where(hidden, 1, truth).int(), torch.where(hidden, 0.05, 4.0)
    groups = find_groups(means, [clear] * 3 + [said(*faint)] * 9, ConsensusOptions())
    assert same_partition(groups[groups > 0], truth[groups > 0])
    assert (groups[hidden] > 0).float().mean() > 0.9


def test_without_evidence_neighbours_belong_together_and_others_do_not() -> None:
    """Two views, each of one half of the scene: a box is cut in two where they meet."""
    means, truth = boxes()
    left = means[:, 0] < 1.5
    asked = [said(torch.where(part, truth, 0), torch.full((len(truth),), 4.0)) for part in (left, ~left)] * 3
    groups = find_groups(means, asked, ConsensusOptions())
    assert groups.max() == OBJECTS
    assert same_partition(groups[groups > 0], truth[groups > 0])


def test_opposite_walls_stay_two_whatever_floats_before_them() -> None:
    """No view shows both; one that looks at the second sees a few Gaussians of the first, too, in one mask with it."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand((2 * PER_OBJECT, 3), generator=generator)
    wall = torch.arange(2).repeat_interleave(PER_OBJECT) + 1
    means[:, 0] += 10.0 * wall
    means[:20] = torch.tensor([15.0, 0.5, 0.5]) + 0.1 * means[:20].frac()  # floats between them
    ones = torch.ones(len(means))
    asked = [said((wall == which).int(), ones) for which in (1, 2) for _ in range(10)]
    stray = (torch.arange(len(means)) < 20) | (wall == 2)
    groups = find_groups(means, [*asked, said(stray.int(), ones)], ConsensusOptions())
    assert groups.max() == 2
    assert same_partition(groups[groups > 0], wall[groups > 0])


def test_masks_find_their_group_and_merged_ones_none() -> None:
    groups = torch.tensor([1, 1, 1, 2, 2, 2, 0])
    labels = torch.tensor([1, 1, 2, 3, 3, 2, 1], dtype=torch.int32)
    view = said(labels, torch.ones(7))
    lookup = group_lookup(view, groups, 2, ConsensusOptions(mask_share=0.6))
    assert lookup.tolist() == [0, 1, 0, 2]


def test_affinities_are_those_of_whole_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    means, truth = boxes()
    asked = views(truth)
    generator = torch.Generator().manual_seed(3)
    region = torch.randint(23, (len(means),), generator=generator)
    tables = [consensus._shares(view, region, 22)[:, 1:] for view in asked]
    totals = torch.stack([table.sum(dim=1) for table in tables])
    weights = totals / (totals + consensus.FAINT * totals.max(dim=0).values + consensus.PIXEL)
    same = torch.zeros(23, 23)
    for table, total, weight in zip(tables, totals, weights, strict=True):
        same += (table @ table.T) * torch.outer(weight / total, weight / total)
    both = weights.T @ weights
    cluster = np.arange(23) % 7
    members = torch.nn.functional.one_hot(torch.from_numpy(cluster)).float()
    monkeypatch.setattr(consensus, "ROWS", 5)
    monkeypatch.setattr(consensus, "PAIRS", 6)
    affinity = consensus._Affinity(region, 23, asked)
    first, second = (part.numpy() for part in torch.triu_indices(23, 23, 1))
    for found, table in zip(affinity.of(first, second), (same, both), strict=True):
        np.testing.assert_allclose(found, table[first, second], rtol=1e-4)
    expected = members.T @ same @ members, members.T @ (both + consensus.DOUBT) @ members
    for found, table in zip(affinity.of_clusters(cluster), expected, strict=True):
        np.testing.assert_allclose(found, table, rtol=1e-4)


def test_what_a_view_says_of_its_gaussians() -> None:
    means = torch.tensor([[-0.5, 0.0, 4.0], [0.5, 0.0, 4.0], [0.5, 0.0, 8.0], [0.0, 0.0, -4.0]])
    K = torch.tensor([[20.0, 0, 10], [0, 20.0, 10], [0, 0, 1]])
    meta = project(
        means, torch.tensor([[1.0, 0, 0, 0]]).repeat(4, 1), torch.full((4, 3), 0.1), torch.full((4,), 0.95),
        torch.eye(4)[None], K[None], 20, 20,
    )  # fmt: skip
    labels = torch.zeros((20, 20), dtype=torch.int32)
    labels[:, :10], labels[:, 10:] = 5, 2
    found = view_labels(meta, labels)
    assert found.gaussians.tolist() == [0, 1, 2]
    assert found.labels[:2].tolist() == [5, 2]
    dense = vote(meta, labels, 6)[:, 1:].max(dim=1)
    assert torch.equal(found.weights, dense.values[:3])
    assert torch.equal(found.labels, dense.indices[:3].int() + 1)
    assert len(view_labels(meta, torch.zeros_like(labels)).labels) == 0


def test_the_foremost_mask_of_equals_is_the_first() -> None:
    votes = ViewVotes(
        torch.tensor([0, 0, 3, 3, 3, 5], dtype=torch.int32),
        torch.tensor([0, 2, 1, 4, 7, 0], dtype=torch.int32),
        torch.tensor([9.0, 1, 2, 3, 3, 4]),
    )
    assert [part.tolist() for part in foremost(votes)] == [[0, 3], [2, 4], [1.0, 3.0]]


def test_no_masks_at_all_give_no_groups() -> None:
    means, truth = boxes()
    empty = [said(torch.zeros(len(truth)).int(), torch.zeros(len(truth)))] * 3
    assert not find_groups(means, empty, ConsensusOptions()).any()


@pytest.mark.parametrize("wrong", [{"regions": 0}, {"support": 1.5}, {"join_neighbours": -1.0}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(GsegError):
        ConsensusOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("own_masks", [1, 2, 3])
def test_a_group_that_is_mostly_part_of_another_is_a_fragment(own_masks: int) -> None:
    groups = torch.tensor([1] * 10 + [2] * 4)
    whole, apart = torch.ones(14, dtype=torch.int32), groups.int()
    asked = [said(apart if view < own_masks else whole, torch.ones(14)) for view in range(5)]
    kept = _supported(groups, asked, ConsensusOptions(support=0.2))
    assert kept.tolist() == [1] * 10 + ([2] * 4 if own_masks > 2 else [0] * 4)
    assert _supported(groups, asked, ConsensusOptions(support=0.2, foremost=0)).tolist() == groups.tolist()
