"""An object-level codebook: the code of a mask, a pixel or a Gaussian (Unified-Lift, sections 3.2 and 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.lifting.blocks import SCORES
from gseg_ns.lifting.contrastive import Clusters, cluster, grouped, unit
from gseg_ns.lifting.cross_entropy import cross_entropies, rows_together
from gseg_ns.lifting.linkage import merge
from gseg_ns.transfer import upload

SHOWN = 0.1
"""Part of a mask that a code has to hold before a view shows it."""

NEAR = 0.95
"""Cosine from which the mean features of two masks are taken for one object's. Too high a value gives a large object
several codes, which the masks that they share say (`shared_masks`); too low a one gives several objects one code, which
nothing undoes."""

OFTEN = 5
"""Masks' worth of pixels in which two codes have to be met before a smaller part of them in one mask says something."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of Unified-Lift's terms. Only ratios matter to Adam, within features and within the codebook."""

    contrastive: float
    norm: float
    classification: float
    concentration: float
    log_classes: bool
    """Divide the classification term by ln L."""
    concentration_norm: int
    """1: the l1 norms that Eq. 6 prints; 2: the Euclidean ones of the official code."""


PRESETS: dict[str, LossWeights] = {
    # The paper is silent about the contrastive weight, and has no norm term.
    "paper": LossWeights(1e-6, 0.0, 1e-3, 1e-1, log_classes=False, concentration_norm=1),
    "official": LossWeights(1e-6, 1e-6, 1e-4, 1.0, log_classes=True, concentration_norm=2),
}
"""The published weights: the paper's text, and the training script of the official code."""


@torch.no_grad()
def associate(features: Tensor, codebook: Tensor, labels: Tensor) -> Clusters:
    """How far the masks of a view are each code: softmax of dot products (Eq. 2), in the mean over their pixels.

    Args:
        features: of the pixels, [P, D].
        codebook: [L, D].
        labels: masks of the pixels, [P] integer, on the CPU or where the features are; label 0 is a mask like any
            other, so leave its pixels out if it should get no code.

    Returns:
        Clusters whose centroids are these means, [S, L], on the device of the features.
    """
    index, unique, sizes = grouped(labels, features)
    sums = features.new_zeros(len(unique), len(codebook))
    step = rows_together(len(codebook), features.device.type == "cpu")
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        sums.index_add_(0, index[rows], (features[rows] @ codebook.T).softmax(dim=-1).to(sums.dtype))
    return Clusters(unique, index, sizes, sums / sizes[:, None])


@torch.no_grad()
def assign(clusters: Clusters, area_aware: bool = True) -> Tensor:
    """Pseudo labels: the best one-to-one mapping of a view's masks to codes, for each pixel.

    Args:
        clusters: the masks, from `associate`.
        area_aware: weigh each mask by its pixels (Eq. 5); otherwise each mask counts once (Eq. 3).

    Returns:
        The code of each pixel's mask, [P] int64, on the device of the clusters. A GPU is waited for once where the
        labels are on the CPU: the mapping is found there.

    Raises:
        GsegError: the view has more masks than there are codes.
    """
    num_codes = clusters.centroids.shape[1]
    if len(clusters) > num_codes:
        raise GsegError(
            f"a view has {len(clusters)} masks but the codebook has {num_codes} codes; "
            "raise --pipeline.model.num-codes to at least the number of objects in the scene"
        )
    if len(clusters) == 0:
        return clusters.index
    from scipy.optimize import linear_sum_assignment

    scores = clusters.centroids * clusters.sizes[:, None] if area_aware else clusters.centroids  # [S, L]
    rows, columns = linear_sum_assignment(scores.double().cpu().numpy(), maximize=True)
    codes = torch.empty(len(clusters), dtype=torch.long)
    codes[torch.from_numpy(rows)] = torch.from_numpy(columns).long()
    return upload(codes, clusters.index.device)[clusters.index]


@torch.no_grad()
def mask_directions(features: Tensor, labels: Tensor, min_pixels: int, believed: Tensor | None = None) -> Tensor:
    """Where the features of each mask of a view point in the mean.

    Args:
        features: of the pixels, [P, D].
        labels: masks of the pixels, [P] integer, on the CPU or where the features are; label 0 = no mask.
        min_pixels: masks with no more pixels than this say nothing.
        believed: [P] bool: the other pixels are left out, and do not count.

    Returns:
        [M, D] of unit length, M masks.
    """
    used = (labels != 0).to(features.device)
    if believed is not None:
        used = used & believed
    rows = used.nonzero().squeeze(1)
    found = cluster(unit(features[rows].float()), labels[rows.to(labels.device)])
    return unit(found.centroids[found.sizes > min_pixels])


@torch.no_grad()
def distinct_directions(directions: Tensor, most: int, near: float = NEAR) -> Tensor:
    """Directions for codes to start from: of all that masks show, one for each object.

    Greedily the direction that has most of the remaining ones near it takes these, so the order of masks and views
    matters among equals only, and where there are more than can be had, those that the fewest masks show are missing.

    Args:
        directions: of masks of all views, [M, D] of unit length.
        most: how many are wanted at most.
        near: smallest cosine between a direction and those that it takes.

    Returns:
        [K, D] of unit length, K <= most: means of what was taken, the largest first; among equals the first.
    """
    step = max(SCORES // max(len(directions), 1), 1)

    def neighbours(of: Tensor) -> Tensor:
        """How many of these each direction has near it, [M] int64."""
        counts = torch.zeros(len(directions), dtype=torch.long, device=directions.device)
        for part in of.split(step):
            counts += (directions @ part.T > near).sum(dim=1)
        return counts

    rows = torch.arange(len(directions), device=directions.device)
    remaining = torch.ones_like(rows, dtype=torch.bool)
    counts = neighbours(directions)
    found: list[Tensor] = []
    while len(found) < most and bool(remaining.any()):
        first = torch.where(remaining, counts, -1).argmax()
        cosines = (directions @ directions.index_select(0, first[None]).T).squeeze(1)
        taken = remaining & ((cosines > near) | (rows == first))  # itself also where rounding says otherwise
        members = directions[taken]
        found.append(unit(members.sum(dim=0)))
        counts -= neighbours(members)
        remaining &= ~taken
    return torch.stack(found) if found else directions[:0]


def joined_codes(
    joint: np.ndarray, beside: np.ndarray, least: float, min_pixels: float, pixels_of_mask: float
) -> Tensor:
    """Which codes are one object, by what views say of each pair (`shared_masks`, added up).

    Codes first join whose pixels lie in one mask in `least` of what views show of both. What that leaves of a large
    object, such as a floor, are large pieces: things that stand on it cut its masks, so that two of its pieces lie in
    one mask in 0.2 to 0.7 of what views show of both, but two objects in 0 to 0.08 (small and medium room, pairs met in
    500 pixels or more). So half of `least` is enough for pairs that were met often: one or two wrong masks do not make
    it.

    Args:
        joint: pixels of each pair in one mask, [L, L] symmetric.
        beside: of each pair at all, [L, L].
        least: part of `beside`, in 0..1.
        min_pixels: pairs that were met in fewer stay apart.
        pixels_of_mask: how many a mask has in a view; pairs that were met in `OFTEN` times as many were met often.

    Returns:
        the object of each code, [L] int64 from 0.
    """
    first = merge(joint, beside, least, min_pixels)
    count = int(first.max()) + 1 if len(first) else 0
    pieces = np.zeros((2, count, count), joint.dtype)
    for of_pieces, of_codes in zip(pieces, (joint, beside), strict=True):
        np.add.at(of_pieces, (first[:, None], first[None]), of_codes)
        np.fill_diagonal(of_pieces, 0)
    second = merge(pieces[0], pieces[1], least / 2, max(min_pixels, OFTEN * pixels_of_mask))
    return torch.from_numpy(second[first])


@torch.no_grad()
def matched_and_won(decoded: Tensor, codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """How far the codes of a view's masks are also what its pixels decode to.

    Args:
        decoded: the code with the highest score at each pixel, [P].
        codes: pseudo labels of the pixels from `assign`, [P]: one code a mask.
        num_codes: L.

    Returns:
        matched [L], the pixels of the mask matched to each code; and won [L], the same where the code has the highest
        score at more than half of them, 0 elsewhere.
    """
    matched = codes.new_zeros(num_codes).index_add_(0, codes, torch.ones_like(codes))
    won = torch.zeros_like(matched).index_add_(0, codes, (decoded == codes).long())
    return matched, torch.where(2 * won > matched, matched, 0)


@torch.no_grad()
def mask_answers(labels: Tensor, decoded: Tensor) -> Tensor:
    """What each mask of a view is: the answer that most of its pixels decode to.

    Args:
        labels: the view's label map [H, W], 0 = unlabelled.
        decoded: the answer at each pixel [H, W] int64, 0 = none.

    Returns:
        [labels + 1] int64: 0 for what is no mask, and for masks of which no answer has more than half. Those show
        several objects, or one that the codebook has not learned; what they say of others would be wrong.
    """
    labels, decoded = labels.flatten().long(), decoded.flatten().to(labels.device)
    count, width = int(labels.max()) + 1, int(decoded.max()) + 1
    table = torch.bincount(labels * width + decoded, minlength=count * width).view(count, width)
    most, answer = table.max(dim=1)
    answer = torch.where(2 * most > table.sum(dim=1), answer, 0)
    answer[0] = 0
    return answer


@torch.no_grad()
def shared_masks(decoded: Tensor, codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """Which codes a view takes for one object: those whose pixels lie mostly in the same mask.

    Args:
        decoded: the code that each pixel decodes to, [P].
        codes: pseudo labels of the pixels from `assign`, [P]: one code a mask.
        num_codes: L.

    Returns:
        two symmetric tables [L, L] with zeros on their diagonal, the pixels of the smaller code of each pair: where
        both codes have most of their pixels in one mask, and everywhere. Rows and columns of codes that hold less than
        a tenth of the mask that most of their pixels are in are zero: a few stray pixels say nothing of where a code
        belongs.
    """
    table = codes.new_zeros(num_codes * num_codes)
    table = table.index_add_(0, decoded * num_codes + codes, torch.ones_like(codes)).view(num_codes, num_codes)
    home = table.argmax(dim=1)
    shown = table.amax(dim=1) >= SHOWN * table.sum(dim=0)[home]
    pixels = table.sum(dim=1) * shown
    smaller = torch.minimum(pixels[:, None], pixels[None]).fill_diagonal_(0)
    return torch.where(home[:, None] == home[None], smaller, 0), smaller


def _mean(values: Tensor, believed: Tensor | None) -> Tensor:
    """Mean of values [P], of those that are believed ([P] bool) if given; 0 of none."""
    if believed is None:
        return values.sum() / max(len(values), 1)
    return torch.where(believed, values, 0.0).sum() / believed.sum().clamp_min(1)


def classification_loss(
    features: Tensor, codebook: Tensor, codes: Tensor, log_classes: bool = True, believed: Tensor | None = None
) -> Tensor:
    """Cross entropy of the scores (Eq. 2) of features [P, D] for codes [L, D] with pseudo labels [P] (Eq. 4),
    optionally over ln L; 0 without pixels.

    With `believed` [P] bool the other pixels are left out.
    """
    targets = codes if believed is None else torch.where(believed, codes, -1)
    loss = cross_entropies(features, codebook, codebook.new_zeros(len(codebook)), targets)
    loss = loss / (targets >= 0).sum().clamp_min(1)
    return loss / math.log(max(len(codebook), 2)) if log_classes else loss


def concentration_loss(
    features: Tensor, codebook: Tensor, codes: Tensor, order: int = 2, believed: Tensor | None = None
) -> Tensor:
    """Mean distance between the normalised features [P, D] and the codes [L, D] of their pseudo labels [P] (Eq. 6).

    `order` is the norm of both the scaling and the distance: 1 as printed, 2 as in the official code. With `believed`
    [P] bool the other pixels are left out.
    """
    directions = features / features.norm(p=order, dim=-1, keepdim=True).clamp_min(1e-9)
    return _mean((codebook[codes] - directions).norm(p=order, dim=-1), believed)
