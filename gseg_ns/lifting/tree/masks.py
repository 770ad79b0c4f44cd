"""Masks as sets of whole Gaussians, and how well sets agree with them: sparse tables, nothing is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
from torch import Tensor

from gseg_ns.lifting.tree.kernels import heard_at
from gseg_ns.lifting.votes import VoteStore

FITS = 0.5
"""IoU from which a mask speaks of a set: two sets without a common Gaussian cannot both exceed it for one mask."""

FAINT = 0.1
"""A view has half its weight for a set when it shows this part of what the best view shows."""

NOISE = 0.05
"""Misfit that is put down to ragged masks."""

BLOCK = 256
"""Rows of a product of sparse matrices at a time."""


class BestMasks(NamedTuple):
    """For each set, the mask of each view that fits it best."""

    mask: np.ndarray  # [C, V] int64
    fit: np.ndarray  # [C, V] float32, its IoU; -1 where the view has none that fits at all


@dataclass(frozen=True)
class MaskSets:
    """The masks of all views as sets of Gaussians: in a view a Gaussian lies in a mask with all that shows, or not.

    Soft contributions would lose small things: a thin handle is composited with what is behind it. See `AskedViews`.
    """

    sets: sparse.csr_matrix
    """[M, G] float32, the pixels of a Gaussian of a mask in the mask's view."""
    seen: sparse.csr_matrix
    """[V, G] float32, the pixels of each Gaussian in each view, in masks or not."""
    view_of: np.ndarray
    """[M] int64, rising: the view of each mask, by its place in the order of `AskedViews`."""

    @property
    def num_views(self) -> int:
        """V."""
        return self.seen.shape[0]

    @cached_property
    def area(self) -> np.ndarray:
        """[M] float32, pixels of each mask's Gaussians."""
        return np.asarray(self.sets.sum(axis=1), dtype=np.float32).ravel()

    @cached_property
    def weight(self) -> np.ndarray:
        """[G] float32, pixels of each Gaussian in all views."""
        return np.asarray(self.seen.sum(axis=0), dtype=np.float32).ravel()

    @cached_property
    def _transposed(self) -> sparse.csr_matrix:
        return self.sets.T.tocsr()

    @cached_property
    def _seen_by_gaussian(self) -> sparse.csc_matrix:
        return self.seen.tocsc()

    def sizes(self, sets: sparse.csr_matrix) -> np.ndarray:
        """Pixels of sets [C, G] of 0 and 1 in each view: [C, V] float32."""
        return np.asarray((sets @ self.seen.T).todense(), dtype=np.float32)

    def fits(self, sets: sparse.csr_matrix, sizes: np.ndarray) -> sparse.csr_matrix:
        """IoU of sets with masks, by pixels, as far as it may matter: [C, M] float32, entries above `FITS - NOISE`.

        Args:
            sets: [C, G] of 0 and 1.
            sizes: `sizes` of them.
        """
        found = []
        for start in range(0, sets.shape[0], BLOCK):
            common = (sets[start : start + BLOCK] @ self._transposed).tocoo()
            union = sizes[start + common.row, self.view_of[common.col]] + self.area[common.col] - common.data
            iou = common.data / np.maximum(union, 1e-6)
            kept = iou > FITS - NOISE
            found.append(
                sparse.csr_matrix(
                    (iou[kept], (common.row[kept], common.col[kept])), shape=common.shape, dtype=np.float32
                )
            )
        return sparse.vstack(found, "csr") if found else sparse.csr_matrix((0, len(self.view_of)), dtype=np.float32)

    def best(self, fits: sparse.csr_matrix) -> BestMasks:
        """The mask of each view that fits a set best.

        Args:
            fits: see `fits`.
        """
        table = fits.tocoo()
        shape = (fits.shape[0], self.num_views)
        masks, fit = np.zeros(shape, np.int64), np.full(shape, -1, np.float32)
        rising = np.lexsort((-table.col, table.data))  # later writes win: the best fit, of equals the first
        row, col = table.row[rising], table.col[rising]
        masks[row, self.view_of[col]], fit[row, self.view_of[col]] = col, table.data[rising]
        return BestMasks(masks, fit)

    def shares(self, best: BestMasks, sets: slice | np.ndarray = slice(None)) -> sparse.csr_matrix:
        """How much of each Gaussian lies in the masks that fit a set, over the views in which a mask does: [C, G].

        Args:
            best: of the sets.
            sets: which of them.
        """
        fit, masks = best.fit[sets] > FITS, best.mask[sets]
        row, view = fit.nonzero()
        chosen = sparse.csr_matrix(
            (np.ones(len(row), np.float32), (row, masks[row, view])), shape=(len(fit), self.sets.shape[0])
        )
        inside = chosen @ self.sets
        by_gaussian = self._seen_by_gaussian
        total = np.empty(inside.nnz, np.float32)
        heard_at(inside.indptr, inside.indices, fit, by_gaussian.indptr, by_gaussian.indices, by_gaussian.data, total)
        inside.data = np.minimum(inside.data / np.maximum(total, 1e-6), 1)
        return inside

    def voted(self, best: BestMasks) -> sparse.csr_matrix:
        """The Gaussians that lie mostly in the masks that fit a set, over these views: [C, G] of 0 and 1."""
        found = []
        for start in range(0, len(best.fit), BLOCK):
            shares = self.shares(best, slice(start, start + BLOCK))
            shares.data = (shares.data > 0.5).astype(np.float32)
            shares.eliminate_zeros()
            found.append(shares)
        return sparse.vstack(found, "csr") if found else sparse.csr_matrix((0, self.sets.shape[1]), dtype=np.float32)


class AskedViews:
    """What the views say of their overlapping masks, in an order that neither names nor numbers decide.

    Sums of floats depend on their order in the last digit, and thresholds may hang on it.
    """

    def __init__(self, votes: VoteStore, members: Sequence[Tensor]) -> None:
        """Order the views, and the masks of each.

        Args:
            votes: what each view's Gaussians give to the regions of `MaskSet.regions`, region 0 among them.
            members: bool [R, M] of each view: the masks that cover a region.
        """
        self._votes = votes
        self._members: list[sparse.csr_matrix] = []
        amounts = []
        for view, covers in zip(votes, members, strict=True):
            regions, weights = view.labels.numpy(), view.weights.double().numpy()
            table = covers.numpy()
            amount = np.bincount(regions, weights, len(table))
            first = np.full(len(table), np.iinfo(np.int32).max)
            np.minimum.at(first, regions, view.gaussians.numpy())
            first_of = np.where(table, first[:, None], np.iinfo(np.int32).max).min(
                axis=0, initial=np.iinfo(np.int32).max
            )
            self._members.append(sparse.csr_matrix(table[:, np.lexsort((first_of, amount @ table))], dtype=np.float32))
            amounts.append(amount.sum())
        self.order: list[int] = np.argsort(np.array(amounts), kind="stable").tolist()
        """The views as `MaskSets` numbers them."""

    def sets(self, first: int, last: int, chosen: np.ndarray | None = None) -> MaskSets:
        """Decide about Gaussians in each view by the majority of their contribution.

        Args:
            first: the first of them,
            last: and the one after the last.
            chosen: [G] those of them that count, rising; None: all.
        """
        count = last - first if chosen is None else len(chosen)
        place = np.arange(count) if chosen is None else np.full(last - first, -1)
        if chosen is not None:
            place[chosen - first] = np.arange(count)
        rows, seen, view_of = [], [], []
        for number, view in enumerate(self.order):
            gaussians, regions, weights = (part.numpy() for part in self._votes.of(view, first, last))
            mine = place[gaussians - first]
            kept = mine >= 0
            covers = self._members[view]
            shape = (count, covers.shape[0])
            by_region = sparse.csr_matrix((weights[kept], (mine[kept], regions[kept])), shape=shape)
            total = np.asarray(by_region.sum(axis=1), dtype=np.float32).ravel()
            table = (by_region @ covers).tocoo()
            mostly = table.data > 0.5 * total[table.row]
            inside = table.row[mostly]
            rows.append(sparse.csr_matrix((total[inside], (table.col[mostly], inside)), shape=(covers.shape[1], count)))
            seen.append(sparse.csr_matrix(total))
            view_of.append(np.full(covers.shape[1], number))
        return MaskSets(sparse.vstack(rows, "csr"), sparse.vstack(seen, "csr"), np.concatenate(view_of))


def sees(sizes: np.ndarray) -> np.ndarray:
    """How well each view sees each set, in 0..1, from what the best view shows of it: [C, V].

    Args:
        sizes: pixels [C, V].
    """
    return sizes / (sizes + FAINT * sizes.max(axis=1, keepdims=True, initial=0) + 1e-6)


def evidence(best: BestMasks, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In what share of the views that see a set a mask fits it, and in how many.

    Returns:
        [C] the share, weighed by the fit; one more view without a word is counted, so that few views say little; and
        [C] the number of views, a poor one less than whole.
    """
    weight = sees(sizes)
    fitting = best.fit > FITS
    share = (weight * np.where(fitting, best.fit, 0)).sum(axis=1) / (weight.sum(axis=1) + 1)
    return share, (weight * fitting).sum(axis=1)
