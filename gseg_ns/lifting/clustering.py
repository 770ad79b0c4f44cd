"""Segment everything: the whole scene into groups at a scale (SAGA, section 3.5)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.lifting.affinity import gated
from gseg_ns.lifting.thresholds import SAME_THING

_ROWS = 1 << 15
"""Gaussians at a time where all are compared with all centres."""


@dataclass(frozen=True)
class ClusterOptions:
    """How a scene is divided into groups."""

    share: float = 0.02
    """Share of the Gaussians that HDBSCAN sees (the paper 0.01, the official code 0.02)."""
    at_least: int = 4000
    """But not fewer than this many, where the scene has them."""
    at_most: int = 20_000
    """Nor more: HDBSCAN's time grows with the square."""
    min_cluster_size: int = 10
    """Sampled Gaussians that a group has at least."""
    epsilon: float = 0.01
    """Groups whose means are nearer than this are one (Euclidean distance of unit vectors)."""
    min_similarity: float = 0.5
    """A Gaussian whose cosine to every group's mean is below this stays noise, group 0."""
    seed: int = 0
    """Seed of the sample that is clustered, the same for all scales."""


def cluster_centres(units: Tensor, min_cluster_size: int, epsilon: float) -> Tensor:
    """Mean directions of the HDBSCAN clusters of some unit vectors; noise forms none.

    A scene may be a single thing, or one at large scales. HDBSCAN can be allowed to answer that, but then does so too
    where features pass from thing to thing (a room of fifteen objects was one group), so it is asked beforehand: where
    nearly all are like the mean of all, these are one, and others are only what forms clusters unlike it.

    Args:
        units: [n, D] unit vectors.
        min_cluster_size: see `ClusterOptions`.
        epsilon: see `ClusterOptions`.

    Returns:
        [C, D] unit vectors, the largest cluster first; C = 0 where all is noise.
    """
    if len(units) < max(min_cluster_size, 2):
        return units.new_zeros(0, units.shape[1])
    mean = F.normalize(units.mean(dim=0), dim=0)
    unlike = int((units @ mean <= SAME_THING).sum())
    if unlike >= 0.05 * len(units):
        return _hdbscan_centres(units, min_cluster_size, epsilon)
    if unlike < min_cluster_size:
        return mean[None]
    centres = _hdbscan_centres(units, min_cluster_size, epsilon)
    return torch.cat([mean[None], centres[centres @ mean <= SAME_THING]])


def _hdbscan_centres(units: Tensor, min_cluster_size: int, epsilon: float) -> Tensor:
    """As `cluster_centres`, but never a single cluster."""
    from sklearn.cluster import HDBSCAN

    # scikit-learn's own epsilon fails under numpy 2.4 when a cluster reaches the root of the tree.
    labels = HDBSCAN(min_cluster_size=min_cluster_size, n_jobs=-1, copy=True).fit_predict(
        units.detach().cpu().double().numpy()
    )
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    if len(names) == 0:
        return units.new_zeros(0, units.shape[1])
    sums = torch.stack([units[torch.from_numpy(labels == name).to(units.device)].sum(dim=0) for name in names])
    merged = _components(torch.cdist(F.normalize(sums, dim=-1), F.normalize(sums, dim=-1)) < epsilon)
    sizes = np.bincount(merged, weights=counts)
    index = torch.from_numpy(merged).to(units.device)
    centres = F.normalize(sums.new_zeros(len(sizes), sums.shape[1]).index_add_(0, index, sums), dim=-1)
    return centres[torch.from_numpy(np.argsort(-sizes, kind="stable")).to(units.device)]


def _components(linked: Tensor) -> np.ndarray[Any, Any]:
    """Connected components [C] of a bool relation [C, C]."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    return connected_components(csr_matrix(linked.cpu().numpy()), directed=False)[1].astype(np.int64)


def assign(features: Tensor, gate: Tensor, centres: Tensor, min_similarity: float) -> Tensor:
    """The group of every Gaussian: 1 + the centre with the largest cosine, or 0.

    Args:
        features: [N, D] ungated.
        gate: [D].
        centres: [C, D] unit vectors in the gated space.
        min_similarity: below this cosine to all centres it is 0.

    Returns:
        [N] int64.
    """
    groups = torch.zeros(len(features), dtype=torch.long, device=features.device)
    if len(centres) == 0:
        return groups
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        best = (gated(features[rows], gate) @ centres.T).max(dim=1)
        groups[rows] = torch.where(best.values >= min_similarity, best.indices + 1, 0)
    return groups


class SceneClusters:
    """Groups of a scene at any scale.

    The sample is drawn once, so that neighbouring scales differ by the scale alone and a change of scale costs one
    HDBSCAN over the sample and one product over all Gaussians. The centres of the last scales are kept.
    """

    def __init__(self, features: Tensor, options: ClusterOptions | None = None, keep: int = 8) -> None:
        """Draw the sample.

        Args:
            features: [N, D] smoothed features, ungated.
            options: how to cluster.
            keep: results remembered.
        """
        self.options = options or ClusterOptions()
        self.features = features.detach()
        count = len(features)
        wanted = min(max(round(count * self.options.share), self.options.at_least), self.options.at_most, count)
        generator = torch.Generator().manual_seed(self.options.seed)
        self._sample = torch.randperm(count, generator=generator)[:wanted].to(features.device)
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()
        self._keep = keep

    def centres(self, gate: Tensor) -> Tensor:
        """Mean directions [C, D] of the groups under a gate [D], the largest first."""
        key = gate.detach().cpu().numpy().tobytes()
        if key not in self._known:
            units = gated(self.features[self._sample], gate)
            self._known[key] = cluster_centres(units, self.options.min_cluster_size, self.options.epsilon)
            while len(self._known) > self._keep:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def assign(self, features: Tensor, gate: Tensor) -> Tensor:
        """Groups [...] int64 of any features [..., D], ungated, e.g. composited ones; 0 is noise."""
        flat = assign(features.reshape(-1, features.shape[-1]), gate, self.centres(gate), self.options.min_similarity)
        return flat.reshape(features.shape[:-1])

    def groups(self, gate: Tensor) -> Tensor:
        """[N] int64 group of each Gaussian under a gate [D]; 0 is noise."""
        return self.assign(self.features, gate)
