"""Whether a node is a thing or a piece: its own masks must follow its border with the rest of its parent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sparse

from gseg_ns.lifting.tree.masks import FAINT, FITS, BestMasks, MaskSets

APART = 3
"""Pixels between the two sides of a border, so that a ragged border of a mask is still followed."""

WIDTH = 512
"""Pictures of the foremost Gaussians are about this wide at most: enough to see which borders there are."""


def followed_borders(
    parents: np.ndarray,
    last: np.ndarray,
    nodes: np.ndarray,
    best: BestMasks,
    masks: MaskSets,
    foremost: Sequence[np.ndarray],
) -> np.ndarray:
    """How much of the border in the images between a node and the rest of its parent the node's masks follow.

    What masks single out only where something in front of it, or its own far side, cuts it off is not a part: pieces of
    floor between the legs of a chair. Of pairs of pixels on both sides of the border one must be in the mask and the
    other not.

    Args:
        parents: [n + 1] of the nodes 1..n in pre-order, 0 = none.
        last: [n + 1] the last node below each.
        nodes: [G] the deepest node of each Gaussian, 0 = none.
        best: the mask of each view that is each node's own, [n, V].
        masks: of all views.
        foremost: for each view of `masks`, the foremost Gaussian of each pixel [h, w], -1 where nothing is drawn.

    Returns:
        [n + 1] share; 1 for roots, which have no border of this kind, and 0 for the place of no node.
    """
    count = len(parents) - 1
    children: dict[int, list[int]] = {}
    for node in range(1, count + 1):
        children.setdefault(int(parents[node]), []).append(node)
    contact = np.zeros((count + 1, len(foremost)), np.float32)
    follows = np.zeros((count + 1, len(foremost)), np.float32)
    for view, picture in enumerate(foremost):
        first, second = _pairs(picture)
        one, other = nodes[first], nodes[second]
        kept = (one != other) & (one > 0) & (other > 0)
        first, second, one, other = first[kept], second[kept], one[kept], other[kept]
        first, second = np.concatenate([first, second]), np.concatenate([second, first])
        one, other = np.concatenate([one, other]), np.concatenate([other, one])
        by_node = np.argsort(one, kind="stable")  # a node and all below it are neighbours in this order
        first, second, one, other = first[by_node], second[by_node], one[by_node], other[by_node]
        for parent, below in children.items():
            if parent == 0:
                continue
            for node in below:
                span = slice(*np.searchsorted(one, [node, last[node] + 1]))
                outside = (other[span] >= parent) & (other[span] <= last[parent])
                outside &= (other[span] < node) | (other[span] > last[node])
                contact[node, view] = outside.sum()
                if contact[node, view] and best.fit[node - 1, view] > FITS:
                    inside = _contains(masks.sets, best.mask[node - 1, view])
                    a, b = inside(first[span][outside]), inside(second[span][outside])
                    follows[node, view] = (a & ~b).mean()
    weight = contact / (contact + FAINT * contact.max(axis=1, keepdims=True, initial=0) + 1e-6)
    weight[1:] *= best.fit > FITS
    share = (weight * follows).sum(axis=1) / (weight.sum(axis=1) + 1)
    share[parents == 0] = 1
    share[0] = 0
    return share


def _pairs(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians of pixels that lie `APART` pixels from each other, across and down."""
    left, right = picture[:, :-APART].ravel(), picture[:, APART:].ravel()
    up, down = picture[:-APART].ravel(), picture[APART:].ravel()
    first, second = np.concatenate([left, up]), np.concatenate([right, down])
    drawn = (first >= 0) & (second >= 0)
    return first[drawn], second[drawn]


def _contains(sets: sparse.csr_matrix, row: int):  # type: ignore[no-untyped-def]
    members = np.sort(sets.indices[sets.indptr[row] : sets.indptr[row + 1]])

    def inside(gaussians: np.ndarray) -> np.ndarray:
        if len(members) == 0:
            return np.zeros(len(gaussians), bool)
        return members[np.minimum(np.searchsorted(members, gaussians), len(members) - 1)] == gaussians

    return inside
