"""Cleaning and completing a selection by where its Gaussians are (SAGA v1, section 3.5).

Every length is taken from the Gaussians themselves, so nothing depends on the scale of the scene. Distances are plain
distances; the official code uses squared ones as radii in places. Each step can be used alone, and leaves an empty
selection empty.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gseg_ns.neighbours import PointTree
from gseg_ns.selection.neighbourhood import named_groups

MANY = 20_000
"""Gaussians of which a quantile is taken at least, where there are more."""

ENOUGH = 24
"""Neighbours at least whose mean distance says how dense a selection is at a Gaussian."""


def neighbour_radius(means: Tensor, selected: Tensor, quantile: float = 1.0) -> float:
    """Largest distance of a selected Gaussian to its nearest selected neighbour (Eq. 13).

    Args:
        means: [N, 3] centres.
        selected: bool [N].
        quantile: below 1, that quantile in place of the maximum, which a single outlier sets.

    Returns:
        distance; 0 with fewer than two selected.
    """
    return _radius(PointTree(means.detach()[selected]), quantile)


def _radius(tree: PointTree, quantile: float) -> float:
    """As `neighbour_radius`; a quantile of many is that of an even part of them."""
    if len(tree) < 2:
        return 0.0
    step = len(tree) // MANY if quantile < 1 else 0
    rows = torch.arange(0, len(tree), step, device=tree.points.device) if step > 1 else None
    nearest = tree.others(1, rows)[0][:, 0].sort().values
    return float(nearest[min(round(quantile * (len(nearest) - 1)), len(nearest) - 1)])


def statistical_filter(means: Tensor, selected: Tensor, deviations: float = 1.0, rounds: int = 1) -> Tensor:
    """Drop Gaussians that lie apart from the rest of the selection.

    A Gaussian goes where the mean distance to its sqrt(n) nearest selected ones is above the mean of all such means
    plus their standard deviation.

    Args:
        means: [N, 3] centres.
        selected: bool [N].
        deviations: standard deviations above the mean.
        rounds: how often.

    Returns:
        bool [N], a subset of `selected`.
    """
    kept = selected.clone()
    for _ in range(rounds):
        points = means.detach()[kept]
        count = math.isqrt(len(points))
        if count < 2:
            break
        apart = _mean_distance(points, count)
        limit = apart.mean() + deviations * apart.std(unbiased=False)
        # An even spacing has no outliers; without the tolerance rounding would make some.
        kept[kept.clone()] = apart <= limit * (1 + 1e-6)
    return kept


def _mean_distance(points: Tensor, count: int) -> Tensor:
    """Mean distance [n] of each point to its `count` nearest others; of large sets, to an evenly drawn part of them.

    Every m-th of the points and the (count / m)-th part of the neighbours reach equally far, at a fraction of the time.
    """
    step = max(count // ENOUGH, 1)
    if step == 1:
        return PointTree(points).others(count)[0].mean(dim=1)
    drawn = torch.arange(0, len(points), step, device=points.device)
    tree = PointTree(points[drawn])
    apart = tree.nearest(points, count // step)[0].mean(dim=1)
    apart[drawn] = tree.others(count // step)[0].mean(dim=1)
    return apart


def grow_region(means: Tensor, selected: Tensor, seeds: Tensor, quantile: float = 1.0) -> Tensor:
    """Keep of a selection what hangs together with trusted seeds: mask-guided region growing.

    Selected Gaussians within the seeds' `neighbour_radius` of what is kept so far join, until none does.

    Args:
        means: [N, 3] centres.
        selected: bool [N], the selection to filter.
        seeds: bool [N], e.g. `validated`; those outside `selected` do not count.
        quantile: see `neighbour_radius`.

    Returns:
        bool [N], a subset of `selected`; the seeds alone where there are fewer than two.
    """
    points = means.detach()
    kept = selected & seeds
    radius = neighbour_radius(points, kept, quantile)
    if radius == 0.0:
        return kept
    frontier = kept.clone()
    while bool(frontier.any()):
        open_rows = torch.nonzero(selected & ~kept).flatten()
        if len(open_rows) == 0:
            break
        joined = open_rows[PointTree(points[frontier]).within(points[open_rows], radius)]
        frontier = torch.zeros_like(kept)
        frontier[joined] = True
        kept |= frontier
    return kept


def ball_query(
    means: Tensor, selected: Tensor, radius: float | None = None, quantile: float = 1.0, among: Tensor | None = None
) -> Tensor:
    """Take in every Gaussian that lies within a radius of a selected one: what the threshold missed inside an object.

    Args:
        means: [N, 3] centres.
        selected: bool [N].
        radius: in the units of `means`; the selection's own `neighbour_radius` where None.
        quantile: see `neighbour_radius`.
        among: bool [N], Gaussians that may be taken in; all where None.

    Returns:
        bool [N], a superset of `selected`.
    """
    return _ball_query(means.detach(), selected, PointTree(means.detach()[selected]), radius, quantile, among)


def _ball_query(
    points: Tensor,
    selected: Tensor,
    tree: PointTree,
    radius: float | None = None,
    quantile: float = 1.0,
    among: Tensor | None = None,
) -> Tensor:
    """As `ball_query`, with a tree of the selected points."""
    grown, inside = selected.clone(), tree.points
    if len(tree) == 0:
        return grown
    radius = _radius(tree, quantile) if radius is None else radius
    low, high = inside.amin(dim=0) - radius, inside.amax(dim=0) + radius
    near = ((points >= low) & (points <= high)).all(dim=1) & ~selected
    if among is not None:
        near &= among
    rows = torch.nonzero(near).flatten()
    if len(rows):
        grown[rows] = tree.within(points[rows], radius)
    return grown


def clean_up(
    means: Tensor, selected: Tensor, neighbours: int = 8, deviations: float = 3.0, groups: Tensor | None = None
) -> Tensor:
    """Drop the outliers of a selection, then take in what lies between its Gaussians.

    The statistical filter, then a ball query of which those stay that have the selection around them: their
    `neighbours`-th nearest selected Gaussian is no farther than the same one of the others. The query alone takes in
    whatever touches the object, too, such as the floor that it stands on.

    Args:
        means: [N, 3] centres.
        selected: bool [N].
        neighbours: how many on each side are compared.
        deviations: of the statistical filter; one, its own default, takes a tenth of every object along its edges.
        groups: int [N], 0 = none. With them each object that is selected (see `named_groups`) is cleaned by itself: a
            dense one must not make a sparse one an outlier. Strays of others are compared with the largest.

    Returns:
        bool [N].
    """
    points = means.detach()
    named = [] if groups is None else named_groups(selected, groups)
    if len(named) > 1:
        cleaned = torch.zeros_like(selected)
        strays = selected.clone()
        for rows in named[1:]:
            part = torch.zeros_like(selected)
            part[rows] = True
            strays &= ~part
            cleaned |= clean_up(means, part, neighbours, deviations)
        return cleaned | clean_up(means, strays, neighbours, deviations)
    kept = statistical_filter(points, selected, deviations)
    # The largest gap but for a hundredth: a single outlier must not set the radius.
    tree = PointTree(points[kept])
    rows = torch.nonzero(_ball_query(points, kept, tree, quantile=0.99) & ~kept).flatten()
    count = min(neighbours, int(kept.sum()), int((~kept).sum()) - 1)
    if len(rows) and count > 0:
        own = tree.nearest(points[rows], count)[0][:, -1]
        # Others that lie farther outside than any of these distances decide nothing.
        low, high = points[rows].amin(dim=0) - own.max(), points[rows].amax(dim=0) + own.max()
        others = points[~kept & ((points >= low) & (points <= high)).all(dim=1)]
        found = PointTree(others).nearest(points[rows], count + 1)[0]  # itself among them
        enough = found.shape[1] > count
        kept[rows if not enough else rows[own <= found[:, -1]]] = True
    return kept


def validated(inside: Tensor, outside: Tensor, least: float = 0.5) -> Tensor:
    """Gaussians that a 2D mask confirms: what they add to the view falls mostly into it.

    The official code finds them by the gradient of a rendered scalar; the sums of contributions say the same exactly.

    Args:
        inside: [N] summed contribution to the mask's pixels (see `gseg_ns.rendering.vote`).
        outside: [N] summed contribution to the view's other pixels.
        least: share that must fall into the mask.

    Returns:
        bool [N]; never one that the view does not see.
    """
    return (inside > 0) & (inside >= least * (inside + outside))
