"""Whether a node is a thing or a piece: its own masks must follow its border with the rest of its parent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gseg_ns.lifting.tree.kernels import border_pairs
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
    shape = (len(parents), len(foremost))
    contact, follows = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    own = np.concatenate([np.full((1, len(foremost)), -1), np.where(best.fit > FITS, best.mask, -1)])
    for view, picture in enumerate(foremost):
        pairs, followed = np.zeros(len(parents), np.int64), np.zeros(len(parents), np.int64)
        border_pairs(
            picture, APART, nodes, parents, last, masks.cell_at(view), masks.covers.indptr, masks.covers.indices,
            own[:, view].copy(), pairs, followed,
        )  # fmt: skip
        contact[:, view], follows[:, view] = pairs, followed / np.maximum(pairs, 1)
    weight = contact / (contact + FAINT * contact.max(axis=1, keepdims=True, initial=0) + 1e-6)
    weight[1:] *= best.fit > FITS
    share = (weight * follows).sum(axis=1) / (weight.sum(axis=1) + 1)
    share[parents == 0] = 1
    share[0] = 0
    return share
