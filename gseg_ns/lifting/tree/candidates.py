"""Sets of Gaussians that may be things: seeded by every mask, settled by what the views' best masks say of them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from gseg_ns.lifting.tree.kernels import common_with
from gseg_ns.lifting.tree.masks import FAINT, FITS, NOISE, BestMasks, MaskSets, evidence

SAME = 0.93
"""IoU from which two sets are one."""

ROUNDS = 3
"""How often a set is asked anew which masks fit it, and voted by them."""

VIEWS = 3
"""A set needs a mask in so many views: two may agree by chance, or by one error of a neighbouring view."""

LITTLE = 0.05
"""Share of evidence below which a candidate is not worth a round: far below what a node needs."""

ALIKE = 0.8
"""A mask that fits another by this IoU, on what both views see, is no seed beside it: rounds would lead both to one
set."""

PARTNERS = 64
"""Views that a mask is compared with, those that see most of what its view sees: work grows with the number of views
and not with its square."""


def find_candidates(masks: MaskSets) -> sparse.csr_matrix:
    """Find sets of Gaussians that masks of several views agree on, of all sizes; they overlap.

    Returns:
        [C, G] float32 of 0 and 1.
    """
    best = agreeing_masks(masks)
    support = (best.fit > FITS).sum(axis=1)
    kept = _seeds(best, support)
    sets = masks.voted(BestMasks(best.mask[kept], best.fit[kept]))
    sets = sets[distinct(sets, support[kept].astype(float), masks.weight)]
    for _ in range(ROUNDS):
        sets = masks.voted(masks.best(masks.fits(sets, masks.sizes(sets))))
        sizes = masks.sizes(sets)
        share, views = evidence(masks.best(masks.fits(sets, sizes)), sizes)
        chosen = distinct(sets, share, masks.weight)
        sets = sets[chosen[(views[chosen] >= VIEWS) & (share[chosen] > LITTLE)]]
    return sets


def _seeds(best: BestMasks, support: np.ndarray) -> np.ndarray:
    """The masks that candidates are begun with, bool [M]: of masks alike the one that most views agree with."""
    kept = np.zeros(len(support), bool)
    spoken_for = np.zeros(len(support), bool)
    for mask in np.argsort(-support, kind="stable"):
        if support[mask] < VIEWS:
            break
        if not spoken_for[mask]:
            kept[mask] = True
            spoken_for[best.mask[mask][best.fit[mask] > ALIKE]] = True
    return kept


def agreeing_masks(masks: MaskSets) -> BestMasks:
    """For each mask, the mask of other views that agrees with it best on the Gaussians that both views see.

    A Gaussian counts by the geometric mean of what the two views show of it. Views that see next to nothing of a mask
    have no say about it.

    Returns:
        [M, V] each.
    """
    rows = masks.sets.copy()
    rows.data = np.sqrt(rows.data)
    seen = masks.seen.copy()
    seen.data = np.sqrt(seen.data)
    shown = np.asarray((rows @ seen.T).todense(), dtype=np.float32)  # [M, V] what a view sees of a mask
    starts = np.searchsorted(masks.view_of, np.arange(masks.num_views + 1))
    by_gaussian = rows.tocsc()
    by_gaussian.sort_indices()
    begins = _view_begins(by_gaussian, masks)
    best, fit = np.zeros(shown.shape, np.int64), np.full(shown.shape, -1, np.float32)
    column_of = np.zeros(len(masks.view_of), np.int64)
    for view in range(masks.num_views):
        own = slice(starts[view], starts[view + 1])
        if own.start == own.stop:
            continue
        partners = np.argsort(-shown[own].sum(axis=0), kind="stable")[: PARTNERS + 1]
        partners = np.sort(partners[(starts[partners + 1] > starts[partners]) & (partners != view)])
        columns = np.concatenate([np.arange(0), *(np.arange(starts[v], starts[v + 1]) for v in partners.tolist())])
        column_of[columns] = np.arange(len(columns))
        mine = rows[own]
        common = np.zeros((mine.shape[0], len(columns)), np.float32)
        common_with(
            mine.indptr, mine.indices, mine.data, partners, begins, by_gaussian.indices, by_gaussian.data, column_of,
            common,
        )  # fmt: skip
        union = shown[own][:, masks.view_of[columns]] + shown[columns, view][None] - common
        iou = common / np.maximum(union, 1e-6)
        at = 0
        for other in partners.tolist():
            width = starts[other + 1] - starts[other]
            here = iou[:, at : at + width]
            top = here.argmax(axis=1)
            best[own, other], fit[own, other] = starts[other] + top, here[np.arange(len(top)), top]
            at += width
    fit[shown < FAINT * masks.area[:, None]] = -1
    every = np.arange(len(best))
    best[every, masks.view_of], fit[every, masks.view_of] = every, 1
    return BestMasks(best, fit)


def _view_begins(by_gaussian: sparse.csc_matrix, masks: MaskSets) -> np.ndarray:
    """Where the entries of each view begin in the list of each Gaussian's masks: [V + 1, G] int32."""
    column = np.repeat(np.arange(by_gaussian.shape[1]), np.diff(by_gaussian.indptr))
    counts = np.zeros((masks.num_views + 1, by_gaussian.shape[1]), np.int32)
    np.add.at(counts, (masks.view_of[by_gaussian.indices] + 1, column), 1)
    return np.cumsum(counts, axis=0, dtype=np.int32) + by_gaussian.indptr[:-1].astype(np.int32)[None]


def distinct(sets: sparse.csr_matrix, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Of sets that are nearly one, keep the best; of those that are as good but for noise, the largest.

    The largest, since what a set leaves over of a larger one is a set, too.

    Args:
        sets: [C, G] of 0 and 1.
        score: [C], larger is better.
        weight: [G], pixels of each Gaussian.

    Returns:
        those that are kept, best first.
    """
    size = np.asarray(sets @ weight).ravel()
    order = np.lexsort((-size, -np.floor(score / (NOISE * max(score.max(initial=0), 1e-12)))))
    order = order[size[order] > 0]
    sets, size = sets[order], size[order]
    weighted = (sets @ sparse.diags(weight)).T.tocsr()
    left = np.ones(len(order), bool)
    kept = []
    for index in range(len(order)):
        if not left[index]:
            continue
        kept.append(order[index])
        common = (sets[index] @ weighted).tocoo()
        iou = common.data / np.maximum(size[common.col] + size[index] - common.data, 1e-6)
        left[common.col[iou > SAME]] = False
    return np.array(kept, dtype=np.int64)
