"""What hardly shows in any view with masks: its votes are what shines through, and its neighbours know better.

Where only a few views have masks, much of a scene is behind something in all of them. What a Gaussian gives to
pictures through the surface before it is little, and all of it falls into the masks of that surface: the vote calls a
stand within an object the object. Other views look at it from elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gseg_ns.lifting.votes import Lift, ViewVotes
from gseg_ns.neighbours import PointTree

HIDDEN = 0.05
"""A Gaussian shows in a view where it gives this part of what it would give alone. A visible surface is made of many on
top of each other: three views of one object show a median Gaussian to a sixth. On it, 0.03 and 0.1 measure alike."""

NEIGHBOURS = 8

FAINTEST = 1 / 255
"""Opacity at which 3DGS ends a Gaussian."""


@torch.no_grad()
def shown_share(meta: dict[str, Any], votes: ViewVotes) -> Tensor:
    """How much of each Gaussian a view shows.

    Args:
        meta: the view's projection (`gseg_ns.rendering.project`).
        votes: what `view_votes` says of it.

    Returns:
        [N] float32 on the CPU: what it gives to the picture, of what it would give to it without all others. About 0 to
        1; where it reaches in from outside, by a Gaussian whose axes are those of the picture.
    """
    count = meta["means2d"].shape[1]
    rows, place = votes.gaussians.long().unique_consecutive(return_inverse=True)
    given = torch.zeros(len(rows)).index_add_(0, place, votes.weights)
    there = rows.to(meta["means2d"].device)
    means, conics, opacities = (meta[name][0].detach()[there].double() for name in ("means2d", "conics", "opacities"))
    a, b, c = conics.unbind(dim=1)
    determinant = (a * c - b * b).clamp_min(0)
    # The integral of o exp(-q / 2) over all places where that is above FAINTEST; q is of the conic.
    alone = 2 * math.pi * (opacities - FAINTEST) / determinant.sqrt()
    deviations = (torch.stack([c, a], dim=1) / determinant[:, None]).sqrt()
    size = means.new_tensor([meta["width"], meta["height"]])
    low, high = ((edge - means) / deviations for edge in (torch.zeros_like(size), size))
    alone *= (torch.special.ndtr(high) - torch.special.ndtr(low)).prod(dim=1)
    alone = alone.float().cpu()
    shown = torch.zeros(count)
    shown[rows] = torch.where(alone > 0, given / alone, 1.0)
    return shown


@torch.no_grad()
def name_hidden(lifted: Lift, shown: Tensor | None, means: Tensor) -> Lift:
    """Give labelled Gaussians that no view shows the label of most of the nearest that some view shows.

    Where several labels are as many, the voted one stays if it is among them; else the nearest with a label decides.

    Args:
        lifted: what the votes say.
        shown: [N], the largest `shown_share` of each among the views that voted; None where these are all views: what
            is hidden from them is never seen, and what shines through is the best that is known of it.
        means: [N, 3].

    Returns:
        Labels, of the hidden ones sure by the part of their neighbours that have it, and no surer than the vote was.
        All as it was where nothing shows.
    """
    if shown is None:
        return lifted
    shown = shown.to(lifted.labels.device)
    seen = torch.nonzero(shown >= HIDDEN)[:, 0]
    hidden = torch.nonzero((shown < HIDDEN) & (lifted.labels > 0))[:, 0]
    if not len(seen) or not len(hidden):
        return lifted
    places = means.detach().to(lifted.labels.device)
    nearest = PointTree(places[seen]).nearest(places[hidden], NEIGHBOURS)[1]
    around = lifted.labels[seen[nearest]]  # [H, k]
    k = around.shape[1]
    votes = (around[:, :, None] == around[:, None, :]).sum(dim=2)
    rank = 4 * votes + 2 * (around == lifted.labels[hidden, None]) + (around > 0)
    best = (rank * k - torch.arange(k, device=rank.device)).argmax(dim=1, keepdim=True)
    found, share = around.gather(1, best)[:, 0], votes.gather(1, best)[:, 0] / k
    labels, confidence = lifted.labels.clone(), lifted.confidence.clone()
    labels[hidden] = found
    confidence[hidden] = torch.where(found > 0, torch.minimum(share, confidence[hidden]), 0.0)
    return Lift(labels, confidence)
