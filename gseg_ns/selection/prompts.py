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
from gseg_ns.lifting.similarity import similarity
from gseg_ns.lifting.thresholds import SAME_THING

OPAQUE = 0.5
"""A mark says nothing where the splat covers less of the pixel than this."""

_STRAY = 0.1
"""Part of a mark below which what lies under it may have been hit by accident."""

_PRECISE = 0.5
"""Part of what looks like a small part of a mask that lies in the mask, from which it is meant and not hit by accident:
a handle belongs to a mug whose mask holds all of it, the table to none whose mask holds a few of its pixels."""


def _no_points() -> Tensor:
    return torch.zeros(0, 2)


@dataclass(frozen=True)
class Prompt:
    """What was marked on a view. At least one positive mark.

    Raises:
        GsegError: nothing positive is marked.
        ValueError: a shape is wrong.
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
                raise ValueError(f"The {name} points have shape {tuple(points.shape)}; they are pairs of pixels x, y.")
        marked = len(self.positive) > 0
        marked |= self.scribble is not None and bool((self.scribble == 1).any())
        marked |= self.mask is not None and bool(self.mask.any())
        if not marked:
            raise GsegError("The prompt marks nothing positive. Give a point, a scribble or a mask of what you want.")

    def points(self, positive: bool) -> list[tuple[float, float]]:
        """The positive or the negative points as pairs x, y."""
        return [(x, y) for x, y in (self.positive if positive else self.negative).tolist()]

    def check_size(self, height: int, width: int) -> None:
        """Refuse a scribble or a mask that is not of a view of this size.

        Raises:
            GsegError: it is not.
        """
        for name in ("scribble", "mask"):
            image = getattr(self, name)
            if image is not None and tuple(image.shape) != (height, width):
                raise GsegError(
                    f"The {name} has {tuple(image.shape)} pixels (height, width), the view {(height, width)}. "
                    "Draw it on the view that is named."
                )


def kmeans(features: Tensor, count: int, iterations: int = 20) -> Tensor:
    """Spherical k-means, with no chance in it: starts at the mean direction's farthest vectors, one by one.

    Args:
        features: [n, D].
        count: clusters; fewer where there are fewer distinct vectors.
        iterations: at most.

    Returns:
        [C, D] unit vectors, 1 <= C <= count for n >= 1; none for none.
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


def without_stray(
    features: Tensor, centres: Tensor, image: Tensor | None = None, inside: Tensor | None = None
) -> Tensor:
    """Which pixels of a mark are meant, and not hit by accident: those of clusters that hold a fair part of it.

    Starting at the farthest vectors, k-means gives every outlier a query of its own, and a query selects all that is
    like it: one pixel beside a mask would select the whole neighbour.

    Args:
        features: of the mark's pixels [n, D].
        centres: of their clusters [C, D], unit vectors.
        image: of all pixels of the view [P, D], for a mark that is the whole of what it means (a mask). There a small
            cluster is meant if most of what is like it in the view lies in the mask (as version 1's code keeps clusters
            by their precision).
        inside: [P] bool, which of these the mark holds.

    Returns:
        [n] bool, some of them true.
    """
    own = (F.normalize(features, dim=-1) @ centres.T).argmax(dim=1)
    sizes = torch.bincount(own, minlength=len(centres))
    meant = sizes >= min(_STRAY, 0.5 / len(centres)) * len(features)
    if image is not None and inside is not None and not bool(meant.all()):
        cosine, nearest = (F.normalize(image, dim=-1) @ centres.T).max(dim=1)
        like = torch.where(cosine > SAME_THING, nearest, len(centres))
        seen, held = (torch.bincount(rows, minlength=len(centres) + 1)[:-1] for rows in (like, like[inside]))
        meant |= held >= _PRECISE * seen.clamp_min(1)
    return meant[own]


def mark_queries(
    prompt: Prompt, feature_image: Tensor, alpha: Tensor | None = None, clusters: int = 5
) -> tuple[Tensor, Tensor]:
    """Positive and negative query features of a scribble and a mask, summarised by k-means (v1, section 3.4).

    Pixels that a mark holds by accident have no say, see `without_stray`.

    Args:
        prompt: see there; its points are not looked at.
        feature_image: [H, W, D] rendered features of the view, ungated.
        alpha: [H, W] coverage of the view in 0..1; where given, empty pixels are left out.
        clusters: queries that a mark is summarised by.

    Returns:
        [P, D] positive and [Q, D] negative.

    Raises:
        GsegError: a mark has another size than the view, or lies on empty space alone.
    """
    height, width, channels = feature_image.shape
    flat = feature_image.reshape(-1, channels)
    solid = torch.ones(height * width, dtype=torch.bool, device=flat.device)
    if alpha is not None:
        solid = alpha.reshape(-1) >= OPAQUE

    def summarised(region: Tensor, what: str, whole: bool = False) -> Tensor:
        if not bool(region.any()):
            return flat.new_zeros(0, channels)
        rows = region.to(flat.device).reshape(-1) & solid
        if not bool(rows.any()):
            raise GsegError(f"The {what} lies on empty space: the splat covers none of its pixels.")
        marked = flat[rows]
        while True:
            centres = kmeans(marked, clusters)
            meant = without_stray(marked, centres, *((flat[solid], rows[solid]) if whole else ()))
            if bool(meant.all()):
                return centres
            marked = marked[meant]

    prompt.check_size(height, width)
    positive, negative = [flat.new_zeros(0, channels)], flat.new_zeros(0, channels)
    if prompt.scribble is not None:
        positive.append(summarised(prompt.scribble == 1, "scribble"))
        negative = summarised(prompt.scribble == 2, "negative scribble")
    if prompt.mask is not None:
        positive.append(summarised(prompt.mask, "mask", whole=True))
    return torch.cat(positive), negative


@torch.no_grad()
def adaptive_threshold(scores: Tensor) -> float:
    """Tau of v1's point, scribble and mask prompts: the mean of all Gaussians' positive scores [N]."""
    return float(scores.mean()) if len(scores) else 0.0


def select(
    features: Tensor,
    positive: Tensor,
    negative: Tensor | None = None,
    gate: Tensor | None = None,
    threshold: float | None = SAME_THING,
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


def marked_groups(prompt: Prompt, labels: Tensor, cover: float = 0.5) -> tuple[set[int], set[int]]:
    """Groups that a scribble and a mask mean, for methods that know groups alone.

    A scribble means the groups beneath it, but those of which it holds less than a tenth of what it holds of another:
    a few stray pixels mean nothing. A mask means every group that it covers by more than `cover` of what is visible of
    it. Group 0 is no group.

    Args:
        prompt: see there; its points are not looked at.
        labels: [H, W] integer label image of the view.
        cover: share.

    Returns:
        ids that are wanted, and ids that are refused.

    Raises:
        GsegError: a mark has another size than the view.
    """
    prompt.check_size(*labels.shape)
    flat = labels.reshape(-1).long()
    wanted: set[int] = set()
    refused: set[int] = set()
    if prompt.scribble is not None:
        strokes = prompt.scribble.to(flat.device).reshape(-1)
        for sign, groups in ((1, wanted), (2, refused)):
            found, counts = flat[(strokes == sign) & (flat > 0)].unique(return_counts=True)
            if len(found):
                groups.update(found[counts >= _STRAY * counts.max()].tolist())
    if prompt.mask is not None:
        inside = prompt.mask.to(flat.device).reshape(-1)
        seen = torch.bincount(flat.clamp_min(0))
        covered = torch.bincount(flat[inside].clamp_min(0), minlength=len(seen))
        wanted.update(torch.nonzero(covered > cover * seen).flatten().tolist())
    return wanted - {0}, refused
