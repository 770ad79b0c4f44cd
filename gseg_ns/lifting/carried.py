"""One object from its masks in several views, some of which are wrong: views that disagree with the rest count less.

A mask that a tracker carried from a click through pictures is right in most of them, and in some it is another
object's, or a part. Each Gaussian belongs to the object by the part of its contribution that lies in the masks. What
that makes of each view is compared with the view's mask; a view whose residual stands out of all residuals (median and
median absolute deviation) is believed less, and the Gaussians are asked again.

Views around one object see little of what is behind it. What shines through it lies in its masks in all of them, and
that says nothing: a Gaussian that shows hardly any of itself is taken away where those around it that do are not the
object's. None is added so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gseg_ns.lifting.votes import ViewVotes, view_votes
from gseg_ns.neighbours import PointTree
from gseg_ns.rendering import Camera, composite, visible
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

ROUNDS = 3
"""Of weighing views; a further one changes next to nothing."""
PART = 0.5
"""Of a Gaussian's contribution that lies in the masks, from which on it is of the object."""
_FAR = 4.0
"""Deviations beyond which a view is not believed at all."""
_NARROW = 0.03
"""Residual that is no sign of anything: without it, views that agree well would doubt each other."""
_DEVIATION = 1.4826
"""Of a normal distribution, in median absolute deviations."""
_TRACE = 0.05
"""Pixels that a Gaussian must give to all views together, to be of anything."""
_HIDDEN = 0.05
"""Part of what a Gaussian would give to the views if nothing stood before it, below which it is hidden in them."""
_SEEN = 0.25
"""The same part, from which on it is seen well enough to judge those that are hidden: what lies at the rim of what an
object hides is seen in part, there where the masks' borders are."""
_AROUND = 8
"""Nearest Gaussians that are seen, by which one that is hidden is judged."""


class Carried(NamedTuple):
    """What masks of one object say together."""

    part: Tensor  # [N] float32 in 0..1
    """Of each Gaussian's contribution, what lies in the masks; 0 where no view saw it."""
    weights: Tensor  # [V] float32 in 0..1
    """How far each view is believed."""
    residuals: Tensor  # [V] float32 in 0..1
    """1 - IoU of each view's mask with what all of them say of it."""

    @property
    def selected(self) -> Tensor:
        """Bool [N]."""
        return self.part > PART


@torch.no_grad()
def lift_object(splats: Splats, views: Sequence[tuple[Camera, Tensor]], sure: Sequence[int] = (0,)) -> Carried:
    """The Gaussians of an object that is masked in several views.

    Args:
        splats: N of them.
        views: cameras, and masks [H, W] bool of the object; one without a pixel says that it is not there.
        sure: views that are always believed: those in which somebody said what is meant.

    Returns:
        on the CPU.
    """

    # Projections are made again each time: those of all views together are many times as large as the splat.
    def drawn(camera: Camera) -> dict[str, Any]:
        return project_splats(splats, camera.to(splats.device))

    votes = [view_votes(drawn(camera), mask.int() + 1) for camera, mask in views]
    weights = torch.ones(len(views))
    part, residuals = _parts(votes, weights, len(splats)), torch.zeros(len(views))
    for _ in range(ROUNDS):
        chosen = (part > PART).to(splats.device)
        residuals = torch.tensor([_residual(drawn(camera), chosen, mask) for camera, mask in views])
        weights = believed(residuals)
        weights[list(sure)] = 1.0
        part = _parts(votes, weights, len(splats))
    seen = sum((_total(said, len(splats)) for said in votes), torch.zeros(len(splats)))
    alone = sum((_unhindered(drawn(camera)) for camera, _ in views), torch.zeros(len(splats)))
    share = torch.where(alone > 0, seen / alone.clamp_min(1e-12), 1.0)
    return Carried(_sided(splats.means.cpu(), part, share), weights, residuals)


def _total(said: ViewVotes, count: int) -> Tensor:
    """What each Gaussian gives to a view [N], pixels."""
    return torch.zeros(count).index_add_(0, said.gaussians.long(), said.weights)


def _unhindered(meta: dict[str, Any]) -> Tensor:
    """What each Gaussian would give to a view if nothing stood before it [N], pixels: the integral of its opacity.

    Those whose centre is outside of the picture say nothing: what of them is inside is not known.
    """
    a, b, c = meta["conics"][0].unbind(dim=-1)
    opacities = meta["opacities"]
    full = 2 * math.pi * (opacities[0] if opacities.dim() == 2 else opacities) / (a * c - b * b).clamp_min(1e-12).sqrt()
    x, y = meta["means2d"][0].unbind(dim=-1)
    inside = visible(meta)[0] & (x >= 0) & (x < meta["width"]) & (y >= 0) & (y < meta["height"])
    return torch.where(inside, full, 0.0).cpu()


def _sided(means: Tensor, part: Tensor, share: Tensor) -> Tensor:
    """The parts [N], without hidden Gaussians most of whose nearest seen neighbours are not of the object.

    Args:
        means: [N, 3].
        part: [N].
        share: [N], what each shows of itself in all views together.
    """
    asked = ((share < _HIDDEN) & (part > PART)).nonzero().squeeze(1)
    seen = (share >= _SEEN).nonzero().squeeze(1)
    if not len(asked) or not len(seen):
        return part
    near = PointTree(means[seen]).nearest(means[asked], min(_AROUND, len(seen)))[1]
    beside = (part[seen] > PART)[near].float().mean(dim=1)
    return part.index_put((asked[beside <= 0.5],), torch.zeros(()))


def believed(residuals: Tensor) -> Tensor:
    """How far views are believed [V], by how far their residuals [V] stand out of the rest."""
    middle = residuals.median()
    spread = _DEVIATION * (residuals - middle).abs().median() + _NARROW
    off = ((residuals - middle) / spread / _FAR).clamp(0, 1)
    return (1 - off**2) ** 2


def _parts(votes: Sequence[ViewVotes], weights: Tensor, count: int) -> Tensor:
    """The part [N] of each Gaussian's contribution that lies in masks."""
    table = torch.zeros(count, 2)
    for said, weight in zip(votes, weights.tolist(), strict=True):
        for column in (0, 1):
            here = said.labels == column + 1
            table[:, column].index_add_(0, said.gaussians[here].long(), said.weights[here] * weight)
    total = table.sum(dim=1)
    return torch.where(total > _TRACE, table[:, 1] / total.clamp_min(1e-12), 0)


def _residual(meta: dict[str, Any], chosen: Tensor, mask: Tensor) -> float:
    shown = visible(meta)[0]
    found = composite(meta, (chosen & shown).float()[:, None])[..., 0].cpu() > PART
    mask = mask.cpu()
    union = int((found | mask).sum())
    return 1 - int((found & mask).sum()) / union if union else 0.0
