"""Floaters: Gaussians that are called an object and are no part of what the views show of it.

A radius alone would take the handle of a pan along, or leave what floats close by. Asked are the views.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gseg_ns.neighbours import PointTree
from gseg_ns.objects.boxes import OrientedBox, fit_box
from gseg_ns.objects.evidence import Evidence
from gseg_ns.selection.neighbourhood import middle_extents, pieces
from gseg_ns.splats import Splats

SHOWN_AS = 0.5
"""A Gaussian is shown as its object where at least this part of its weight falls on the object's pixels: of what it
gives to pictures, most is seen as something else otherwise, the wall that it floats in front of."""

UNSEEN = 0.5
"""Of what gives less than this many pixels, in all views together, the views say nothing."""

CRUMB = 0.01
"""A piece apart from the rest with less than this part of the object's weight is no part that a mask shows."""

NEAR = 0.2
"""Unless it lies in the box of the larger pieces, or no farther from it than this part of half its longest side."""

TOUCHING = 3.0
"""Gaussians touch where their centres are no farther apart than this many times their extents together."""


@torch.no_grad()
def find_floaters(splats: Splats, groups: Tensor, evidence: Evidence | None = None) -> Tensor:
    """Which Gaussians float.

    Of each object, those that the views show as it are taken, without crumbs: pieces apart from the rest that are next
    to nothing in the views. What no view sees (the inside, a back that stands against a wall) floats where it does not
    hang together with them. What is seen, but as something else, floats where it does not touch them or sticks out of
    their box.

    Args:
        splats: N Gaussians.
        groups: int [N]; what is in no group (0) does not float.
        evidence: of these N rows; None where no view can be asked: then crumbs alone float.

    Returns:
        bool [N] on the device of the splats.
    """
    floating = torch.zeros(len(splats), dtype=torch.bool, device=splats.device)
    order = groups.to(splats.device).argsort(stable=True)
    names, counts = groups.to(splats.device)[order].unique_consecutive(return_counts=True)
    for name, rows in zip(names.tolist(), order.split(counts.tolist()), strict=True):
        if name > 0:
            known = None if evidence is None else evidence.rows(rows)
            floating[rows] = _floating(splats.subset(rows), known)
    return floating


def _floating(splats: Splats, evidence: Evidence | None) -> Tensor:
    """Which Gaussians of one object float: bool [n]."""
    weights = torch.ones(len(splats), device=splats.device)
    shown, unseen = weights > 0, weights < 0
    if evidence is not None and bool(is_shown(evidence).any()):  # else they cannot say what of it floats
        weights, shown, unseen = evidence.own, is_shown(evidence), evidence.total < UNSEEN
    extents = middle_extents(splats.scales)
    piece = pieces(splats.means, shown, extents, reach=TOUCHING)
    heavy = torch.zeros(int(piece.max()) + 1, device=splats.device).index_add_(0, piece[shown], weights[shown])
    large = heavy >= CRUMB * heavy.sum()
    large[heavy.argmax()] = True
    taken = shown & large[piece.clamp_min(0)]
    crumbs = torch.nonzero(shown & ~taken)[:, 0]
    if len(crumbs):  # a wire is many crumbs, since its Gaussians are needles far apart
        box = fit_box(splats.subset(taken), weights[taken])
        taken[crumbs[_within(box, splats.means[crumbs], NEAR * max(box.half_sizes))]] = True
    held = taken.clone()
    if bool(unseen.any()):
        piece = pieces(splats.means, taken | unseen, extents, reach=TOUCHING)
        with_taken = torch.zeros(int(piece.max()) + 1, dtype=torch.bool, device=splats.device)
        with_taken[piece[taken]] = True
        held |= unseen & with_taken[piece.clamp_min(0)]
    rest = torch.nonzero(~shown & ~unseen)[:, 0]
    if len(rest):
        distance, nearest = PointTree(splats.means[taken]).nearest(splats.means[rest], 1)
        touching = distance[:, 0] <= TOUCHING * (extents[rest] + extents[taken][nearest[:, 0]])
        box = fit_box(splats.subset(taken), weights[taken])
        held[rest[touching & _within(box, splats.means[rest])]] = True
    return ~held


def _within(box: OrientedBox, points: Tensor, margin: float = 0.0) -> Tensor:
    """Which points [n, 3] are in a box and a margin: bool [n]."""
    return torch.from_numpy(box.contains(points.cpu().double().numpy(), margin)).to(points.device)


def is_shown(evidence: Evidence) -> Tensor:
    """Which Gaussians the views show as their object: bool [N]."""
    return (evidence.total >= UNSEEN) & (evidence.own >= SHOWN_AS * evidence.total)
