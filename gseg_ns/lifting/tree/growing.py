"""From what the views say of overlapping masks to the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

from gseg_ns.lifting.tree.borders import followed_borders
from gseg_ns.lifting.tree.candidates import find_candidates
from gseg_ns.lifting.tree.choice import SUPPORT, choose, take_in
from gseg_ns.lifting.tree.cuts import ALL, balanced_cut
from gseg_ns.lifting.tree.masks import (
    FITS,
    VIEWS,
    AskedViews,
    BestMasks,
    Fits,
    MaskSets,
    evidence,
    owners,
    sees,
    visible,
)
from gseg_ns.lifting.tree.nesting import descend, nest, node_sets, pre_order
from gseg_ns.lifting.tree.tree import Tree, last_below
from gseg_ns.lifting.votes import VoteStore

FOLLOWED = 0.4
"""Part of a node's border that its masks follow at least."""

TURNS = 5
"""How often nodes without borders are taken out: each time borders change."""

SPEAKERS = 60_000
"""Gaussians that the tree is found with, where there are more: those that views show most of."""

GAUSSIANS = 100_000
"""Gaussians that are put into the tree at a time."""


def grow_tree(
    votes: VoteStore,
    members: Sequence[Tensor],
    foremost: Sequence[Tensor],
    num_gaussians: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Tree:
    """Find the tree of all things that masks of several views agree on.

    Neither the order of the views nor that of their masks matters.

    Args:
        votes: of each view's Gaussians for the regions of its masks (`MaskSet.regions`), region 0 among them.
        members: bool [R, M] of each view: the masks that cover a region.
        foremost: int [h, w] of each view: the foremost Gaussian of each pixel, -1 where nothing is drawn.
        num_gaussians: N.
        progress: told what is being done.
    """
    views = AskedViews(votes, members)
    speakers = _speakers(votes, num_gaussians)
    masks = views.sets(0, num_gaussians, speakers)
    progress("Seeking sets that masks agree on")
    sets, fits = find_candidates(masks)
    progress("Choosing parts, objects and groups")
    chosen = choose(sets, fits, masks)
    sets, fits = take_in(sets[chosen], fits.of(chosen), masks)
    pictures = [_among(foremost[view].numpy(), speakers, num_gaussians) for view in views.order]
    parents, best = _bordered(sets, fits, masks, pictures)
    rests = _rests(parents, best, masks)
    progress("Putting Gaussians into the tree")
    parts = [(0, num_gaussians, masks)] if speakers is None else _in_parts(views, num_gaussians)
    parents, nodes, confidence = _settled(parents, best, rests, parts, num_gaussians)
    spoken = nodes if speakers is None else nodes[speakers]
    final = masks.fits(node_sets(parents, spoken))
    return Tree(
        torch.from_numpy(parents),
        torch.from_numpy(nodes),
        torch.from_numpy(
            np.concatenate([[0], evidence(masks.best(final.table), final.sizes, masks.least)[0]]).astype(np.float32)
        ),
        torch.from_numpy(confidence),
        torch.from_numpy(balanced_cut(parents, spoken, masks)),
    )


def _speakers(votes: VoteStore, num_gaussians: int) -> np.ndarray | None:
    """The Gaussians that the tree is found with: [G] rising, or None for all."""
    if num_gaussians <= SPEAKERS:
        return None
    total = np.zeros(num_gaussians)
    for view in votes:
        np.add.at(total, view.gaussians.numpy(), view.weights.double().numpy())
    return np.sort(np.argsort(-total, kind="stable")[:SPEAKERS])


def _among(picture: np.ndarray, speakers: np.ndarray | None, num_gaussians: int) -> np.ndarray:
    """A picture of Gaussians by their places among the speakers; -1 for others."""
    if speakers is None:
        return picture
    place = np.full(num_gaussians + 1, -1)
    place[speakers] = np.arange(len(speakers))
    return place[picture]


def _in_parts(views: AskedViews, num_gaussians: int) -> Iterator[tuple[int, int, MaskSets]]:
    """What the views say of all Gaussians, some at a time: the first, the one after the last, and their masks."""
    for first in range(0, num_gaussians, GAUSSIANS):
        last = min(first + GAUSSIANS, num_gaussians)
        yield first, last, views.sets(first, last)


def _bordered(
    sets: sparse.csr_matrix, fits: Fits, masks: MaskSets, pictures: Sequence[np.ndarray]
) -> tuple[np.ndarray, BestMasks]:
    """Nest the sets; take out those whose border no mask follows, those that hardly show, and pieces of other trees.

    Returns:
        parents [n + 1], and the masks of each.
    """
    for turn in range(TURNS + 1):
        order, parents = nest(sets, masks.weight)
        sets, fits = sets[order], fits.of(order)
        best = masks.best(fits.table)
        if turn == TURNS or len(parents) == 1:
            break
        nodes = descend(parents, masks.shares(best))
        last = np.array(last_below(parents.tolist()))
        own = masks.best(_exclusive(fits.table))
        followed = followed_borders(parents, last, nodes, own, masks, pictures)
        left = node_sets(parents, nodes)
        amount = np.concatenate([[0], left @ masks.weight])
        kept = (parents == 0) | ((followed >= FOLLOWED) & (amount <= ALL * amount[parents]))
        sizes = np.asarray((left @ masks.views_of).todense())
        kept[1:] &= visible(sizes, masks.least)
        kept &= _stands_alone(parents, left, Fits(sizes, fits.table), masks)
        if kept.all():
            break
        those = np.flatnonzero(kept[1:])
        sets, fits = sets[those], fits.of(those)
    return parents, best


def _stands_alone(parents: np.ndarray, left: sparse.csr_matrix, fits: Fits, masks: MaskSets) -> np.ndarray:
    """Which nodes are no piece of another tree: bool [n + 1].

    A root that more views show within a mask of another tree than have a mask of it is a piece of that, cut off by
    errors: what lies within something else belongs below it, and there it is not. Views without a word, or that show
    less than the smallest masks have, say neither.

    Args:
        parents: [n + 1] of the nodes 1..n in pre-order, 0 = none.
        left: [n, G] the Gaussians of each node, those below it among them.
        fits: the sizes of these, and how well masks fit the nodes.
        masks: of all views.
    """
    root = np.arange(len(parents))
    for node in range(1, len(parents)):
        root[node] = root[parents[node]] if parents[node] else node
    owner = owners(_exclusive(fits.table)) + 1
    held = masks.covering(left).tocoo()
    elsewhere = (owner[held.col] > 0) & (root[owner[held.col]] != root[held.row + 1])
    within = np.zeros(fits.sizes.shape, bool)
    within[held.row[elsewhere], masks.view_of[held.col[elsewhere]]] = True
    weight = sees(fits.sizes) * (fits.sizes >= masks.least)
    own = masks.best(fits.table).fit > FITS
    alone = (weight * own).sum(axis=1) >= (weight * within).sum(axis=1)
    return (parents > 0) | np.concatenate([[True], alone])


def _exclusive(fits: sparse.csr_matrix) -> sparse.csr_matrix:
    """Each mask for its owner alone."""
    table = fits.tocoo()
    kept = owners(fits)[table.col] == table.row
    return sparse.csr_matrix((table.data[kept], (table.row[kept], table.col[kept])), shape=fits.shape)


def _rests(parents: np.ndarray, best: BestMasks, masks: MaskSets) -> np.ndarray:
    """Which nodes keep what is in none of their children, as a leaf: bool [n + 1].

    If masks show the rest, or if the children together are another set than the node; and if views show it at all.
    """
    nodes = descend(parents, masks.shares(best))
    whole = np.concatenate([[0], node_sets(parents, nodes) @ masks.weight])
    rows = sparse.csr_matrix(
        (np.ones((nodes > 0).sum(), np.float32), (nodes[nodes > 0] - 1, np.flatnonzero(nodes))),
        shape=(len(parents) - 1, len(nodes)),
    )
    fits = masks.fits(rows)
    share, views = evidence(masks.best(fits.table), fits.sizes, masks.least)
    large = np.asarray(rows @ masks.weight).ravel() > (1 - ALL) * whole[1:]
    inner = np.isin(np.arange(len(parents)), parents)
    shown = large | ((share >= SUPPORT) & (views >= VIEWS))
    return inner & np.concatenate([[False], shown & visible(fits.sizes, masks.least)])


def _settled(
    parents: np.ndarray,
    best: BestMasks,
    rests: np.ndarray,
    parts: Iterable[tuple[int, int, MaskSets]],
    num_gaussians: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put all Gaussians into the tree: parents with a leaf for each rest, the node of each Gaussian, and how surely."""
    nodes = np.zeros(num_gaussians, np.int64)
    confidence = np.zeros(num_gaussians, np.float32)
    amount = np.zeros(len(parents))
    for first, last, masks in parts:
        shares = masks.shares(best)
        found = descend(parents, shares, rests)
        nodes[first:last] = found
        row = np.repeat(np.arange(1, len(parents)), np.diff(shares.indptr))
        mine = row == found[shares.indices]
        confidence[first + shares.indices[mine]] = shares.data[mine]
        amount += np.bincount(found, masks.weight, len(parents))
    above = parents[1:] - 1
    leaves = np.flatnonzero(rests & (amount > 0))  # nodes whose rest becomes a leaf
    whole = amount.copy()
    for node in range(len(parents) - 1, 0, -1):
        whole[parents[node]] += whole[node]
    order, renumbered = pre_order(
        np.concatenate([above, leaves - 1]), np.concatenate([whole[1:], np.minimum(amount[leaves], 0)])
    )
    place = np.zeros(len(order) + 1, np.int64)
    place[order + 1] = np.arange(1, len(order) + 1)
    final = place[: len(parents)]
    final[leaves] = place[len(parents) :]
    return renumbered, final[nodes], confidence
