"""Nearest points in space: the one search that lifting and selection use.

A k-d tree on the host answers millions of queries in seconds, whatever the device, where the table of all distances
that a GPU would fill grows with the square of their number. The module is of no layer: what it does is geometry, and
lifting, selection and the viewer need it alike.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:  # SciPy takes a third of a second, and who looks for no neighbours needs none of it
    from scipy.spatial import cKDTree

FEW = 4096
"""Up to so many queries are answered on one thread in the order in which they come, and on CUDA without a tree: more
preparation would take longer than the answers, and training would wait for the copy to the host."""

BLOCK = 1 << 24
"""Distances held at once (64 MiB)."""


class PointTree:
    """Points that are asked for those nearest to others. Gradients are not followed."""

    def __init__(self, points: Tensor) -> None:
        """Note the points; they are indexed when first asked.

        Args:
            points: [P, 3] float32, finite; on any device.
        """
        self.points = points.detach()

    def __len__(self) -> int:
        """P, the number of points."""
        return len(self.points)

    @cached_property
    def _tree(self) -> cKDTree:
        # Sliding midpoints: built in half the time, asked as fast, and at home with many points in one place.
        from scipy.spatial import cKDTree

        return cKDTree(_host(self.points), compact_nodes=False, balanced_tree=False)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k points nearest to each query, nearest first.

        Args:
            queries: [Q, 3], on the device of the points.
            k: how many; all points where there are fewer.

        Returns:
            Distances [Q, min(k, P)] float32 and which points these are, int64, on the device of the points.
        """
        queries, k = queries.detach(), min(k, len(self))
        if k == 0 or len(queries) == 0:
            return queries.new_zeros((len(queries), k)), torch.zeros((len(queries), k)).long().to(queries.device)
        if queries.is_cuda and len(queries) <= FEW:
            return by_distances(self.points, queries, k)
        array, ranks = _host(queries), np.arange(1, k + 1)
        distances, index = np.empty((len(array), k), np.float32), np.empty((len(array), k), np.int64)
        for rows in _portions(array, k):
            distances[rows], index[rows] = self._tree.query(array[rows], k=ranks, workers=_workers(array))
        return torch.from_numpy(distances).to(queries.device), torch.from_numpy(index).to(queries.device)

    def others(self, k: int, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The k points nearest to each of the points beside itself, nearest first.

        Args:
            k: how many; all others where there are fewer.
            rows: [Q] int64, the points that are asked about; None: all of them.

        Returns:
            Distances [Q, min(k, P - 1)] float32 and which points these are, int64, on the device of the points.
        """
        own = torch.arange(len(self), device=self.points.device) if rows is None else rows
        distances, index = self.nearest(self.points[own], k + 1)
        # Of points in one place any may come first, and itself may not be among the first k + 1 at all.
        itself = index == own[:, None]
        if index.shape[1]:
            itself[:, -1] |= ~itself.any(dim=1)
        # Not by a mask, whose number of rows the host would have to wait for.
        apart = itself.int().argsort(dim=1, stable=True)[:, : max(index.shape[1] - 1, 0)]
        return distances.gather(1, apart), index.gather(1, apart)

    def within(self, queries: Tensor, radius: float) -> Tensor:
        """Whether each query [Q, 3] has a point no farther away than `radius`: bool [Q]."""
        if len(self) == 0 or len(queries) == 0:
            return torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
        array = _host(queries.detach())
        near = np.empty(len(array), bool)
        # The bound ends the search early; it is exclusive, and squared, so that the least number would be zero.
        bound = radius * (1 + 1e-9) + 1e-150
        for rows in _portions(array, 1):
            found = self._tree.query(array[rows], distance_upper_bound=bound, workers=_workers(array))[0]
            near[rows] = found <= radius
        return torch.from_numpy(near).to(queries.device)


def nearest(points: Tensor, k: int) -> Tensor:
    """The k points nearest to each of the points, itself among them: [P, min(k, P)] int64 on their device."""
    return PointTree(points).nearest(points, k)[1]


def by_distances(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What `PointTree.nearest` answers, by distances in blocks on the device of the points [P, 3]; k <= P."""
    # The shortcut by a matrix product cancels digits of neighbours that are close compared with the scene.
    found = [
        torch.cdist(some, points, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False)
        for some in queries.split(max(1, BLOCK // len(points)))
    ]
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def _host(points: Tensor) -> np.ndarray:
    return points.to("cpu", torch.float32).contiguous().numpy()


def _workers(queries: np.ndarray) -> int:
    return 1 if len(queries) <= FEW else -1


def _portions(queries: np.ndarray, k: int) -> list[np.ndarray]:
    """Rows to ask about at a time: neighbours follow each other, so that what they read is in the cache.

    That is three times as fast as in the order of a splat. In portions since scipy answers in double precision.
    """
    if len(queries) <= FEW:
        return [np.arange(len(queries))]
    from scipy.spatial import cKDTree

    order = cKDTree(queries, compact_nodes=False, balanced_tree=False).indices
    return np.array_split(order, -(-len(order) * k // BLOCK))
