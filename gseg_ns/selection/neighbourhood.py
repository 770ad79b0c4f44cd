"""Growing, shrinking and cleaning a selection by who is next to whom.

All lengths are multiples of the spacing of the Gaussians themselves, so nothing depends on the scale of the scene.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
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
    def _edges(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Neighbours int32 [N, k], whether each is within reach, bool [N, k], and how far that is."""
        distances, indices = (found.numpy() for found in self._tree.others(self._k))
        limit = float(self._reach * np.median(distances)) if distances.size else 0.0
        return indices.astype(np.int32), distances <= limit, limit

    @property
    def _graph(self) -> tuple[np.ndarray, np.ndarray]:
        return self._edges[:2]

    def edited(self, means: Tensor) -> Neighbourhood:
        """The graph after some centres moved and others were appended: only around those it is looked for anew.

        How far neighbours reach stays what it is here.

        Args:
            means: [M, 3], the first N those of this graph or where they are now.
        """
        points, former = means.detach().cpu(), self._tree.points
        count = len(former)
        changed = torch.ones(len(points), dtype=torch.bool)
        changed[:count] = (points[:count] != former).any(dim=1)
        if not bool(changed.any()):
            return self
        indices, near, limit = self._edges
        moved = changed[:count]
        asked = changed.clone()
        # Whose neighbour went away, and to whom one came.
        beside = torch.nonzero(_within_box(former, former[moved], limit) & ~moved)[:, 0]
        asked[beside] = torch.from_numpy((moved.numpy()[indices[beside]] & near[beside]).any(axis=1))
        beside = torch.nonzero(_within_box(points, points[changed], limit) & ~changed)[:, 0]
        asked[beside] |= PointTree(points[changed]).within(points[beside], limit)
        around = _within_box(points, points[changed], 2 * limit) | _within_box(points, former[moved], 2 * limit) | asked
        rows = torch.nonzero(around)[:, 0]
        place = around.long().cumsum(0) - 1
        distances, found = PointTree(points[rows]).others(self._k, place[asked])
        after = Neighbourhood(points, self._k, self._reach)
        new_indices = np.zeros((len(points), self._k), np.int32)
        new_near = np.zeros((len(points), self._k), bool)
        new_indices[:count], new_near[:count] = indices, near
        chosen, columns = torch.nonzero(asked)[:, 0].numpy(), found.shape[1]
        new_near[chosen] = False
        new_indices[chosen, :columns] = rows[found].numpy()
        new_near[chosen, :columns] = distances.numpy() <= limit
        after.__dict__["_edges"] = new_indices, new_near, limit
        return after

    def grow(self, mask: Tensor, steps: int = 1) -> Tensor:
        """Add every Gaussian that is a neighbour of a selected one.

        Args:
            mask: bool [N].
            steps: how often.

        Returns:
            bool [N]. Nothing grows out of an empty mask.
        """
        indices, near = self._graph
        selected = mask.detach().cpu().numpy().copy()
        for _ in range(steps):
            grown = selected | (selected[indices] & near).any(axis=1)
            grown[indices[selected][near[selected]]] = True  # being a nearest neighbour is not mutual
            selected = grown
        return torch.from_numpy(selected).to(mask.device)

    def shrink(self, mask: Tensor, steps: int = 1) -> Tensor:
        """Drop every Gaussian that is a neighbour of one outside: the complement grows."""
        return ~self.grow(~mask, steps)


def _within_box(points: Tensor, inside: Tensor, margin: float) -> Tensor:
    """Which points [P, 3] are in the box around others [Q, 3] and a margin: bool [P]."""
    if len(inside) == 0:
        return torch.zeros(len(points), dtype=torch.bool)
    return ((points >= inside.amin(dim=0) - margin) & (points <= inside.amax(dim=0) + margin)).all(dim=1)


def pieces(means: Tensor, mask: Tensor, extents: Tensor | None = None, k: int = 16, reach: float = 3.0) -> Tensor:
    """The connected parts of a selection.

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
        int64 [N]: the number of each one's piece from 0, -1 outside of `mask`.
    """
    result = torch.full(mask.shape, -1, dtype=torch.int64, device=mask.device)
    chosen = torch.nonzero(mask)[:, 0]
    count = len(chosen)
    if count <= 2:
        result[chosen] = 0
        return result
    k = min(k, count - 1)
    distances, indices = (found.numpy() for found in PointTree(means[chosen].detach().cpu()).others(k))
    if extents is None:
        sizes = np.full(count, 0.5 * np.median(distances[:, : min(k, 8)]))
    else:
        sizes = extents[chosen].detach().to("cpu", torch.float32).numpy()
    near = distances <= reach * (sizes[:, None] + sizes[indices])
    rows, columns = np.repeat(np.arange(count), k).reshape(count, k)[near], indices[near]
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1].astype(np.int64)
    result[chosen] = torch.from_numpy(labels).to(mask.device)
    return result


def largest_component(
    means: Tensor,
    mask: Tensor,
    extents: Tensor | None = None,
    k: int = 16,
    reach: float = 3.0,
    groups: Tensor | None = None,
) -> Tensor:
    """Keep the largest connected part of a selection, or of each object that is selected.

    Args:
        means: [N, 3] centres.
        mask: bool [N].
        extents: see `pieces`.
        k: see `pieces`.
        reach: see `pieces`.
        groups: int [N], 0 = none. With them, of each group that is selected (half of it at least, see `named_groups`)
            the piece with most of it stays, too; without, the largest of all alone.

    Returns:
        bool [N], a subset of `mask`.
    """
    piece = pieces(means, mask, extents, k, reach)
    if not bool(mask.any()):
        return mask.clone()
    count = int(piece.max()) + 1
    keep = torch.zeros(count, dtype=torch.bool, device=mask.device)
    keep[torch.bincount(piece[mask], minlength=count).argmax()] = True
    for rows in [] if groups is None else named_groups(mask, groups):
        keep[torch.bincount(piece[rows], minlength=count).argmax()] = True
    return mask & keep[piece.clamp_min(0)]


def named_groups(mask: Tensor, groups: Tensor) -> list[Tensor]:
    """What a selection has of each object that it names: groups of which it holds half at least.

    Of others it holds a few strays.

    Args:
        mask: bool [N].
        groups: int [N], 0 = none.

    Returns:
        Row numbers of the selection, of each such group, the largest first.
    """
    groups = groups.to(mask.device, torch.int64)
    size = int(groups.max()) + 1 if len(groups) else 1
    all_of, chosen = torch.bincount(groups, minlength=size), torch.bincount(groups[mask], minlength=size)
    named = (chosen > 0) & (2 * chosen >= all_of)
    named[0] = False
    order = sorted(torch.nonzero(named)[:, 0].tolist(), key=lambda group: -int(chosen[group]))
    return [torch.nonzero(mask & (groups == group))[:, 0] for group in order]


def middle_extents(log_scales: Tensor) -> Tensor:
    """The middle one of each Gaussian's three standard deviations: [N] from log scales [N, 3].

    Of a disc it is the radius; of a needle, whose longest axis would connect it with anything, the thickness.
    """
    return log_scales.detach().sort(dim=-1).values[..., 1].exp()
