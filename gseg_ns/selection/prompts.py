"""From a prompt on one view to Gaussians, by their features (SAGA v2, section 3.5; v1, section 3.4).

A prompt is turned into query features taken from the rendered feature image; a Gaussian is selected by the cosine of
its own feature with them. Nothing here knows the method: features [N, D], a gate [D] or none, and an image of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.lifting.likeness import ONE_THING
from gseg_ns.lifting.similarity import similarity

_OPAQUE = 0.5
"""A click where the splat covers less of the pixel than this hits nothing."""


def _no_points() -> Tensor:
    return torch.zeros(0, 2)


@dataclass(frozen=True)
class Prompt:
    """What was marked on a view. At least one positive mark.

    Raises:
        GsegError: nothing positive is marked, or a shape is wrong.
    """

    positive: Tensor = field(default_factory=_no_points)
    """[P, 2] pixels x, y, from the upper left corner."""
    negative: Tensor = field(default_factory=_no_points)
    """[Q, 2]."""
    scribble: Tensor | None = None
    """[H, W] integers: 1 positive, 2 negative, 0 nothing."""
    mask: Tensor | None = None
    """[H, W] bool: the object as seen in this view, drawn or made by SAM."""

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            points = getattr(self, name)
            if points.ndim != 2 or points.shape[1] != 2:
                raise GsegError(f"The {name} points have shape {tuple(points.shape)}; they are pairs of pixels x, y.")
        marked = len(self.positive) > 0
        marked |= self.scribble is not None and bool((self.scribble == 1).any())
        marked |= self.mask is not None and bool(self.mask.any())
        if not marked:
            raise GsegError("The prompt marks nothing positive. Give a point, a scribble or a mask of what you want.")


def pixel_index(points: Tensor, width: int, height: int) -> Tensor:
    """Flat indices y * width + x of [P, 2] points x, y in pixels.

    Raises:
        GsegError: a point lies outside the image.
    """
    cell = points.floor().long()
    inside = (cell >= 0).all(dim=1) & (cell[:, 0] < width) & (cell[:, 1] < height)
    if not bool(inside.all()):
        x, y = points[~inside][0].tolist()
        raise GsegError(f"The point {x:g}, {y:g} is outside the image of {width} x {height} pixels.")
    return cell[:, 1] * width + cell[:, 0]


def kmeans(features: Tensor, count: int, iterations: int = 20) -> Tensor:
    """Spherical k-means, with no chance in it: starts at the mean direction's farthest vectors, one by one.

    Args:
        features: [n, D].
        count: clusters; fewer where there are fewer distinct vectors.
        iterations: at most.

    Returns:
        [C, D] unit vectors, 1 <= C <= count for n >= 1.
    """
    units = F.normalize(features, dim=-1)
    if len(units) == 0:
        return units
    centres = F.normalize(units.mean(dim=0, keepdim=True), dim=-1)
    chosen = [int((units @ centres[0]).argmax())]
    nearest = units @ units[chosen[0]]
    while len(chosen) < count and float(nearest.min()) < 1.0 - 1e-5:
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, units @ units[chosen[-1]])
    centres = units[chosen]
    label = units.new_full((len(units),), -1, dtype=torch.long)
    for _ in range(iterations):
        before, label = label, (units @ centres.T).argmax(dim=1)
        if torch.equal(before, label):
            break
        sums = torch.zeros_like(centres).index_add_(0, label, units)
        empty = torch.bincount(label, minlength=len(centres)) == 0
        centres = torch.where(empty[:, None], centres, F.normalize(sums, dim=-1))
    return centres


def queries(
    prompt: Prompt, feature_image: Tensor, alpha: Tensor | None = None, clusters: int = 5
) -> tuple[Tensor, Tensor]:
    """Positive and negative query features of a prompt.

    Points are looked up; scribbles and masks are summarised by k-means (v1, section 3.4).

    Args:
        prompt: see there.
        feature_image: [H, W, D] rendered features of the view, ungated.
        alpha: [H, W] coverage of the view in 0..1; where given, clicks on empty space are errors and dense prompts
            leave empty pixels out.
        clusters: queries that a dense prompt is summarised by.

    Returns:
        [P, D] positive (P >= 1) and [Q, D] negative.

    Raises:
        GsegError: a point is outside the image or on empty space; a scribble or mask has another size than the view,
            or lies on empty space alone.
    """
    height, width, channels = feature_image.shape
    flat = feature_image.reshape(-1, channels)
    solid = torch.ones(height * width, dtype=torch.bool, device=flat.device)
    if alpha is not None:
        solid = alpha.reshape(-1) >= _OPAQUE

    def looked_up(points: Tensor) -> Tensor:
        index = pixel_index(points, width, height).to(flat.device)
        if not bool(solid[index].all()):
            x, y = points[~solid[index].to(points.device)][0].tolist()
            raise GsegError(f"There is nothing at {x:g}, {y:g}: the splat does not cover that pixel of the view.")
        return flat[index]

    def summarised(region: Tensor, what: str) -> Tensor:
        if not bool(region.any()):
            return flat.new_zeros(0, channels)
        rows = region.to(flat.device).reshape(-1) & solid
        if not bool(rows.any()):
            raise GsegError(f"The {what} lies on empty space: the splat covers none of its pixels.")
        return kmeans(flat[rows], clusters)

    for name in ("scribble", "mask"):
        image = getattr(prompt, name)
        if image is not None and tuple(image.shape) != (height, width):
            raise GsegError(
                f"The {name} has {tuple(image.shape)} pixels (height, width), the view {(height, width)}. "
                "Draw it on the view that is named."
            )
    positive, negative = [looked_up(prompt.positive)], [looked_up(prompt.negative)]
    if prompt.scribble is not None:
        positive.append(summarised(prompt.scribble == 1, "scribble"))
        negative.append(summarised(prompt.scribble == 2, "negative scribble"))
    if prompt.mask is not None:
        positive.append(summarised(prompt.mask, "mask"))
    return torch.cat(positive), torch.cat(negative)


@torch.no_grad()
def adaptive_threshold(scores: Tensor) -> float:
    """Tau of v1's point, scribble and mask prompts: the mean of all Gaussians' positive scores [N]."""
    return float(scores.mean()) if len(scores) else 0.0


def select(
    features: Tensor,
    positive: Tensor,
    negative: Tensor | None = None,
    gate: Tensor | None = None,
    threshold: float | None = ONE_THING,
) -> tuple[Tensor, Tensor]:
    """Gaussians that are more like the positive queries than like the negative ones, and like them at all.

    Args:
        features: [N, D].
        positive: [P, D].
        negative: [Q, D] or None.
        gate: [D] or None.
        threshold: smallest cosine, in [-1, 1]. None: `adaptive_threshold`.

    Returns:
        bool [N], and the positive score [N].

    Raises:
        GsegError: the threshold is outside [-1, 1].
    """
    if threshold is not None and not -1.0 <= threshold <= 1.0:
        raise GsegError(f"A threshold of {threshold} is no cosine. It lies between -1 (everything) and 1 (nothing).")
    score = similarity(features, positive, gate)
    chosen = score > (adaptive_threshold(score) if threshold is None else threshold)
    if negative is not None and len(negative):
        chosen &= score > similarity(features, negative, gate)
    return chosen, score


def groups_of(prompt: Prompt, labels: Tensor, cover: float = 0.5) -> Tensor:
    """Groups that a prompt means, for methods that know groups alone.

    A point or a scribble means the group beneath it; a mask means every group that it covers by more than `cover` of
    what is visible of it. Negative marks take groups out again. Group 0 is no group.

    Args:
        prompt: see there.
        labels: [H, W] integer label image of the view.
        cover: share.

    Returns:
        sorted int64 ids, possibly none.

    Raises:
        GsegError: as `queries`.
    """
    height, width = labels.shape
    flat = labels.reshape(-1).long()
    wanted = [flat[pixel_index(prompt.positive, width, height).to(flat.device)]]
    refused = [flat[pixel_index(prompt.negative, width, height).to(flat.device)]]
    for name in ("scribble", "mask"):
        image = getattr(prompt, name)
        if image is not None and tuple(image.shape) != (height, width):
            raise GsegError(f"The {name} has {tuple(image.shape)} pixels (height, width), the view {(height, width)}.")
    if prompt.scribble is not None:
        strokes = prompt.scribble.to(flat.device).reshape(-1)
        wanted.append(flat[strokes == 1])
        refused.append(flat[strokes == 2])
    if prompt.mask is not None:
        inside = prompt.mask.to(flat.device).reshape(-1)
        seen = torch.bincount(flat.clamp_min(0))
        covered = torch.bincount(flat[inside].clamp_min(0), minlength=len(seen))
        wanted.append(torch.nonzero(covered > cover * seen).flatten())
    ids = torch.cat(wanted).unique()
    return ids[(ids > 0) & ~torch.isin(ids, torch.cat(refused))]
