"""Masks as sets of whole Gaussians, and how well sets agree with them: sparse tables, nothing is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
from torch import Tensor

from gseg_ns.lifting.tree.kernels import cell_sums, shares_of
from gseg_ns.lifting.votes import VoteStore

FITS = 0.5
"""IoU from which a mask speaks of a set: two sets without a common Gaussian cannot both exceed it for one mask."""

VIEWS = 3
"""A set needs a mask in so many views: two may agree by chance, or by one error of a neighbouring view."""

FAINT = 0.1
"""A view has half its weight for a set when it shows this part of what the best view shows."""

NOISE = 0.05
"""Misfit that is put down to ragged masks."""

BLOCK = 256
"""Sets that are asked about at a time."""

SMALLEST = 0.01
"""Share of the masks that are smaller than what counts as the smallest that a segmenter shows."""

ROOM = 1 << 24
"""Gaussians that are written down at a time, of the sets together."""


class BestMasks(NamedTuple):
    """For each set, the mask of each view that fits it best."""

    mask: np.ndarray  # [C, V] int64
    fit: np.ndarray  # [C, V] float32, its IoU; -1 where the view has none that fits at all


class Fits(NamedTuple):
    """How well masks fit sets."""

    sizes: np.ndarray  # [C, V] float32, pixels of each set in each view
    table: sparse.csr_matrix  # [C, M] float32, IoU by pixels; entries above `FITS - NOISE`

    def of(self, rows: np.ndarray) -> Fits:
        """Those of some of the sets."""
        return Fits(self.sizes[rows], self.table[rows])


@dataclass(frozen=True)
class MaskSets:
    """The masks of all views as sets of Gaussians: in a view a Gaussian lies in a mask with all that shows, or not.

    Soft contributions would lose small things: a thin handle is composited with what is behind it. Gaussians that lie
    in the same masks of a view are a cell, so that what is summed over them is summed once for all masks that overlap.
    See `AskedViews`.
    """

    seen: sparse.csr_matrix
    """[K, G] float32, the pixels of each Gaussian in the cell that it lies in, one of each view that sees it."""
    covers: sparse.csr_matrix
    """[K, M] of 1, the masks of each cell."""
    view_of_cell: np.ndarray
    """[K] int64, rising: the view of each cell, by its place in the order of `AskedViews`."""
    view_of: np.ndarray
    """[M] int64, rising: the view of each mask."""
    num_views: int
    """V."""

    @cached_property
    def area(self) -> np.ndarray:
        """[M] float32, pixels of each mask's Gaussians."""
        return np.asarray(self.covers.T @ np.asarray(self.seen.sum(axis=1)).ravel(), dtype=np.float32)

    @cached_property
    def least(self) -> float:
        """Pixels of the smallest things that masks show: what is smaller in a view has no mask there for this alone."""
        shown = self.area[self.area > 0]
        return float(np.quantile(shown, SMALLEST)) if len(shown) else 0.0

    @cached_property
    def weight(self) -> np.ndarray:
        """[G] float32, pixels of each Gaussian in all views."""
        return np.asarray(self.seen.sum(axis=0), dtype=np.float32).ravel()

    @cached_property
    def views_of(self) -> sparse.csr_matrix:
        """[G, V] float32, the pixels of each Gaussian in each view."""
        table = self.by_gaussian
        return sparse.csr_matrix((table.data, self._entry_views, table.indptr), shape=(table.shape[1], self.num_views))

    @cached_property
    def by_gaussian(self) -> sparse.csc_matrix:
        """`seen`, compressed by Gaussians."""
        return self.seen.tocsc()

    @cached_property
    def cells_of(self) -> sparse.csc_matrix:
        """`covers`, compressed by masks."""
        return self.covers.tocsc()

    @cached_property
    def _entry_views(self) -> np.ndarray:
        """The view of each entry of `by_gaussian`."""
        return self.view_of_cell[self.by_gaussian.indices].astype(np.int32)

    @cached_property
    def _members(self) -> np.ndarray:
        """[M], Gaussians of each mask."""
        return np.asarray(self.covers.T @ np.diff(self.seen.indptr)).ravel().astype(np.int64)

    def cell_at(self, view: int) -> np.ndarray:
        """The cell of each Gaussian in a view: [G], -1 where it is not seen."""
        first, last = np.searchsorted(self.view_of_cell, [view, view + 1])
        entries = slice(self.seen.indptr[first], self.seen.indptr[last])
        found = np.full(self.seen.shape[1], -1)
        found[self.seen.indices[entries]] = np.repeat(
            np.arange(first, last), np.diff(self.seen.indptr[first : last + 1])
        )
        return found

    def fits(self, sets: sparse.csr_matrix) -> Fits:
        """How well masks fit sets [C, G] of 0 and 1, as far as it may matter."""
        sizes, found = [np.zeros((0, self.num_views), np.float32)], []
        for shown, common in self._shared(sets):
            row, mask = np.nonzero(common > (FITS - NOISE) * self.area)  # as much of the mask, at least
            shared = common[row, mask]
            iou = shared / np.maximum(shown[row, self.view_of[mask]] + self.area[mask] - shared, 1e-6)
            kept = iou > FITS - NOISE
            found.append(sparse.csr_matrix((iou[kept], (row[kept], mask[kept])), shape=common.shape, dtype=np.float32))
            sizes.append(shown)
        empty = sparse.csr_matrix((0, len(self.view_of)), dtype=np.float32)
        return Fits(np.concatenate(sizes), sparse.vstack(found, "csr") if found else empty)

    def covering(self, sets: sparse.csr_matrix) -> sparse.csr_matrix:
        """The masks that most of what a view shows of a set [C, G] lies in, where it shows enough: [C, M] of 1."""
        empty, found = sparse.csr_matrix((0, len(self.view_of)), dtype=np.float32), []
        for shown, common in self._shared(sets):
            there = shown[:, self.view_of]
            found.append(sparse.csr_matrix((common > 0.5 * there) & (there >= self.least), dtype=np.float32))
        return sparse.vstack(found, "csr") if found else empty

    def _shared(self, sets: sparse.csr_matrix) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pixels that some sets at a time have in each view [B, V], and share with each mask [B, M]."""
        entries = self.by_gaussian
        for start in range(0, sets.shape[0], BLOCK):
            some = sets[start : start + BLOCK]
            shown = np.zeros((some.shape[0], self.num_views), np.float32)
            common = np.zeros((some.shape[0], len(self.view_of)), np.float32)
            cell_sums(
                some.indptr, some.indices, entries.indptr, entries.indices, entries.data, self.covers.indptr,
                self.covers.indices, self.view_of_cell, common, shown,
            )  # fmt: skip
            yield shown, common

    def best(self, fits: sparse.csr_matrix) -> BestMasks:
        """The mask of each view that fits a set best.

        Args:
            fits: the table of `fits`.
        """
        table = fits.tocoo()
        shape = (fits.shape[0], self.num_views)
        masks, fit = np.zeros(shape, np.int64), np.full(shape, -1, np.float32)
        rising = np.lexsort((-table.col, table.data))  # later writes win: the best fit, of equals the first
        row, col = table.row[rising], table.col[rising]
        masks[row, self.view_of[col]], fit[row, self.view_of[col]] = col, table.data[rising]
        return BestMasks(masks, fit)

    def shares(self, best: BestMasks, majority: bool = False) -> sparse.csr_matrix:
        """How much of each Gaussian lies in the masks that fit a set, over the views in which a mask does: [C, G].

        Args:
            best: of the sets.
            majority: 1 for what is above a half, and nothing else: quicker.
        """
        heard = best.fit > FITS
        room = np.minimum((heard * self._members[best.mask]).sum(axis=1), self.seen.shape[1])
        filled = np.concatenate([[0], np.cumsum(room)])
        entries = self.by_gaussian
        starts, columns, values = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        first = 0
        while first < len(heard):
            last = max(int(np.searchsorted(filled, filled[first] + ROOM, side="right")) - 1, first + 1)
            offsets = filled[first:last] - filled[first]
            gaussians = np.zeros(filled[last] - filled[first], np.int32)
            parts = np.zeros(len(gaussians), np.float32)
            counts = np.zeros(last - first, np.int64)
            shares_of(
                heard[first:last], best.mask[first:last], majority, self.weight, entries.indptr, self._entry_views,
                entries.data, self.cells_of.indptr, self.cells_of.indices, self.seen.indptr, self.seen.indices,
                self.seen.data, offsets, gaussians, parts, counts,
            )  # fmt: skip
            written = np.arange(counts.sum()) + np.repeat(offsets - np.cumsum(counts) + counts, counts)
            starts.append(counts)
            columns.append(gaussians[written])
            values.append(parts[written])
            first = last
        table = (np.concatenate(values), np.concatenate(columns), np.cumsum(np.concatenate(starts)))
        return sparse.csr_matrix(table, shape=(len(heard), self.seen.shape[1]))

    def voted(self, best: BestMasks) -> sparse.csr_matrix:
        """The Gaussians that lie mostly in the masks that fit a set, over these views: [C, G] of 0 and 1."""
        return self.shares(best, majority=True)


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
            first[regions[::-1]] = view.gaussians.numpy()[::-1]  # they rise, and later writes win: the least
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
        seen, covers, view_of_cell, view_of = [], [], [], []
        for number, view in enumerate(self.order):
            gaussians, regions, weights = (part.numpy() for part in self._votes.of(view, first, last))
            mine = place[gaussians - first]
            kept = mine >= 0
            mine = mine[kept]
            # Compressed by rows as it is: the Gaussians rise.
            starts = np.flatnonzero(np.diff(mine, prepend=-1))
            shown = mine[starts]
            table = (weights[kept], regions[kept], np.append(starts, len(mine)))
            by_region = sparse.csr_matrix(table, shape=(len(shown), self._members[view].shape[0]))
            total = np.asarray(by_region.sum(axis=1), dtype=np.float32).ravel()
            inside = by_region @ self._members[view]
            row = np.repeat(np.arange(len(shown)), np.diff(inside.indptr))
            mostly = inside.data > 0.5 * total[row]
            flags = np.zeros((len(shown), inside.shape[1]), bool)
            flags[row[mostly], inside.indices[mostly]] = True
            cells, cell = _distinct_rows(flags)
            seen.append(sparse.csr_matrix((total, (cell, shown)), shape=(len(cells), count), dtype=np.float32))
            covers.append(sparse.csr_matrix(cells, dtype=np.float32))
            view_of_cell.append(np.full(len(cells), number))
            view_of.append(np.full(inside.shape[1], number))
        return MaskSets(
            sparse.vstack(seen, "csr"),
            sparse.block_diag(covers, "csr"),
            np.concatenate(view_of_cell),
            np.concatenate(view_of),
            len(self.order),
        )


def _distinct_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of a table [n, M] of flags, and which of them each row is [n]."""
    packed = np.packbits(table, axis=1)
    if not packed.size:
        return table[:1], np.zeros(len(table), np.int64)
    whole = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, which = np.unique(whole, return_index=True, return_inverse=True)
    return table[first], which


def owners(fits: sparse.csr_matrix) -> np.ndarray:
    """A mask is one set's: that which it fits best, of equals the first: [M] int64, -1 for masks without an entry.

    Args:
        fits: [C, M], as `Fits` has them.
    """
    table = fits.tocoo()
    rising = np.lexsort((-table.row, table.data))  # later writes win
    owner = np.full(fits.shape[1], -1)
    owner[table.col[rising]] = table.row[rising]
    return owner


def sees(sizes: np.ndarray) -> np.ndarray:
    """How well each view sees each set, in 0..1, from what the best view shows of it: [C, V].

    Args:
        sizes: pixels [C, V].
    """
    return sizes / (sizes + FAINT * sizes.max(axis=1, keepdims=True, initial=0) + 1e-6)


def audience(sizes: np.ndarray, fitting: np.ndarray, least: float) -> np.ndarray:
    """How much each view counts when sets are asked for their masks: [C, V].

    Args:
        sizes: pixels [C, V].
        fitting: bool [C, V], whether the view has a mask for the set.
        least: pixels of the smallest masks. A view that shows no more is half a witness of there being none: no
            segmenter would have shown it there.
    """
    return sees(sizes) * np.where(fitting, 1, sizes / (sizes + least + 1e-6))


def visible(sizes: np.ndarray, least: float) -> np.ndarray:
    """Which sets as many views as it takes show at least as large as the smallest masks: bool [C].

    Args:
        sizes: pixels [C, V].
        least: pixels of the smallest masks.
    """
    if sizes.shape[1] < VIEWS:
        return np.zeros(len(sizes), bool)
    return np.partition(sizes, -VIEWS, axis=1)[:, -VIEWS] >= least


def evidence(best: BestMasks, sizes: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """In what share of the views that see a set a mask fits it, and in how many.

    Args:
        best: of the sets.
        sizes: pixels [C, V].
        least: pixels of the smallest masks, see `audience`.

    Returns:
        [C] the share, weighed by the fit; one more view without a word is counted, so that few views say little; and
        [C] the number of views, a poor one less than whole.
    """
    fitting = best.fit > FITS
    weight = audience(sizes, fitting, least)
    share = (weight * np.where(fitting, best.fit, 0)).sum(axis=1) / (weight.sum(axis=1) + 1)
    return share, (weight * fitting).sum(axis=1)
