"""Which candidates are things: greedily, by what a set explains better than all that are chosen already."""

from __future__ import annotations

import heapq

import numpy as np
import scipy.sparse as sparse

from gseg_ns.lifting.tree.masks import FITS, NOISE, Fits, MaskSets, audience

SUPPORT = 0.2
"""Share of the views that see a set that must have a mask for it: as `ConsensusOptions.support`."""

APART = 0.3
"""Sets that share less than this part of the smaller one are apart, and nested if they share all but less; those in
between contradict each other."""


def choose(sets: sparse.csr_matrix, fitting: Fits, masks: MaskSets) -> np.ndarray:
    """Choose sets that are nested or apart.

    A mask counts for a set, by its IoU, if it fits it better by `NOISE` than every set chosen before. The set with the
    largest share of views that have such a mask comes next.

    Args:
        sets: [C, G] of 0 and 1, see `find_candidates`.
        fitting: `MaskSets.fits` of them.
        masks: of all views.

    Returns:
        the chosen sets, in their order.
    """
    fits = fitting.table
    weight = audience(fitting.sizes, masks.best(fits).fit > FITS, masks.least)
    contradicts = _contradictions(sets, masks.weight)
    explained = np.zeros(len(masks.view_of), np.float32)

    def gain(index: int) -> float:
        entries = slice(fits.indptr[index], fits.indptr[index + 1])
        columns, values = fits.indices[entries], fits.data[entries]
        counts = (values > FITS) & (values > explained[columns] + NOISE)
        by_view = np.zeros(masks.num_views, np.float32)
        np.maximum.at(by_view, masks.view_of[columns[counts]], values[counts])
        return float(by_view @ weight[index]) / float(weight[index].sum() + 1)

    # A gain only falls while others are chosen, so that a set whose gain is still the largest when asked anew is next.
    left = np.ones(sets.shape[0], bool)
    heap = [(-gain(index), index) for index in range(sets.shape[0])]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap:
        promised, index = heapq.heappop(heap)
        if not left[index] or -promised < SUPPORT:
            continue
        now = gain(index)
        if heap and (-now, index) > heap[0]:
            heapq.heappush(heap, (-now, index))
            continue
        if now < SUPPORT:
            continue
        chosen.append(index)
        entries = slice(fits.indptr[index], fits.indptr[index + 1])
        columns = fits.indices[entries]
        explained[columns] = np.maximum(explained[columns], fits.data[entries])
        left[contradicts.indices[contradicts.indptr[index] : contradicts.indptr[index + 1]]] = False
    return np.array(chosen, dtype=np.int64)


def overlaps(sets: sparse.csr_matrix, weight: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Pixels that two sets share, sparse [C, C], and those of each [C]."""
    common = ((sets @ sparse.diags(weight)) @ sets.T).tocsr()
    return common, common.diagonal()


def _contradictions(sets: sparse.csr_matrix, weight: np.ndarray) -> sparse.csr_matrix:
    common, own = overlaps(sets, weight)
    table = common.tocoo()
    part = table.data / np.maximum(np.minimum(own[table.row], own[table.col]), 1e-6)
    between = (part > APART) & (part < 1 - APART)
    return sparse.csr_matrix((np.ones(between.sum()), (table.row[between], table.col[between])), shape=common.shape)
