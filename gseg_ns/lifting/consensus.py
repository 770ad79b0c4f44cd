"""Association of masks by the agreement of all views: no order of views or masks, no first come, first served.

Regions of Gaussians that masks do not separate are merged by what all views say of their borders; why so is in
`design.md` beside this file. What views say is read view by view, and only sums are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, hstack
from torch import Tensor

from gseg_ns.errors import OptionError
from gseg_ns.lifting.linkage import merge, merge_linked
from gseg_ns.lifting.votes import ViewVotes, view_votes
from gseg_ns.neighbours import PointTree

NEIGHBOURS = 10
"""Nearest Gaussians of each that make two regions neighbours."""

FAINT = 0.25
"""Contribution, in parts of that in the best view, at which a view's word has half its weight."""

PIXEL = 1.0
"""Contribution in pixels at which a view's word about a region has half its weight, however little others see."""

DOUBT = 0.1
"""What is assumed of two regions that no view compares weighs as much as this part of a view."""

SEEN = 0.1
"""A view sees a group if it shows this part of what the view that shows most of the group does."""

CELL_MEMBERS = 10
"""Gaussians that a cell has on average at first at least: fewer know too little."""

MIN_MEMBERS = 3
"""A region of fewer Gaussians is left out: it is what masks disagree about."""

PAIRS = 4096
"""Pairs of regions that are compared at a time."""

ROWS = 512
"""Regions that are compared with all others at a time."""

ROUNDS = 5
"""Sizes of cells, each smaller than the last by the square root of two, for the Gaussians that agree with no region."""


@dataclass(frozen=True)
class ConsensusOptions:
    """How much agreement it takes.

    The defaults lie around a half, where a majority is; their digits were chosen on two rooms (see docs/results.md).
    """

    regions: int = 1000
    """About how many cells the scene is cut into at first. Where masks separate what is in a cell, smaller ones follow,
    so that there are more regions in the end."""
    same_region: float = 0.7
    """Part of what views see of both that must agree before a Gaussian joins the region of its cell's most visible
    one."""
    join_neighbours: float = 0.55
    """Regions with a common border merge from this affinity on."""
    join_distant: float = 0.5
    """Groups, with a common border or not, merge from this affinity of the whole on."""
    support: float = 0.2
    """A group is kept if it has a mask of its own (IoU above 0.5) in this part of the views that see it,"""
    foremost: float = 0.5
    """and if in this part of them the mask that shows most of it shows less of every other group."""
    mask_share: float = 0.5
    """A mask belongs to the group that gives this part of its contributions; else it trains nothing."""

    def __post_init__(self) -> None:
        if self.regions < 1:
            raise OptionError(f"regions is {self.regions}: give a number of at least 1")
        for name in ("same_region", "join_neighbours", "join_distant", "support", "foremost", "mask_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}: give a ratio between 0 and 1")


def view_labels(meta: dict[str, Any], labels: Tensor) -> ViewVotes:
    """Ask one view: `foremost` of its votes.

    Args:
        meta: the view's projection (`gseg_ns.rendering.project`).
        labels: its label map [H, W], 0 = unlabelled.
    """
    return foremost(view_votes(meta, labels))


def foremost(votes: ViewVotes) -> ViewVotes:
    """What one view says of each Gaussian: the mask that most of its contribution lies in, and how much that is.

    Args:
        votes: of the view.

    Returns:
        one vote for each Gaussian that lies in any mask.
    """
    masked = votes.labels > 0
    gaussians, labels, weights = (part[masked] for part in votes)
    if len(gaussians) == 0:
        return ViewVotes(gaussians, labels, weights)
    ids, segment, lengths = torch.unique_consecutive(gaussians, return_inverse=True, return_counts=True)
    largest = torch.from_numpy(np.maximum.reduceat(weights.numpy(), (lengths.cumsum(0) - lengths).numpy()))
    winners = (weights == largest[segment]).nonzero().squeeze(1)
    first = torch.ones(len(winners), dtype=torch.bool)
    first[1:] = segment[winners].diff() > 0
    return ViewVotes(ids, labels[winners[first]], largest)


def find_groups(
    means: Tensor, views: Sequence[ViewVotes], options: ConsensusOptions, tracks: ViewVotes | None = None
) -> Tensor:
    """Group the Gaussians of a scene.

    Neither the order of the views, nor the numbering of masks, nor the order of the Gaussians matters, but for ties.

    Args:
        means: [N, 3].
        views: what each view says (`foremost`), one vote a Gaussian; read several times, one after the other.
        options: how much agreement it takes.
        tracks: what tracks of masks say, as one more view that only ever says of two regions that they are the same
            (`gseg_ns.lifting.tracks`).

    Returns:
        group of each Gaussian [N] int64 from 1, on the CPU; 0 for Gaussians that no mask shows and those of dropped
        groups.
    """
    groups = torch.zeros(len(means), dtype=torch.long)
    seen = torch.zeros(len(means), dtype=torch.bool)
    amounts = []
    for view in views:
        seen[view.gaussians.long()] = True
        amounts.append(float(view.weights.double().sum()))
    known = seen.nonzero().squeeze(1)
    if len(known) == 0:
        return groups
    # Sums of floats depend on their order in the last digit, and thresholds may hang on it: views get one of their own.
    order = sorted(range(len(views)), key=amounts.__getitem__)
    points = means.detach().cpu()[known]
    region = _regions(points, _Asked(views, order, known, len(means)), options)
    kept = (region >= 0).nonzero().squeeze(1)
    if len(kept) == 0:
        return groups
    region, count = region[kept], int(region.max()) + 1
    alike = None if tracks is None else next(iter(_Asked([tracks], [0], known[kept], len(means))))
    affinity = _Affinity(region, count, _Asked(views, order, known[kept], len(means)), alike)
    pairs = _borders(points[kept], region)
    same, both = affinity.of(*pairs)
    usual = float(same.sum() / max(float(both.sum()), 1e-12))
    cluster = merge_linked(count, *pairs, same + DOUBT * usual, both + DOUBT, options.join_neighbours)
    cluster = merge(*affinity.of_clusters(cluster), options.join_distant, evidence=0)[cluster]
    groups[known[kept]] = torch.from_numpy(cluster[region.numpy()]) + 1
    return _supported(groups, views, options)


class _Asked(Iterable[ViewVotes]):
    """What views say of some Gaussians, under their places among these (int64)."""

    def __init__(self, views: Sequence[ViewVotes], order: Sequence[int], chosen: Tensor, count: int) -> None:
        self._views = views
        self._order = order
        self._place = torch.full((count,), -1)
        self._place[chosen] = torch.arange(len(chosen))

    def __iter__(self) -> Iterator[ViewVotes]:
        for view in self._order:
            gaussians, labels, weights = self._views[view]
            place = self._place[gaussians.long()]
            kept = place >= 0
            yield ViewVotes(place[kept], labels[kept], weights[kept])


def group_lookup(view: ViewVotes, groups: Tensor, num_groups: int, options: ConsensusOptions) -> Tensor:
    """Find the group of each mask of a view.

    Args:
        view: what the view says, one vote a Gaussian.
        groups: [N] from `find_groups`.
        num_groups: the largest group.
        options: `mask_share` is used.

    Returns:
        lookup [L + 1] int64, 0 for label 0 and for masks that belong to no group (merged ones, mostly).
    """
    table = _shares(view, groups, num_groups)  # [G + 1, L + 1]
    best, group = table[1:].max(dim=0) if num_groups else (table[0], torch.zeros(table.shape[1]).long() - 1)
    lookup = torch.where((best > 0) & (best >= options.mask_share * table.sum(dim=0)), group + 1, 0)
    lookup[0] = 0
    return lookup


def _shares(view: ViewVotes, groups: Tensor, num_groups: int) -> Tensor:
    """Contributions of each group to each mask of a view: [G + 1, L + 1]."""
    width = int(view.labels.max()) + 1 if len(view.labels) else 1
    flat = groups[view.gaussians.long()] * width + view.labels.long()
    total = torch.bincount(flat, weights=view.weights.double(), minlength=(num_groups + 1) * width)
    return total.view(num_groups + 1, width).float()


def _regions(points: Tensor, views: Iterable[ViewVotes], options: ConsensusOptions) -> Tensor:
    """Put neighbours together that the masks do not separate: region of each point [M] int64, -1 for none."""
    count = len(points)
    best = torch.zeros(count)
    for view in views:
        best[view.gaussians] = torch.maximum(best[view.gaussians], view.weights)
    amount, audience = torch.zeros(count, dtype=torch.double), torch.zeros(count, dtype=torch.double)
    for view in views:
        amount[view.gaussians] += view.weights
        audience[view.gaussians] += _heard(view, best)
    # The one that most views see well comes first; among equals, the one that they see more of.
    by_amount = torch.argsort(amount.float(), stable=True)
    rank = torch.empty_like(by_amount)
    rank[by_amount[torch.argsort(audience.float()[by_amount], stable=True)]] = torch.arange(count)
    unit, side = _grid(points, min(options.regions, max(count // CELL_MEMBERS, 1)))
    region = torch.full((count,), -1)
    found = 0
    left = torch.arange(count)
    for turn in range(ROUNDS):
        if len(left) == 0:
            break
        keys = _cell_keys(unit[left.numpy()], side * 2 ** (turn / 2))
        cell = torch.from_numpy(np.unique(keys, return_inverse=True)[1].reshape(-1))
        # The most visible Gaussian of a cell that is left leads; later writes win, so the order is rising.
        rising = torch.argsort(rank[left])
        leader = torch.zeros(int(cell.max()) + 1, dtype=torch.long)
        leader[cell[rising]] = left[rising]
        leaders = leader[cell]
        agree, compared = _agreement(left, leaders, views, best)
        joins = (left == leaders) | (agree >= options.same_region * compared.clamp_min(1e-12))
        number = torch.unique(cell[joins], return_inverse=True)[1]
        region[left[joins]] = number + found
        found += int(number.max()) + 1
        left = left[~joins]
    size = torch.bincount(region[region >= 0], minlength=found)
    large = size >= MIN_MEMBERS
    number = torch.where(large, torch.cumsum(large, dim=0) - 1, -1)
    return torch.where(region >= 0, number[region.clamp_min(0)], -1)


def _heard(view: ViewVotes, best: Tensor) -> Tensor:
    """The weight of a view's word about each Gaussian it sees, in 0..1, from what the best view shows of all."""
    return view.weights / (view.weights + FAINT * best[view.gaussians]).clamp_min(1e-12)


def _agreement(left: Tensor, leaders: Tensor, views: Iterable[ViewVotes], best: Tensor) -> tuple[Tensor, Tensor]:
    """In how much of what is seen of both a point and its leader share a mask: numerator and denominator [len(left)].

    Args:
        left: points, rising.
        leaders: the point that each is compared with.
        views: what they say.
        best: [M], see `_heard`.
    """
    agree, compared = torch.zeros(len(left)), torch.zeros(len(left))
    place = torch.full((len(best),), -1)
    place[left] = torch.arange(len(left))
    label, weight = torch.zeros(len(best), dtype=torch.int32), torch.zeros(len(best))
    for view in views:
        heard = _heard(view, best)
        label[view.gaussians], weight[view.gaussians] = view.labels, heard
        here = place[view.gaussians]
        asked = here >= 0
        here = here[asked]
        both = heard[asked] * weight[leaders[here]]
        compared[here] += both
        agree[here] += both * (view.labels[asked] == label[leaders[here]])
        weight[view.gaussians] = 0
    return agree, compared


def _grid(points: Tensor, wanted: int) -> tuple[np.ndarray, float]:
    """A cubic grid that has about `wanted` occupied cells: the points [M, 3] in [0, 1], and cells along that length.

    The outermost hundredth of the points in each axis (floaters, a far background) is moved to the edge of the grid, so
    that it does not decide the size of a cell.
    """
    array = points.double().numpy()
    low, high = np.quantile(array, 0.01, axis=0), np.quantile(array, 0.99, axis=0)
    extent = max(float((high - low).max()), 1e-12)
    unit = (np.clip(array, low, high) - low) / extent
    fine, coarse = 1.0, 256.0  # cells along the longest side
    for _ in range(14):
        side = (fine * coarse) ** 0.5
        occupied = len(np.unique(_cell_keys(unit, side)))
        fine, coarse = (side, coarse) if occupied < wanted else (fine, side)
    return unit, fine


def _cell_keys(unit: np.ndarray, side: float) -> np.ndarray:
    index = (unit * side).astype(np.int64)
    return (index[:, 0] * 2048 + index[:, 1]) * 2048 + index[:, 2]


class _Affinity:
    """How likely regions share a mask, summed over views (`same`), of how much views see both (`both`).

    Neither table [R, R] is ever whole: `same` is the product of a sparse matrix with itself, `both` that of a row a
    view.
    """

    def __init__(self, region: Tensor, count: int, views: Iterable[ViewVotes], tracks: ViewVotes | None = None) -> None:
        """Ask the views.

        Args:
            region: of each Gaussian.
            count: R.
            views: what they say.
            tracks: see `find_groups`.
        """
        tables = [csr_array(_shares(view, region, count - 1)[:, 1:].numpy()) for view in views]
        totals = [np.asarray(table.sum(axis=1), np.float32).reshape(-1) for table in tables]
        best = np.maximum.reduce(totals)
        # A view shows some of the regions; of the others it says nothing.
        weights = [np.where(total > 0, total / (total + FAINT * best + PIXEL), 0) for total in totals]
        self._shares = hstack(
            [
                diags_array(weight / np.maximum(total, 1e-6)) @ table
                for table, total, weight in zip(tables, totals, weights, strict=True)
            ],
            format="csr",
            dtype=np.float32,
        )  # [R, masks of all views]
        self._weights = np.stack(weights, axis=1).astype(np.float32)  # [R, V]
        self._tracks: Any = None
        if tracks is not None and len(tracks.labels):
            table = _shares(tracks, region, count - 1)[:, 1:]
            total = table.sum(dim=1, keepdim=True)
            # Of a region that several tracks share none is known: it would tie their objects together.
            table = torch.where(table > total / 2, table, 0) / (total * (1 + FAINT) + PIXEL * len(tables)).clamp_min(
                1e-6
            )
            self._tracks = csr_array(table.numpy())  # [R, pieces of tracks]

    def of(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`same` and `both` of pairs of regions [E]."""
        same, both = np.empty(len(first), np.float32), np.empty(len(first), np.float32)
        for start in range(0, len(first), PAIRS):
            rows, columns = first[start : start + PAIRS], second[start : start + PAIRS]
            same[start : start + PAIRS] = self._shares[rows].multiply(self._shares[columns]).sum(axis=1)
            both[start : start + PAIRS] = np.einsum("ev,ev->e", self._weights[rows], self._weights[columns])
            if self._tracks is not None:
                alike = np.asarray(self._tracks[rows].multiply(self._tracks[columns]).sum(axis=1))
                same[start : start + PAIRS] += alike
                both[start : start + PAIRS] += alike
        return same, both

    def of_clusters(self, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the regions of clusters [R]: `same`, and `both`, to which every pair of regions adds its doubt.

        Opposite walls that no view shows together but for a few stray regions would be one by what is said of those.

        Returns:
            [G, G] float32 each.
        """
        count = int(cluster.max()) + 1
        members = csr_array((np.ones(len(cluster), np.float32), cluster, np.arange(len(cluster) + 1)))
        same, alike = np.zeros((count, count), np.float32), np.zeros((count, count), np.float32)
        for start in range(0, len(cluster), ROWS):
            rows = slice(start, start + ROWS)
            for table, total in ((self._shares, same), (self._tracks, alike)):
                if table is not None:
                    summed = (members[rows].T @ (table[rows] @ table.T @ members)).tocoo()
                    total[summed.row, summed.col] += summed.data
        seen, size = members.T @ self._weights, members.sum(axis=0)
        return same + alike, seen @ seen.T + alike + DOUBT * np.outer(size, size).astype(np.float32)


def _borders(points: Tensor, region: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Which regions touch: pairs [E], the smaller number first."""
    found = PointTree(points).others(NEIGHBOURS)[1]
    first = region.repeat_interleave(found.shape[1]).numpy()
    second = region[found].flatten().numpy()
    count = int(region.max()) + 1
    pairs = np.unique(np.minimum(first, second) * count + np.maximum(first, second))
    low, high = pairs // count, pairs % count
    return low[low < high], high[low < high]


def _supported(groups: Tensor, views: Sequence[ViewVotes], options: ConsensusOptions) -> Tensor:
    """Drop groups without masks of their own, and number the others 1..G by falling size."""
    count = int(groups.max())
    sums, ious, leading = [], [], []
    for view in views:
        table = _shares(view, groups, count)[:, 1:]
        sums.append(table.sum(dim=1))
        ious.append(_best_iou(table))
        leading.append(_is_foremost(table))
    total, best, leads = torch.stack(sums), torch.stack(ious), torch.stack(leading)  # [V, G + 1]
    sees = (total > 0) & (total >= SEEN * total.max(dim=0).values)
    seen, own = sees.sum(dim=0), (sees & (best > 0.5)).sum(dim=0)
    kept = (own >= options.support * seen) & (own > 0) & ((sees & leads).sum(dim=0) >= options.foremost * seen)
    kept[0] = False
    size = torch.bincount(groups, minlength=count + 1)
    order = torch.argsort(torch.where(kept, size, -1), descending=True, stable=True)
    number = torch.zeros(count + 1, dtype=torch.long)
    number[order] = torch.arange(1, count + 2)
    return torch.where(kept, number, 0)[groups]


def _best_iou(table: Tensor) -> Tensor:
    """IoU of each group with the mask that fits it best, from contributions [G + 1, L]: [G + 1]."""
    if table.shape[1] == 0:
        return torch.zeros(len(table))
    union = table.sum(dim=0)[None] + table.sum(dim=1, keepdim=True) - table
    return (table / union.clamp_min(1e-6)).max(dim=1).values


def _is_foremost(table: Tensor) -> Tensor:
    """Whether the mask that has most of a group has less of every other, by contributions [G + 1, L]: bool [G + 1]."""
    if table.shape[1] == 0:
        return torch.zeros(len(table), dtype=torch.bool)
    return table.argmax(dim=0)[table.argmax(dim=1)] == torch.arange(len(table))
