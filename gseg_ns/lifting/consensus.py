"""Association of masks by the agreement of all views: no order of views or masks, no first come, first served.

Gaga's memory bank decides about each mask once, when it arrives, so that one merged or split mask misleads every later
decision and the answer depends on the order of the views. Here all evidence is summed first:

1. Gaussians are put together into small regions: neighbours in space that the masks of most views do not separate.
   Cells are coarse where masks agree and shrink where they do not, so that a small part has regions of its own. A view
   counts by how well it sees a Gaussian or region, measured by the view that sees the same one best: what shines
   through a surface says little, what is small says as much as what is large.
2. For two regions, each view that sees both says with what probability a contribution of one and a contribution of the
   other lie in one mask. Sums of numerator and denominator over views make an affinity that merging only adds up. Where
   hardly a view sees both, neighbours count as what neighbours are on the whole, and others as apart.
3. Regions merge by average linkage while the views that see both sides of their common border mostly put them into one
   mask. Only the border counts, since a segmenter cuts a large surface (a floor between chair legs) into pieces that
   seldom share a mask as a whole, though neighbouring places on it nearly always do. What occlusion keeps apart may
   then merge over a distance; it takes less agreement, since no ragged border of masks is in between.
4. A group that hardly ever has a mask of its own in the views that see it, or that most of them show as the lesser part
   of another group's mask, is a fragment left by errors, and is dropped.

The view consensus is in the spirit of MaskClustering (Yan et al., CVPR 2024), moved from masks to pieces of the scene,
which merged and split masks do not confuse; regions by agreement of masks follow SAI3D (Yin et al., CVPR 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import OptionError
from gseg_ns.neighbours import PointTree
from gseg_ns.rendering import vote

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


class ViewLabels(NamedTuple):
    """What one view's masks say of each Gaussian."""

    labels: Tensor  # [N] int32
    """The mask that most of the Gaussian's contribution lies in; 0: unseen or unlabelled."""
    weights: Tensor  # [N] float16
    """Its contribution to that mask, in pixels."""


def view_labels(meta: dict[str, Any], labels: Tensor) -> ViewLabels:
    """Ask one view.

    Args:
        meta: the view's projection (`gseg_ns.rendering.project`).
        labels: its label map [H, W], 0 = unlabelled.
    """
    count = int(labels.max()) + 1 if labels.numel() else 1
    votes = vote(meta, labels, count)
    if count == 1:
        votes = torch.cat([votes, torch.zeros_like(votes)], dim=1)
    weights, best = votes[:, 1:].max(dim=1)
    seen = weights > 0
    # float16 ends at 65504 pixels, more than any but a sky of one Gaussian covers.
    return ViewLabels(torch.where(seen, best + 1, 0).int().cpu(), weights.clamp_max(6e4).half().cpu())


def find_groups(means: Tensor, views: Sequence[ViewLabels], options: ConsensusOptions) -> Tensor:
    """Group the Gaussians of a scene.

    Neither the order of the views, nor the numbering of masks, nor the order of the Gaussians matters, but for ties.

    Args:
        means: [N, 3].
        views: what each view says (`view_labels`).
        options: how much agreement it takes.

    Returns:
        group of each Gaussian [N] int64 from 1; 0 for Gaussians that no mask shows and those of dropped groups.
    """
    groups = torch.zeros(len(means), dtype=torch.long)
    seen = torch.stack([view.labels > 0 for view in views]).any(dim=0)
    known = seen.nonzero().squeeze(1)
    if len(known) == 0:
        return groups
    points = means.detach().cpu()[known]
    asked = [ViewLabels(view.labels[known], view.weights[known].float()) for view in views]
    # Sums of floats depend on their order in the last digit, and thresholds may hang on it: views get one of their own.
    asked.sort(key=lambda view: float(view.weights.double().sum()))
    region = _regions(points, asked, options)
    kept = (region >= 0).nonzero().squeeze(1)
    if len(kept) == 0:
        return groups
    region, count = region[kept], int(region.max()) + 1
    same, both = _affinity(region, count, [ViewLabels(v.labels[kept], v.weights[kept]) for v in asked])
    border = _borders(points[kept], region, count)
    usual = float((same * border).sum() / max(float((both * border).sum()), 1e-12))
    cluster = merge((same + DOUBT * usual) * border, (both + DOUBT) * border, options.join_neighbours, evidence=0)
    members = np.zeros((count, int(cluster.max()) + 1), np.float32)
    members[np.arange(count), cluster] = 1
    doubted = same * (both / (both + DOUBT))
    cluster = merge(members.T @ doubted @ members, members.T @ both @ members, options.join_distant, evidence=0)[
        cluster
    ]
    groups[known[kept]] = torch.from_numpy(cluster[region.numpy()]) + 1
    return _supported(groups, views, options)


def group_lookup(view: ViewLabels, groups: Tensor, num_groups: int, options: ConsensusOptions) -> Tensor:
    """Find the group of each mask of a view.

    Args:
        view: what the view says.
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


def _shares(view: ViewLabels, groups: Tensor, num_groups: int) -> Tensor:
    """Contributions of each group to each mask of a view: [G + 1, L + 1]."""
    width = int(view.labels.max()) + 1
    flat = groups * width + view.labels.long()
    total = torch.bincount(flat, weights=view.weights.double(), minlength=(num_groups + 1) * width)
    return total.view(num_groups + 1, width).float()


def _regions(points: Tensor, views: Sequence[ViewLabels], options: ConsensusOptions) -> Tensor:
    """Put neighbours together that the masks do not separate: region of each point [M] int64, -1 for none."""
    best = torch.zeros(len(points))
    for view in views:
        best = torch.maximum(best, view.weights)
    heard = [view.weights / (view.weights + FAINT * best).clamp_min(1e-12) for view in views]
    # The one that most views see well comes first; among equals, the one that they see more of.
    amount = torch.argsort(torch.stack([view.weights for view in views]).sum(dim=0), stable=True)
    rank = torch.empty_like(amount)
    rank[amount[torch.argsort(torch.stack(heard).sum(dim=0)[amount], stable=True)]] = torch.arange(len(points))
    unit, side = _grid(points, min(options.regions, max(len(points) // CELL_MEMBERS, 1)))
    region = torch.full((len(points),), -1)
    count = 0
    left = torch.arange(len(points))
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
        agree, compared = torch.zeros(len(left)), torch.zeros(len(left))
        for view, weight in zip(views, heard, strict=True):
            both = weight[left] * weight[leaders]
            compared += both
            agree += both * (view.labels[left] == view.labels[leaders])
        joins = (left == leaders) | (agree >= options.same_region * compared.clamp_min(1e-12))
        number = torch.unique(cell[joins], return_inverse=True)[1]
        region[left[joins]] = number + count
        count += int(number.max()) + 1
        left = left[~joins]
    size = torch.bincount(region[region >= 0], minlength=count)
    large = size >= MIN_MEMBERS
    number = torch.where(large, torch.cumsum(large, dim=0) - 1, -1)
    return torch.where(region >= 0, number[region.clamp_min(0)], -1)


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


def _affinity(region: Tensor, count: int, views: Sequence[ViewLabels]) -> tuple[np.ndarray, np.ndarray]:
    """Sum over views how likely two regions share a mask (numerator) and are both seen (denominator): [R, R] each."""
    tables = [_shares(view, region, count - 1)[:, 1:] for view in views]
    totals = [table.sum(dim=1) for table in tables]
    best = torch.stack(totals).max(dim=0).values
    same = torch.zeros((count, count))
    both = torch.zeros((count, count))
    for table, total in zip(tables, totals, strict=True):
        weight = total / (total + FAINT * best + PIXEL)
        share = table / total.clamp_min(1e-6)[:, None] * weight[:, None]
        same += share @ share.T
        both += weight[:, None] * weight[None]
    return same.numpy(), both.numpy()


def _borders(points: Tensor, region: Tensor, count: int) -> np.ndarray:
    """Which regions touch: float32 [R, R] of 0 and 1."""
    found = PointTree(points).others(NEIGHBOURS)[1]
    first = region.repeat_interleave(found.shape[1]).numpy()
    second = region[found].flatten().numpy()
    border = np.zeros((count, count), np.float32)
    border[first, second] = 1
    border[second, first] = 1
    np.fill_diagonal(border, 0)
    return border


def merge(same: np.ndarray, both: np.ndarray, threshold: float, evidence: float = 1.0) -> np.ndarray:
    """Average linkage: merge the pair of highest affinity same / both until it is below `threshold`.

    Args:
        same: [R, R] symmetric, summed evidence for.
        both: [R, R] symmetric, summed evidence at all; a pair below `evidence` has none.
        threshold: smallest affinity that merges.
        evidence: about the number of views that must see both sides.

    Returns:
        cluster of each row [R] int64 from 0.
    """
    same, both = same.astype(np.float64), both.astype(np.float64)
    count = len(same)
    alive = np.ones(count, bool)
    parent = np.arange(count)

    def affinities(row: int) -> np.ndarray:
        usable = alive & (both[row] >= max(evidence, 1e-9))
        values = np.where(usable, same[row] / np.maximum(both[row], 1e-12), -1.0)
        values[row] = -1
        return values

    best, partner = np.full(count, -1.0), np.zeros(count, np.int64)
    for row in range(count):
        values = affinities(row)
        partner[row] = values.argmax()
        best[row] = values[partner[row]]
    while count > 1:
        kept = int(best.argmax())
        if best[kept] < threshold:
            break
        gone = int(partner[kept])
        for table in (same, both):
            table[kept] += table[gone]
            table[:, kept] += table[:, gone]
        alive[gone], best[gone], parent[gone] = False, -2.0, kept
        values = affinities(kept)
        partner[kept] = values.argmax()
        best[kept] = values[partner[kept]]
        # Whose best was one of the two has to look again; for all others only the merged one is news.
        for other in np.nonzero(alive & ((partner == gone) | (partner == kept)))[0].tolist():
            if other != kept:
                others = affinities(other)
                partner[other] = others.argmax()
                best[other] = others[partner[other]]
        nearer = alive & (values > best)
        nearer[kept] = False
        best[nearer], partner[nearer] = values[nearer], kept
    root = parent
    while not np.array_equal(root, root[root]):
        root = root[root]
    return np.unique(root, return_inverse=True)[1].reshape(-1)


def _supported(groups: Tensor, views: Sequence[ViewLabels], options: ConsensusOptions) -> Tensor:
    """Drop groups without masks of their own, and number the others 1..G by falling size."""
    count = int(groups.max())
    tables = [_shares(view, groups, count)[:, 1:] for view in views]
    total = torch.stack([table.sum(dim=1) for table in tables])  # [V, G + 1]
    best = torch.stack([_best_iou(table) for table in tables])
    foremost = torch.stack([_is_foremost(table) for table in tables])
    sees = (total > 0) & (total >= SEEN * total.max(dim=0).values)
    seen, own = sees.sum(dim=0), (sees & (best > 0.5)).sum(dim=0)
    kept = (own >= options.support * seen) & (own > 0) & ((sees & foremost).sum(dim=0) >= options.foremost * seen)
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
