"""A row of Gaussians with masks of parts, objects and a group: which tree comes out is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from gseg_ns.lifting.tree import Tree, grow_tree
from gseg_ns.lifting.tree.choice import choose
from gseg_ns.lifting.tree.cuts import balanced_cut
from gseg_ns.lifting.tree.masks import AskedViews, MaskSets
from gseg_ns.lifting.tree.nesting import descend, nest, node_sets
from gseg_ns.lifting.votes import ViewVotes, VoteStore

PARTS, OBJECTS, GROUP = (
    [range(0, 10), range(10, 20), range(20, 30), range(30, 40)],
    [range(0, 20), range(20, 40)],
    [range(40)],
)
GAUSSIANS = 48
"""The last eight are in no mask."""


def say(masks: Sequence[Collection[int]]) -> tuple[ViewVotes, Tensor]:
    """What a view says that shows ten pixels of each Gaussian, and the members of its regions."""
    covers = np.array([[g in mask for mask in masks] for g in range(GAUSSIANS)])
    flags = np.concatenate([np.zeros((1, len(masks)), bool), covers])
    members, row = np.unique(flags, axis=0, return_inverse=True)
    region = torch.from_numpy(row.reshape(-1)[1:]).int()
    votes = ViewVotes(torch.arange(GAUSSIANS).int(), region, torch.full((GAUSSIANS,), 10.0))
    return votes, torch.from_numpy(members)


def grow(views: Sequence[Sequence[Collection[int]]]) -> Tree:
    store, members = VoteStore(), []
    for masks in views:
        votes, covers = say(masks)
        store.append(votes)
        members.append(covers)
    picture = torch.arange(GAUSSIANS).repeat_interleave(2)[None].expand(5, -1).int()
    return grow_tree(store, members, [picture] * len(views), GAUSSIANS)


def sets(tree: Tree, level: str) -> set[frozenset[int]]:
    labels = tree.labels(level)  # type: ignore[arg-type]
    return {frozenset((labels == label).nonzero().flatten().tolist()) for label in labels.unique() if label}


BODY, HANDLE, MUG = range(19), range(19, 20), range(20)
MUGS: list[Sequence[Collection[int]]] = [
    *([BODY, HANDLE, (*MUG, 40 + view, 41 + view), OBJECTS[1], *GROUP] for view in range(6)),
    *([[BODY, HANDLE, OBJECTS[1], *GROUP]] * 2),
]
"""A handle that is a twentieth of its mug, whose masks are ragged: the mug and its body are nearly one set, and the
masks of the body fit either best."""

VIEWS = [[*PARTS, *OBJECTS, *GROUP]] * 4 + [[*PARTS, *GROUP]] * 2 + [OBJECTS] * 2


def test_three_levels_are_found() -> None:
    tree = grow(VIEWS)
    assert len(tree) == 7
    assert tree.depth == 3
    assert sets(tree, "part") == {frozenset(part) for part in PARTS}
    assert sets(tree, "object") == {frozenset(thing) for thing in OBJECTS}
    assert sets(tree, "group") == {frozenset(range(40))}
    assert (tree.labels("part")[40:] == 0).all()
    leaf = int(tree.nodes[0])
    assert [int(tree.contains(node).sum()) for node in tree.path(leaf)] == [10, 20, 40]
    assert (tree.confidence[:40] == 1).all()


@pytest.mark.parametrize("views", [VIEWS, MUGS])
def test_neither_the_order_of_views_nor_that_of_masks_matters(views: Sequence[Sequence[Collection[int]]]) -> None:
    generator = np.random.default_rng(0)
    expected = [sets(grow(views), level) for level in ("part", "object", "group")]
    for _ in range(3):
        shuffled = [[masks[i] for i in generator.permutation(len(masks))] for masks in views]
        mixed = [shuffled[i] for i in generator.permutation(len(shuffled))]
        assert [sets(grow(mixed), level) for level in ("part", "object", "group")] == expected


def test_a_mug_has_its_handle_however_small() -> None:
    tree = grow(MUGS)
    found = {frozenset(tree.contains(node).nonzero().flatten().tolist()) for node in range(1, len(tree) + 1)}
    assert found == {frozenset(one) for one in (BODY, HANDLE, MUG, OBJECTS[1], *GROUP)}


def test_what_most_views_mask_apart_is_not_taken_in() -> None:
    # As the mug above, but that the two lie side by side: three of eight views merge them.
    tree = grow([[BODY, HANDLE, OBJECTS[1]]] * 5 + [[HANDLE, MUG, OBJECTS[1]]] * 3)
    assert sets(tree, "group") == {frozenset(thing) for thing in (BODY, HANDLE, OBJECTS[1])}


def test_label_maps_give_one_level() -> None:
    tree = grow([OBJECTS] * 5)
    assert tree.depth == 1
    assert sets(tree, "part") == sets(tree, "object") == sets(tree, "group") == {frozenset(o) for o in OBJECTS}


def test_what_two_views_say_alone_is_no_thing() -> None:
    assert sets(grow([OBJECTS] * 6 + [[range(5, 25)]] * 2), "part") == {frozenset(thing) for thing in OBJECTS}


def test_a_rest_that_is_large_is_a_leaf() -> None:
    tree = grow([[range(40), range(10)]] * 6)
    assert sets(tree, "part") == {frozenset(range(10)), frozenset(range(10, 40))}
    assert sets(tree, "group") == {frozenset(range(40))}


def test_without_masks_there_is_no_tree() -> None:
    tree = grow([[]] * 3)
    assert len(tree) == 0
    assert not tree.nodes.any()
    assert not tree.labels("object").any()


def test_chosen_sets_are_nested_or_apart() -> None:
    generator = np.random.default_rng(1)
    masks = [
        range(a, min(a + w, 40))
        for a, w in zip(generator.integers(0, 36, 9), generator.integers(4, 30, 9), strict=True)
    ]
    store, members = VoteStore(), []
    for _ in range(4):
        votes, covers = say(masks)
        store.append(votes)
        members.append(covers)
    asked: MaskSets = AskedViews(store, members).sets(0, GAUSSIANS)
    candidates = (asked.covers[:, :9].T @ (asked.seen > 0)).astype(np.float32).tocsr()
    chosen = candidates[choose(candidates, asked.fits(candidates), asked)].toarray().astype(bool)
    assert len(chosen)
    for one, other in combinations(chosen, 2):
        shared = (one & other).sum() / min(one.sum(), other.sum())
        assert shared <= 0.3 + 1e-6 or shared >= 0.7 - 1e-6


def test_gaussians_follow_the_majority_down() -> None:
    import scipy.sparse as sparse

    parents = np.array([0, 0, 1, 1])
    shares = sparse.csr_matrix(np.array([[1, 1, 0.4], [0.8, 0.3, 0.9], [0.2, 0.4, 0.1]], np.float32))
    assert descend(parents, shares).tolist() == [2, 1, 0]
    # The first node keeps no rest: what is in no child by majority goes to the child with the most votes.
    assert descend(parents, shares, np.zeros(4, bool)).tolist() == [2, 3, 0]


def test_nesting_is_in_pre_order() -> None:
    import scipy.sparse as sparse

    rows = np.zeros((4, 10), np.float32)
    rows[0, :2], rows[1, 5:], rows[2, :5], rows[3, 2:4] = 1, 1, 1, 1
    order, parents = nest(sparse.csr_matrix(rows), np.ones(10, np.float32))
    assert parents.tolist()[0] == 0
    placed = dict(zip(order.tolist(), range(1, 5), strict=True))
    assert parents[placed[0]] == parents[placed[3]] == placed[2]
    assert parents[placed[1]] == parents[placed[2]] == 0
    assert node_sets(parents, np.array([placed[0]] * 2 + [0] * 8)).toarray().sum(axis=1).tolist().count(2) == 2


def test_the_cut_lies_where_as_much_is_larger_as_smaller() -> None:
    store, members = VoteStore(), []
    for masks in VIEWS:
        votes, covers = say(masks)
        store.append(votes)
        members.append(covers)
    asked = AskedViews(store, members).sets(0, GAUSSIANS)
    parents = np.array([0, 0, 1, 2, 2, 1, 5, 5])
    nodes = np.repeat([3, 4, 6, 7, 0], [10, 10, 10, 10, 8])
    assert np.flatnonzero(balanced_cut(parents, nodes, asked)).tolist() == [2, 5]


def test_of_two_levels_that_views_show_alike_the_larger_is_the_object() -> None:
    some = [[*PARTS, *OBJECTS]] * 7
    assert sets(grow([*some, PARTS]), "object") == {frozenset(of) for of in OBJECTS}
    # Where hardly a view has the larger ones, it is two things in one mask.
    assert sets(grow([[*PARTS, *OBJECTS]] * 4 + [PARTS] * 12), "object") == {frozenset(of) for of in PARTS}
    # A stack of three elsewhere says that there are groups, of which there may be one here.
    assert sets(grow([*VIEWS, PARTS]), "object") == {frozenset(of) for of in OBJECTS}


def test_a_tree_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="pre-order"):
        Tree(torch.tensor([0, 2, 0]), torch.zeros(1), torch.zeros(3), torch.zeros(1), torch.zeros(3))


def shown(views: list[tuple[list[range], dict[int, float]]], pixels: float = 10.0) -> Tree:
    """A tree of views that show some Gaussians with other pixels, 0 = not at all."""
    store, members = VoteStore(), []
    for masks, special in views:
        votes, covers = say(masks)
        weights = torch.tensor([special.get(g, pixels) for g in range(GAUSSIANS)])
        seen = weights > 0
        store.append(ViewVotes(votes.gaussians[seen], votes.labels[seen], weights[seen]))
        members.append(covers)
    picture = torch.arange(GAUSSIANS).repeat_interleave(2)[None].expand(5, -1).int()
    return grow_tree(store, members, [picture] * len(views), GAUSSIANS)


def test_a_part_that_few_views_see_is_kept_where_these_agree() -> None:
    hidden = dict.fromkeys(range(5), 0.0)  # behind the rest of its object in most views
    tree = shown([(OBJECTS, hidden)] * 20 + [([*OBJECTS, range(5)], {})] * 4)
    assert frozenset(range(5)) in sets(tree, "part")
    assert frozenset(range(20)) in sets(tree, "object") | sets(tree, "group")


def test_views_that_hardly_show_a_part_do_not_speak_against_it() -> None:
    # A tenth of the pixels that the smallest masks have: nobody would mask it there.
    far = dict.fromkeys(range(5), 1.0)
    tree = shown([([*OBJECTS, range(5), range(20, 25)], {})] * 4 + [([*OBJECTS, range(20, 25)], far)] * 40)
    assert frozenset(range(5)) in sets(tree, "part")


def test_what_is_smaller_than_any_mask_is_no_node() -> None:
    # Three Gaussians between the parts of an object: a seventh of it, and still less than the smallest mask.
    tree = grow([[range(20), range(9), range(12, 20), range(20, 40)]] * 6)
    assert all(len(part) > 3 for part in sets(tree, "part"))
    assert frozenset(range(20)) in sets(tree, "group")


def test_a_root_that_more_views_show_within_another_is_no_thing() -> None:
    # What shows through a handle: masks of the mug hold it, those of the table do, and some are its own.
    mug, table, hole = range(16), range(20, 40), range(16, 20)
    views = [[range(20), table]] * 3 + [[mug, range(16, 40)]] * 4 + [[range(20), hole, table]] * 4 + [[mug, table]] * 6
    assert sets(grow(views), "object") == {frozenset(mug), frozenset(table)}
    # With masks of its own in most views it is a small thing, though some views merge it.
    views = [[range(20), table]] * 3 + [[mug, hole, table]] * 10
    assert sets(grow(views), "object") == {frozenset(mug), frozenset(hole), frozenset(table)}
