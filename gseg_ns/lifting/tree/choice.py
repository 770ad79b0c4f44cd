"""Which candidates are things: greedily, by what a set explains better than all that are chosen already."""

from __future__ import annotations

import heapq

import numpy as np
import scipy.sparse as sparse

from gseg_ns.lifting.tree.masks import FITS, NOISE, Fits, MaskSets, audience, owners, sees

SUPPORT = 0.2
"""Share of the views that see a set that must have a mask for it: as `ConsensusOptions.support`."""

APART = 0.3
"""Sets that share less than this part of the smaller one are apart, and nested if they share all but less; those in
between contradict each other."""

MOST = 0.5
"""Share of the views that show a set, in whose masks of another one it must lie to belong to that."""


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


def take_in(sets: sparse.csr_matrix, fitting: Fits, masks: MaskSets) -> tuple[sparse.csr_matrix, Fits]:
    """Give a chosen set the small ones beside it that its own masks cover in most views: a mug its handle.

    With and without them it is nearly one set, so that of a mug and its body one candidate is left, and masks fit both
    alike but for noise. Which of the two was chosen is chance; that most views have a mask of both together is not.
    What the small ones leave is a leaf of its own.

    Args:
        sets: [n, G] of 0 and 1, nested or apart.
        fitting: `MaskSets.fits` of them.
        masks: of all views.

    Returns:
        the sets in their order, and how well masks fit them.
    """
    count = sets.shape[0]
    owner = owners(fitting.table.multiply(fitting.table > FITS).tocsr())
    covering = masks.covering(sets)
    row, mask = covering.nonzero()
    told = owner[mask] >= 0
    small, large, view = row[told], owner[mask[told]], masks.view_of[mask[told]]
    # A view says it once, whatever number of masks it says it with.
    small, large, view = np.unique(np.stack([small, large, view]), axis=1)
    shows = fitting.sizes >= masks.least
    weight = sees(fitting.sizes) * shows
    share = sparse.csr_matrix((weight[small, view], (small, large)), shape=(count, count)).toarray()
    belongs = share >= MOST * (weight.sum(axis=1, keepdims=True) + 1)
    common, own = overlaps(sets, masks.weight)
    nested = common.tocoo()
    within = nested.data > 0.5 * np.minimum(own[nested.row], own[nested.col])
    belongs[nested.row[within], nested.col[within]] = False
    belongs &= own[:, None] < own
    grown = np.flatnonzero(belongs.any(axis=0))
    if len(grown) == 0:
        return sets, fitting
    joined = (sets + sparse.csr_matrix(belongs.T.astype(np.float32)) @ sets).tocsr()
    joined.data[:] = 1
    joined.sort_indices()
    new = masks.fits(joined[grown])
    # A mask without the handle, in a view that shows it, is the body's.
    bodies = np.stack(
        [
            (shows[parts][:, masks.view_of] & (covering[parts].toarray() == 0)).any(axis=0)
            for parts in (belongs[:, thing] for thing in grown)
        ]
    )
    sizes, table = fitting.sizes.copy(), fitting.table.tolil()
    sizes[grown], table[grown] = new.sizes, new.table.multiply(~bodies).tolil()
    table = table.tocsr()
    table.eliminate_zeros()
    return joined, Fits(sizes, table)


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
