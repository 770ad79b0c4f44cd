"""Contrast between the masks of one view: Unified-Lift section 3.1 (Eq. 1) and its noise measure (Eq. 7).

Labels are only compared within a view, so they need not agree between views, and relabelling a view changes nothing.
Every sum over the pixels of a cluster is one indexed addition: no loop over clusters.

Labels may be on the CPU where features are on a GPU: then what is in which cluster is settled on the CPU, and the GPU
is never waited for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.transfer import upload


@dataclass(frozen=True)
class Clusters:
    """The pixels of one view grouped by their mask."""

    labels: Tensor
    """Mask label of each cluster, ascending, [S] int64."""
    index: Tensor
    """Cluster of each pixel, [P] int64 in 0..S-1."""
    sizes: Tensor
    """Pixels of each cluster, [S], in the dtype of the features."""
    centroids: Tensor
    """Mean feature of each cluster, [S, D]."""

    def __len__(self) -> int:
        """The number of clusters S."""
        return self.labels.shape[0]


def cluster(features: Tensor, labels: Tensor) -> Clusters:
    """Group pixels by label and average their features.

    Args:
        features: [P, D].
        labels: [P] integer; any values; on the CPU or where the features are.

    Returns:
        The clusters, on the device of the features; gradients reach `features` through the centroids.
    """
    index, unique, sizes = grouped(labels, features)
    sums = features.new_zeros((unique.shape[0], features.shape[1])).index_add(0, index, features)
    return Clusters(unique, index, sizes, sums / sizes[:, None])


def grouped(labels: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cluster of each pixel [P], label of each cluster [S], and its pixels [S] in the dtype of the features, on their
    device.
    """
    found = labels.long().unique(return_inverse=True, return_counts=True)
    unique, index, counts = (upload(part, features.device) for part in found)
    return index, unique, counts.to(features.dtype)


def temperatures(features: Tensor, clusters: Clusters, factor: float = 10.0, low: float = 0.5) -> Tensor:
    """Temperature of each cluster, wider clusters warmer: clip(factor * phi, low, 1).

    phi_i = sum of ||f - u_i|| over the cluster / (n_i ln(n_i + 10)), as in the official code (after prototypical
    contrastive learning); the paper writes plain dot products.

    Args:
        features: [P, D].
        clusters: of these features.
        factor: multiplies phi; 10 for the loss, 0.1 for the confidence.
        low: smallest temperature; 0.5 for the loss, 0.1 for the confidence.

    Returns:
        [S], without gradient.
    """
    with torch.no_grad():
        distance = (features - clusters.centroids[clusters.index]).norm(dim=-1)
        spread = torch.zeros_like(clusters.sizes).index_add(0, clusters.index, distance)
        phi = spread / (clusters.sizes * (clusters.sizes + 10.0).log())
        return (factor * phi).clamp(low, 1.0)


def unit(features: Tensor, detach_norm: bool = True) -> Tensor:
    """Scale features [..., D] to unit length; the length is a constant for the gradient, as in the official code."""
    norm = features.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return features / (norm.detach() if detach_norm else norm)


def contrastive_loss(
    features: Tensor,  # [P, D]
    labels: Tensor,  # [P] integer
    min_pixels: int = 20,
    scaled: bool = True,
    per_cluster: bool = True,
    train_unlabelled: bool = False,
) -> Tensor:
    """InfoNCE between pixels and the centroids of their view's masks (Eq. 1).

    Args:
        features: rendered features of sampled pixels.
        labels: masks of the pixels; label 0 = no mask.
        min_pixels: clusters with no more samples than this take no part, as in the official code.
        scaled: compare unit vectors, over each cluster's temperature (official code); plain dot products otherwise
            (paper).
        per_cluster: divide the sum over pixels by the number of clusters (official code), else by that of pixels.
        train_unlabelled: let the pixels of label 0 be one more mask (official code); otherwise they take no part.

    Returns:
        A scalar; 0 when fewer than two clusters remain, since there is nothing to tell apart.
    """
    if features.shape[0] == 0:
        return features.sum() * 0.0
    found, index, counts = labels.long().unique(return_inverse=True, return_counts=True)
    keep = ((counts > min_pixels) & ((found != 0) | train_unlabelled))[index].nonzero().squeeze(1)
    features, labels = features[upload(keep, features.device)], labels[keep]
    if scaled:
        features = unit(features)
    clusters = cluster(features, labels)
    if len(clusters) < 2:
        return features.sum() * 0.0
    logits = features @ clusters.centroids.T  # [P, S]
    if scaled:
        logits = logits / temperatures(features, clusters)
    loss = torch.nn.functional.cross_entropy(logits, clusters.index, reduction="sum")
    return loss / (len(clusters) if per_cluster else features.shape[0])


@torch.no_grad()
def uncertainty(features: Tensor, labels: Tensor, scaled: bool = True) -> Tensor:
    """How little each pixel's feature agrees with its own mask among the view's masks: W of Eq. 7.

    Args:
        features: rendered features, [P, D].
        labels: masks of the pixels, [P] integer; label 0 is a cluster like any other here, since it competes.
        scaled: compare unit vectors, over temperatures in [0.1, 1] (official code); plain dot products otherwise
            (paper), which say little until features have grown long.

    Returns:
        [P] in [0, 1).
    """
    if features.shape[0] == 0:
        return features.new_zeros(0)
    if scaled:
        features = unit(features)
    clusters = cluster(features, labels)
    logits = features @ clusters.centroids.T
    if scaled:
        logits = logits / temperatures(features, clusters, factor=0.1, low=0.1)
    confidence = logits.log_softmax(dim=-1).gather(1, clusters.index[:, None]).squeeze(1).exp()
    return 1.0 - confidence


def norm_loss(features: Tensor) -> Tensor:
    """Mean squared departure of feature lengths [..., D] from 1 (in the official code, not in the paper)."""
    if features.numel() == 0:
        return features.sum() * 0.0
    return (features.norm(dim=-1) - 1.0).square().mean()
