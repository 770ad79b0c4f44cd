"""Growing, shrinking and cleaning a selection by who is next to whom.

All lengths are multiples of the spacing of the Gaussians themselves, so nothing depends on the scale of the scene.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gseg_ns.neighbours import PointTree


class Neighbourhood:
    """The k-nearest-neighbour graph of a set of centres. Built on first use, then kept: build one a scene."""

    def __init__(self, means: Tensor, k: int = 8, reach: float = 3.0) -> None:
        """Describe the graph.

        Args:
            means: [N, 3] centres.
            k: neighbours of each Gaussian.
            reach: neighbours farther away than this many times the scene's median neighbour distance are none: a gap
                between two objects is not bridged by the nearest Gaussian across it.
        """
        self._tree = PointTree(means.detach().cpu())
        self._k = min(k, max(len(means) - 1, 0))
        self._reach = reach

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours int32 [N, k], and whether each is within reach, bool [N, k]."""
        distances, indices = (found.numpy() for found in self._tree.others(self._k))
        if self._k == 0:
            return indices.astype(np.int32), distances > 0
        return indices.astype(np.int32), distances <= self._reach * np.median(distances)

    def grow(self, mask: Tensor, steps: int = 1) -> Tensor:
        """Add every Gaussian that is a neighbour of a selected one.

        Args:
            mask: bool [N].
            steps: how often.

        Returns:
            bool [N]. Nothing grows out of an empty mask.
        """
        indices, near = self._edges
        selected = mask.detach().cpu().numpy().copy()
        for _ in range(steps):
            grown = selected | (selected[indices] & near).any(axis=1)
            grown[indices[selected][near[selected]]] = True  # being a nearest neighbour is not mutual
            selected = grown
        return torch.from_numpy(selected).to(mask.device)

    def shrink(self, mask: Tensor, steps: int = 1) -> Tensor:
        """Drop every Gaussian that is a neighbour of one outside: the complement grows."""
        return ~self.grow(~mask, steps)


def largest_component(
    means: Tensor, mask: Tensor, extents: Tensor | None = None, k: int = 16, reach: float = 3.0
) -> Tensor:
    """Keep the largest connected part of a selection.

    Selected Gaussians are connected when one is among the other's `k` nearest selected ones and they touch: their
    centres are no farther apart than `reach` times the sum of their extents, where 3DGS ends them. One distance for all
    would not do: a splat is dense where there is detail, and large Gaussians far apart make one smooth surface.

    Args:
        means: [N, 3] centres.
        mask: bool [N].
        extents: [N] standard deviations (see `middle_extents`). Where None, all have the same: half of the median
            distance between neighbours.
        k: neighbours looked at.
        reach: see above.

    Returns:
        bool [N], a subset of `mask`.
    """
    chosen = torch.nonzero(mask)[:, 0]
    count = len(chosen)
    if count <= 2:
        return mask.clone()
    k = min(k, count - 1)
    distances, indices = (found.numpy() for found in PointTree(means[chosen].detach().cpu()).others(k))
    if extents is None:
        sizes = np.full(count, 0.5 * np.median(distances[:, : min(k, 8)]))
    else:
        sizes = extents[chosen].detach().to("cpu", torch.float32).numpy()
    near = distances <= reach * (sizes[:, None] + sizes[indices])
    rows, columns = np.repeat(np.arange(count), k).reshape(count, k)[near], indices[near]
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    keep = labels == np.bincount(labels).argmax()
    result = torch.zeros_like(mask)
    result[chosen[torch.from_numpy(keep).to(chosen.device)]] = True
    return result


def middle_extents(log_scales: Tensor) -> Tensor:
    """The middle one of each Gaussian's three standard deviations: [N] from log scales [N, 3].

    Of a disc it is the radius; of a needle, whose longest axis would connect it with anything, the thickness.
    """
    return log_scales.detach().sort(dim=-1).values[..., 1].exp()
