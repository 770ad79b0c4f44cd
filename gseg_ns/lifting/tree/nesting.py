"""Sets that are nested or apart as a tree, and the way of each Gaussian down it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from gseg_ns.lifting.tree.choice import overlaps


def nest(sets: sparse.csr_matrix, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put sets into pre-order; the parent of a set is the smallest larger one that holds most of it.

    Args:
        sets: [n, G] of 0 and 1.
        weight: [G], pixels of each Gaussian.

    Returns:
        the sets in pre-order [n], and the parents [n + 1] of the nodes 1..n that they are then.
    """
    common, own = overlaps(sets, weight)
    common = common.tocsr()
    above = np.full(len(own), -1)
    for child in range(len(own)):
        entries = slice(common.indptr[child], common.indptr[child + 1])
        others, shared = common.indices[entries], common.data[entries]
        holds = (own[others] > own[child]) & (shared > 0.5 * own[child])
        if holds.any():
            above[child] = min(others[holds].tolist(), key=lambda other: (own[other], other))
    return pre_order(above, own)


def pre_order(above: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number a forest: the larger root, and of each node the larger child, comes first.

    Args:
        above: [n] the parent of each, -1 for roots.
        size: [n].

    Returns:
        which comes where [n], and the parents [n + 1] of the nodes 1..n in that order, 0 = none.
    """
    children: dict[int, list[int]] = {}
    for child in np.lexsort((np.arange(len(above)), -size)).tolist():
        children.setdefault(int(above[child]), []).append(child)
    order: list[int] = []
    stack = children.get(-1, [])[::-1]
    while stack:
        node = stack.pop()
        order.append(node)
        stack += children.get(node, [])[::-1]
    place = np.zeros(len(above) + 1, np.int64)
    place[order] = np.arange(1, len(order) + 1)
    parents = np.concatenate([[0], place[above[order]]])  # above = -1 is the last entry, which is 0
    return np.array(order, dtype=np.int64), parents


def depths(parents: np.ndarray) -> np.ndarray:
    """Nodes above and including each: [n + 1]; 0 for none."""
    found = np.zeros(len(parents), np.int64)
    for node in range(1, len(parents)):
        found[node] = found[parents[node]] + 1
    return found


def node_sets(parents: np.ndarray, nodes: np.ndarray) -> sparse.csr_matrix:
    """The Gaussians of each node and of all below it: [n, G] of 0 and 1."""
    gaussians = np.flatnonzero(nodes)
    here = nodes[gaussians]
    rows, columns = [], []
    while len(here):
        rows.append(here - 1)
        columns.append(gaussians)
        here = parents[here]
        gaussians, here = gaussians[here > 0], here[here > 0]
    row = np.concatenate([np.zeros(0, np.int64), *rows])
    column = np.concatenate([np.zeros(0, np.int64), *columns])
    return sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(len(parents) - 1, len(nodes)))


def descend(parents: np.ndarray, shares: sparse.csr_matrix, rests: np.ndarray | None = None) -> np.ndarray:
    """Let each Gaussian go down the tree, to the child with the majority of its votes.

    Args:
        parents: [n + 1] of the nodes 1..n in pre-order.
        shares: [n, G] how much of each Gaussian lies in the masks of each node.
        rests: bool [n + 1], the nodes that keep what is in no child of theirs; what others have is shared out among
            their children, by the most votes. None: all keep it.

    Returns:
        [G] the node where each Gaussian ends; 0 = none.
    """
    table = shares.tocoo()
    rising = np.lexsort((-table.row, table.data))
    row, gaussian, value = table.row[rising] + 1, table.col[rising], table.data[rising]
    count = len(parents) - 1
    depth = depths(parents)
    level = depth[row]
    found = np.zeros(shares.shape[1], np.int64)
    sizes = np.bincount(row, value, count + 1)
    largest = np.zeros(count + 1, np.int64)  # the child with most votes of all
    for node in np.lexsort((-np.arange(1, count + 1), sizes[1:])) + 1 if count else ():
        largest[parents[node]] = node
    keeps = np.ones(count + 1, bool) if rests is None else rests | (largest == 0)
    keeps[0] = True
    for turn in range(1, int(depth.max(initial=0)) + 1):
        at = level == turn
        here, mine, votes = row[at], gaussian[at], value[at]
        follows = found[mine] == parents[here]
        majority = follows & (votes > 0.5)
        goes = np.zeros(len(found), np.int64)
        goes[mine[follows]] = here[follows]  # later writes win: the most votes
        sure = np.zeros(len(found), bool)
        sure[mine[majority]] = True
        pushed = ~sure & ~keeps[found] & (depth[found] == turn - 1)
        fallback = pushed & (goes == 0)
        goes[fallback] = largest[found[fallback]]
        moves = sure | pushed
        found[moves] = goes[moves]
    return found
