"""One object from its masks in several views, some of which are wrong: views that disagree with the rest count less.

A mask that a tracker carried from a click through pictures is right in most of them, and in some it is another
object's, or a part. Each Gaussian belongs to the object by the part of its contribution that lies in the masks. What
that makes of each view is compared with the view's mask; a view whose residual stands out of all residuals (median and
median absolute deviation) is believed less, and the Gaussians are asked again.

Views around one object see little of what is behind it. What shines through it lies in its masks in all of them, and
that says nothing: a Gaussian that shows hardly any of itself is taken away where those around it that do are not the
object's. None is added so.

Of a thing of few Gaussians each is a good part of what is seen. One that is in doubt is therefore asked alone: whether
the masks are met better with it or without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
PARTS = (PART, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15)
"""The same, of which the first is taken that is not plainly worse than another: of a thing of few and soft Gaussians,
there are some that are more of it than of any other one thing, and yet by far less than half."""
_PLAINLY = 0.03
"""Of a mean residual."""
_FAR = 4.0
"""Deviations beyond which a view is not believed at all."""
_NARROW = 0.03
"""Residual that is no sign of anything: without it, views that agree well would doubt each other."""
_DEVIATION = 1.4826
"""Of a normal distribution, in median absolute deviations."""
_ALIKE = 3.0
"""Times as large or as small as in most views, up to which what a mask shows may be the object at first sight."""
_TRACE = 0.05
"""Pixels that a Gaussian must give to all views together, to be of anything."""
_HIDDEN = 0.05
"""Part of what a Gaussian would give to the views if nothing stood before it, below which it is hidden in them."""
_SEEN = 0.25
"""The same part, from which on it is seen well enough to judge those that are hidden: what lies at the rim of what an
object hides is seen in part, there where the masks' borders are."""
_MATTERS = 0.002
"""Of what an object shows in all views, in doubt about which a Gaussian is asked alone."""
_ASKED = 64
"""Gaussians that are asked alone at most: those about which most is in doubt."""
_CHANNELS = 16
"""Choices drawn at a time: each is a number a Gaussian, of all that the splat has."""
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

    least: float
    """Part from which on a Gaussian is of the object, but for those that were asked alone."""
    selected: Tensor  # [N]
    """bool."""


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
    # Of what a view shows alone: of all Gaussians they would be many times as large as the splat, too.
    sizes = [_sizes(splats.means, camera, said.gaussians) for said, (camera, _) in zip(votes, views, strict=True)]
    weights = _alike(votes, sizes)
    weights[list(sure)] = 1.0
    part, residuals, least = _parts(votes, sizes, weights, len(splats)), torch.zeros(len(views)), PART
    for _ in range(ROUNDS):
        chosen = torch.stack([part > one for one in PARTS], dim=1).to(splats.device)
        each = torch.stack([_residuals(drawn(camera), chosen, mask) for camera, mask in views])
        of_all = (each * weights[:, None]).sum(dim=0) / weights.sum().clamp_min(1e-12)
        best = int((of_all <= of_all.min() + _PLAINLY).int().argmax())
        least, residuals = PARTS[best], each[:, best]
        weights = believed(residuals)
        weights[list(sure)] = 1.0
        part = _parts(votes, sizes, weights, len(splats))

    seen = sum((_total(said, len(splats)) for said in votes), torch.zeros(len(splats)))
    alone = sum((_unhindered(drawn(camera)) for camera, _ in views), torch.zeros(len(splats)))
    share = torch.where(alone > 0, seen / alone.clamp_min(1e-12), 1.0)
    part = _sided(splats.means.cpu(), part, share, least)
    believed_of = zip(votes, weights.tolist(), strict=True)
    seen = sum((weight * _total(said, len(splats)) for said, weight in believed_of), torch.zeros(len(splats)))
    chosen = part > least

    def residual(choices: Sequence[frozenset[int]]) -> list[float]:
        off, on_device = torch.zeros(len(choices), dtype=torch.float64), chosen.to(splats.device)
        for (camera, mask), weight in zip(views, weights.tolist(), strict=True):
            if weight > 0:
                off += weight * _residuals_of_changes(drawn(camera), on_device, choices, mask)
        return (off / max(float(weights.sum()), 1e-12)).tolist()  # type: ignore[no-any-return]

    return Carried(part, weights, residuals, least, _asked_alone(part, chosen, seen, residual))


def _asked_alone(
    part: Tensor, chosen: Tensor, seen: Tensor, residual: Callable[[Sequence[frozenset[int]]], list[float]]
) -> Tensor:
    """A choice of Gaussians, those in doubt by what drawing it with or without each of them makes of the views.

    Args:
        part: [N], of each Gaussian in the masks.
        chosen: bool [N].
        seen: [N], what each gives to the views that are believed, pixels.
        residual: mean residuals of choices, each told by the Gaussians in which it differs from `chosen`; is asked of
            none twice.

    Returns:
        bool [N].
    """
    doubt = seen * torch.minimum(part, 1 - part)
    count = min(_ASKED, int((doubt > _MATTERS * seen[chosen].sum()).sum()))
    if count == 0 or not bool(chosen.any()):
        return chosen
    asked: list[int] = doubt.topk(count).indices.tolist()
    known: dict[frozenset[int], float] = {}

    def off(choices: list[frozenset[int]]) -> list[float]:
        new = [changes for changes in choices if changes not in known]
        known.update(zip(new, residual(new) if new else [], strict=True))
        return [known[changes] for changes in choices]

    changed: frozenset[int] = frozenset()
    for _ in range(ROUNDS):
        before, *each = off([changed, *(changed ^ {number} for number in asked)])
        better = [number for number, residual_of in zip(asked, each, strict=True) if residual_of < before]
        if not better:
            break
        # All that help alone may be too many together.
        every, one = changed.symmetric_difference(better), changed ^ {asked[each.index(min(each))]}
        changed = every if off([every])[0] < min(each) else one
    result = chosen.clone()
    result[list(changed)] ^= True
    return result


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


def _sided(means: Tensor, part: Tensor, share: Tensor, least: float) -> Tensor:
    """The parts [N], without hidden Gaussians most of whose nearest seen neighbours are not of the object.

    Args:
        means: [N, 3].
        part: [N].
        share: [N], what each shows of itself in all views together.
        least: part from which on a Gaussian is of the object.
    """
    asked = ((share < _HIDDEN) & (part > least)).nonzero().squeeze(1)
    seen = (share >= _SEEN).nonzero().squeeze(1)
    if not len(asked) or not len(seen):
        return part
    near = PointTree(means[seen]).nearest(means[asked], min(_AROUND, len(seen)))[1]
    beside = (part[seen] > least)[near].float().mean(dim=1)
    return part.index_put((asked[beside <= 0.5],), torch.zeros(()))


def believed(residuals: Tensor) -> Tensor:
    """How far views are believed [V], by how far their residuals [V] stand out of the rest."""
    middle = residuals.median()
    spread = _DEVIATION * (residuals - middle).abs().median() + _NARROW
    off = ((residuals - middle) / spread / _FAR).clamp(0, 1)
    return (1 - off**2) ** 2


def _sizes(means: Tensor, camera: Camera, shown: Tensor) -> Tensor:
    """Area that a pixel of a view covers where each of some Gaussians is, in squared units of the scene.

    Args:
        means: [N, 3].
        camera: of the view.
        shown: [nnz] on the CPU, which Gaussians, as votes have them.

    Returns:
        [nnz] float32, on the CPU.
    """
    view, K = camera.viewmat.to(means), camera.K.to(means)
    depth = means.detach() @ view[2, :3] + view[2, 3]
    return (depth[shown.to(depth.device).long()].square() / (K[0, 0] * K[1, 1])).cpu()


def _alike(votes: Sequence[ViewVotes], sizes: Sequence[Tensor]) -> Tensor:
    """1 for the views [V] that are asked first: those whose masks show about as large a thing as most do, 0 for others.

    Where a mask has jumped to the floor below a small thing, it shows so much that no other view sees, and says it so
    loud, that views which are right could not be told by what all of them say together.
    """
    areas = torch.stack([
        (said.weights * size * (said.labels == 2)).sum()
        for said, size in zip(votes, sizes, strict=True)
    ])  # fmt: skip
    there = areas > 0
    if not bool(there.any()):
        return torch.ones(len(areas))
    middle = areas[there].median()
    return ((areas < _ALIKE * middle) & (areas * _ALIKE > middle)).float()


def _parts(votes: Sequence[ViewVotes], sizes: Sequence[Tensor], weights: Tensor, count: int) -> Tensor:
    """The part [N] of each Gaussian's contribution that lies in masks; `sizes` of what each view shows, as its votes.

    In area of what is seen and not in pixels, of which a view from near has many more: it would outvote all others
    about what it shows by the way, also where its mask is wrong.
    """
    table, pixels = torch.zeros(count, 2), torch.zeros(count)
    for said, size, weight in zip(votes, sizes, weights.tolist(), strict=True):
        pixels.index_add_(0, said.gaussians.long(), said.weights * weight)
        for column in (0, 1):
            here = said.labels == column + 1
            rows = said.gaussians[here].long()
            table[:, column].index_add_(0, rows, said.weights[here] * size[here] * weight)
    total = table.sum(dim=1)
    return torch.where((pixels > _TRACE) & (total > 0), table[:, 1] / total.clamp_min(1e-30), 0)


def _residuals(meta: dict[str, Any], chosen: Tensor, mask: Tensor) -> Tensor:
    """1 - IoU of a view's mask [H, W] with each choice of Gaussians [N, K], drawn: [K] on the CPU."""
    return _residuals_of_values(meta, (chosen & visible(meta)[0][:, None]).float(), mask)


def _residuals_of_values(meta: dict[str, Any], values: Tensor, mask: Tensor) -> Tensor:
    """The same of choices as float32 [N, K], 1 or 0."""
    found = composite(meta, values).cpu() > 0.5
    mask = mask.cpu()[..., None]
    union, both = (found | mask).sum(dim=(0, 1)), (found & mask).sum(dim=(0, 1))
    return torch.where(union > 0, 1 - both / union.clamp_min(1), 0.0)


def _residuals_of_changes(
    meta: dict[str, Any], chosen: Tensor, choices: Sequence[frozenset[int]], mask: Tensor
) -> Tensor:
    """1 - IoU of a view's mask with choices that differ from one in few Gaussians, each drawn.

    Args:
        meta: projection of the view.
        chosen: [N] bool, on the device of the projection.
        choices: K of them, by the Gaussians in which each differs from `chosen`.
        mask: [H, W] bool.

    Returns:
        [K] float32 on the CPU.
    """
    shown = visible(meta)[0]
    numbers = sorted(frozenset[int]().union(*choices))
    hidden = frozenset(torch.tensor(numbers, dtype=torch.long)[~shown.cpu()[numbers]].tolist())
    # Many differ in nothing that this view shows.
    places: dict[frozenset[int], int] = {}
    which = [places.setdefault(changes - hidden, len(places)) for changes in choices]
    different, found = list(places), []
    for start in range(0, len(different), _CHANNELS):
        portion = different[start : start + _CHANNELS]
        values = (chosen & shown).float()[:, None].repeat(1, len(portion))
        for column, changes in enumerate(portion):
            rows = list(changes)
            values[rows, column] = 1 - values[rows, column]
        found.append(_residuals_of_values(meta, values, mask))
    return torch.cat(found)[which]
