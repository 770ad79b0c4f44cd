"""Where a tree is cut when nobody says: no level of SAM has more masks than another, so the middle of the stack is the
only level that masks can name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse

from gseg_ns.lifting.tree.masks import FITS, MaskSets, owners, sees
from gseg_ns.lifting.tree.nesting import node_sets

ALL = 0.9
"""A view in which a node is nearly all that shows of its parent says nothing of the node: its mask is the parent's."""

CHANCE = 2.0
"""Standard errors by which shares of views may differ by chance."""

MOST = 0.5
"""Share of views from which a level is one that the segmenter knows: most views show it."""


def balanced_cut(parents: np.ndarray, nodes: np.ndarray, masks: MaskSets) -> np.ndarray:
    """Cut each path where as many views have a mask of something larger as have one of something smaller.

    The sum of |above - below| over all that the views see is the least possible (dynamic programme over the tree).

    Where only two of three levels were found, that is a toss: masks of all levels are equally frequent, and none says
    whether the third is missing above or below. A stack of three, each of which most views show, tells that there are
    groups. Where the whole scene has none, masks know things and their parts: then differences that may be chance do
    not count, and of what is equal the larger is the object.

    Args:
        parents: [n + 1] of the nodes 1..n in pre-order, 0 = none.
        nodes: [G] the deepest node of each Gaussian.
        masks: of all views.

    Returns:
        bool [n + 1], the nodes of the cut.
    """
    count = len(parents) - 1
    sizes, table = masks.fits(node_sets(parents, nodes))
    fits = table.tocoo()
    telling = np.ones(sizes.shape, bool)
    below = parents[1:] > 0
    telling[below] = sizes[below] <= ALL * sizes[parents[1:][below] - 1]
    told = telling[fits.row, masks.view_of[fits.col]] & (fits.data > FITS)
    row, column, value = fits.row[told], fits.col[told], fits.data[told]
    owner = owners(sparse.csr_matrix((value, (row, column)), shape=fits.shape))
    shown = np.zeros(sizes.shape, bool)
    owned = owner >= 0
    shown[owner[owned], masks.view_of[owned]] = True
    audience = sees(sizes)
    mass = np.bincount(nodes, masks.weight, count + 1)

    def share(node: int, those: list[int]) -> float:
        if not those:
            return 0.0
        heard = shown[np.array(those) - 1].any(axis=0)
        return float(audience[node - 1] @ heard) / float(audience[node - 1].sum() + 1)

    paths = {node: _path(parents, node) for node in range(1, count + 1) if mass[node] > 0}
    tolerance = 0.0 if any(_levels(share, path) > 2 for path in paths.values()) else CHANCE
    cost = np.zeros(count + 1)
    apart = np.zeros(count + 1)  # what a node's own Gaussians cost if they are cut off from all that is below it
    for node, path in paths.items():
        above_, below_ = (
            np.array([share(node, those) for those in sides])
            for sides in zip(*((path[place + 1 :], path[:place]) for place in range(len(path))), strict=True)
        )
        imbalance = np.abs(below_ - above_)
        variance = (below_ * (1 - below_) + above_ * (1 - above_)) / (audience[node - 1].sum() + 1)
        best = int(imbalance.argmin())
        regret = imbalance - imbalance[best] - tolerance * np.sqrt(variance + variance[best])
        for place, at in enumerate(path):
            cost[at] += mass[node] * max(float(regret[place]), 0.0)
        apart[node] = mass[node] * max(float(regret[0]), 0.0)
    least = np.zeros(count + 1)
    whole = np.zeros(count + 1, bool)
    split = apart.copy()
    inner_node = np.zeros(count + 1, bool)
    for node in range(count, 0, -1):  # children come before their parents
        whole[node] = not inner_node[node] or cost[node] <= split[node]
        least[node] = cost[node] if whole[node] else split[node]
        split[parents[node]] += least[node]
        inner_node[parents[node]] = True
    cut = np.zeros(count + 1, bool)
    open_ = np.zeros(count + 1, bool)
    open_[0] = True
    for node in range(1, count + 1):
        if open_[parents[node]]:
            cut[node] = whole[node] or mass[node] > 0
            open_[node] = not whole[node]
    return cut


def _path(parents: np.ndarray, node: int) -> list[int]:
    """The node and all above it, up to the root."""
    path = [node]
    while parents[path[-1]] > 0:
        path.append(int(parents[path[-1]]))
    return path


def _levels(share: Callable[[int, list[int]], float], path: list[int]) -> int:
    """How many nodes of a path most views show."""
    return sum(share(path[0], [node]) > MOST for node in path)
