"""Sets of Gaussians that may be things: seeded by every mask, settled by what the views' best masks say of them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from gseg_ns.lifting.tree.kernels import best_agreements, first_of_each, shared_views
from gseg_ns.lifting.tree.masks import FAINT, FITS, NOISE, VIEWS, BestMasks, Fits, MaskSets, evidence

SAME = 0.93
"""IoU from which two sets are one."""

ROUNDS = 3
"""How often a set is asked anew which masks fit it, and voted by them."""

LITTLE = 0.05
"""Share of evidence below which a candidate is not worth a round: far below what a node needs."""

ALIKE = 0.8
"""A mask that fits another by this IoU, on what both views see, is no seed beside it: rounds would lead both to one
set."""

PARTNERS = 64
"""Views that a mask is compared with, those that see most of what its view sees: work grows with the number of views
and not with its square."""


def find_candidates(masks: MaskSets) -> tuple[sparse.csr_matrix, Fits]:
    """Find sets of Gaussians that masks of several views agree on, of all sizes; they overlap.

    Returns:
        [C, G] float32 of 0 and 1, and how well masks fit them.
    """
    best = agreeing_masks(masks)
    support = (best.fit > FITS).sum(axis=1)
    kept = _seeds(best, support)
    sets = masks.voted(BestMasks(best.mask[kept], best.fit[kept]))
    sets = sets[distinct(sets, support[kept].astype(float), masks.weight)]
    fits = masks.fits(sets)
    for _ in range(ROUNDS):
        sets = masks.voted(masks.best(fits.table))
        fits = masks.fits(sets)
        share, views = evidence(masks.best(fits.table), fits.sizes, masks.least)
        chosen = distinct(sets, share, masks.weight)
        chosen = chosen[(views[chosen] >= VIEWS) & (share[chosen] > LITTLE)]
        sets, fits = sets[chosen], fits.of(chosen)
    return sets, fits


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
    views = np.arange(masks.num_views + 1)
    first_cells, first_masks = (np.searchsorted(numbers, views) for numbers in (masks.view_of_cell, masks.view_of))
    seen, roots = masks.seen, np.sqrt(masks.seen.data)
    together = np.zeros((masks.num_views, masks.num_views))
    shared_views(first_cells, seen.indptr, seen.indices, roots, seen.shape[1], together)
    partners = np.argsort(-together, axis=1, kind="stable")[:, :PARTNERS]
    partners = np.sort(np.where(np.take_along_axis(together, partners, axis=1) > 0, partners, -1), axis=1)
    shape = (len(masks.view_of), masks.num_views)
    shown, best, fit = np.zeros(shape, np.float32), np.zeros(shape, np.int64), np.full(shape, -1, np.float32)
    best_agreements(
        first_cells, first_masks, seen.indptr, seen.indices, roots, masks.covers.indptr, masks.covers.indices, partners,
        seen.shape[1], shown, best, fit,
    )  # fmt: skip
    fit[shown < FAINT * masks.area[:, None]] = -1
    every = np.arange(len(best))
    best[every, masks.view_of], fit[every, masks.view_of] = every, 1
    return BestMasks(best, fit)


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
    by_gaussian = sets.tocsc()
    kept = np.ones(len(order), bool)
    first_of_each(
        sets.indptr, sets.indices, by_gaussian.indptr, by_gaussian.indices, weight, size, np.float32(SAME), kept
    )
    return order[kept]
