"""Agreement of neighbours in 3D: the KL losses that carry identity to Gaussians that no pixel supervises.

Global neighbours: Gaussian Grouping's `loss_cls_3d`, which Gaga uses as it is. Local adaptive neighbours
(LA-KNN): GradiSeg, section 3.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gseg_ns.neighbours import PointTree

LOG_FLOOR = 1e-10
"""Added inside the logarithms, as the official code does."""

POOL_LIFETIME = 50
"""Calls that one random pool of a scene with more than `max_points` Gaussians serves."""


class NeighbourSearch:
    """Exact nearest neighbours among at most `max_points` Gaussians.

    Their index is kept for as long as the positions are unchanged. In a scene with more Gaussians than `max_points` the
    pool is a random subset, redrawn every `POOL_LIFETIME` calls.
    """

    def __init__(self, max_points: int = 200_000) -> None:
        if max_points < 2:
            raise ValueError(f"max_points is {max_points}; a neighbour search needs at least 2")
        self.max_points = max_points
        self.pool: Tensor = torch.empty(0, dtype=torch.long)
        """Ids of the Gaussians searched, [P] int64."""
        self._points: PointTree | None = None
        self._source: Tensor | None = None
        self._calls = 0

    def refresh(self, positions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Index `positions` if they changed since the last call.

        Args:
            positions: [N, 3]; gradients are not followed.
            generator: random numbers for the pool, on the CPU.

        Returns:
            The pool: ids of the Gaussians that can be targets and neighbours, [P] int64, P = min(N, max_points).
        """
        count = positions.shape[0]
        positions = positions.detach()
        # By value: an optimizer that updates in one pass moves them and raises no version of the tensor.
        unchanged = self._source is not None and torch.equal(self._source, positions)
        self._calls += 1
        if unchanged and (count <= self.max_points or self._calls < POOL_LIFETIME):
            return self.pool
        self._calls = 0
        self._source = positions.clone()
        if count > self.max_points:
            self.pool = torch.randperm(count, generator=generator)[: self.max_points].to(positions.device)
            self._points = PointTree(self._source[self.pool])
        else:
            self.pool = torch.arange(count, device=positions.device)
            self._points = PointTree(self._source)
        return self.pool

    def state(self) -> dict[str, Any] | None:
        """What a search of the same positions goes on from: None but for a scene with more than `max_points`."""
        if self._source is None or len(self._source) <= self.max_points:
            return None
        return {"pool": self.pool, "calls": self._calls, "positions": self._source}

    def go_on(self, state: dict[str, Any]) -> None:
        """Take back what `state` told."""
        self.pool, self._calls, self._source = state["pool"], state["calls"], state["positions"]
        self._points = PointTree(self._source[self.pool])

    def query(self, rows: Tensor, k: int, include_self: bool = False) -> Tensor:
        """Nearest neighbours of Gaussians of the pool, nearest first.

        Args:
            rows: positions in the pool, [M] int64.
            k: how many neighbours; fewer are returned when the pool is smaller.
            include_self: whether a Gaussian is its own first neighbour, as in the official code.

        Returns:
            Positions in the pool, [M, min(k, P)] int64 (or P - 1 without the Gaussian itself).

        Raises:
            RuntimeError: before the first `refresh`.
        """
        if self._points is None:
            raise RuntimeError("query() before refresh()")
        if include_self:
            return self._points.nearest(self._points.points[rows], k)[1]
        return self._points.others(k, rows)[1]


def directional_neighbours(
    positions: Tensor,  # [N, 3]
    targets: Tensor,  # [M] int64
    directions: Tensor,  # [M, 3]
    candidates: Tensor,  # [M, K] int64
    k: int = 5,
    rank_by: str = "projection",
) -> tuple[Tensor, Tensor]:
    """GradiSeg Eq. 4 on local candidates: the k that lie least far ahead along each target's direction.

    Taken literally Eq. 4 ranks every Gaussian of the scene by its projection alone, and the smallest positive ones lie
    in the plane through the target at any distance, so the candidates have to be local already. A target whose
    direction is zero (never seen yet) takes its nearest candidates.

    Args:
        positions: centres; gradients are not followed.
        targets: the Gaussians whose neighbours are wanted.
        directions: the neighbouring direction, -grad(x) in the paper; any length.
        candidates: nearest neighbours without the target itself, nearest first.
        k: how many to pick.
        rank_by: "projection" (Eq. 4) or "distance" (the nearest of those ahead).

    Returns:
        Neighbours [M, min(k, K)] int64 and which of them count [M, min(k, K)] bool: a target with fewer than k
        candidates ahead has fewer neighbours rather than one behind it.

    Raises:
        ValueError: for an unknown `rank_by`.
    """
    if rank_by not in ("projection", "distance"):
        raise ValueError(f"rank_by is {rank_by!r}; use 'projection' or 'distance'")
    centres = positions.detach()
    length = directions.norm(dim=-1, keepdim=True)
    known = length > torch.finfo(directions.dtype).tiny
    offset = centres[candidates] - centres[targets][:, None]  # [M, K, 3]
    ahead = torch.einsum("mkd,md->mk", offset, directions / length.clamp_min(torch.finfo(directions.dtype).tiny))
    distance = offset.norm(dim=-1)
    rank = torch.where(known, ahead if rank_by == "projection" else distance, distance)
    valid = (ahead > 0) | ~known
    rank = rank.masked_fill(~valid, torch.inf)
    chosen = rank.topk(min(k, candidates.shape[1]), dim=1, largest=False).indices
    return candidates.gather(1, chosen), valid.gather(1, chosen)


def neighbourhood_kl(
    targets: Tensor,  # [M, C] probabilities
    neighbours: Tensor,  # [M, k, C] probabilities
    valid: Tensor | None = None,  # [M, k] bool
    divide_by_classes: bool = True,
) -> Tensor:
    """Mean of KL(p_i || p_j) over the pairs that count, in nats; both arguments receive gradient.

    Args:
        targets: class probabilities of the sampled Gaussians.
        neighbours: class probabilities of their neighbours.
        valid: pairs that count; all when None.
        divide_by_classes: divide by C, as Gaussian Grouping's code does (GradiSeg Eq. 3 does not say so).

    Returns:
        A scalar, 0 when no pair counts.
    """
    log_ratio = (targets + LOG_FLOOR).log()[:, None] - (neighbours + LOG_FLOOR).log()
    divergence = (targets[:, None] * log_ratio).sum(dim=-1)  # [M, k]
    if valid is None:
        mean = divergence.mean() if divergence.numel() else divergence.sum()
    else:
        mean = (divergence * valid).sum() / valid.sum().clamp_min(1)
    return mean / targets.shape[-1] if divide_by_classes else mean


class NeighbourhoodLoss:
    """The neighbourhood loss with its search: global neighbours, or LA-KNN when directions are given.

    Gaussian Grouping's settings are the defaults but for `include_self`: counting a Gaussian as its own neighbour adds
    zeros to the mean, i.e. four real neighbours at 4/5 of the weight.
    """

    def __init__(
        self,
        num_samples: int = 1000,
        k: int = 5,
        max_points: int = 200_000,
        include_self: bool = False,
        divide_by_classes: bool = True,
        num_candidates: int = 32,
        rank_by: str = "projection",
    ) -> None:
        """Keep the settings.

        Args:
            num_samples: Gaussians drawn at each call (M).
            k: neighbours of each.
            max_points: Gaussians searched; a random subset of a larger scene.
            include_self: count a Gaussian among its own global neighbours, as the official code does.
            divide_by_classes: divide the mean by the number of classes.
            num_candidates: Euclidean neighbours among which LA-KNN picks.
            rank_by: how LA-KNN ranks candidates, see `directional_neighbours`.
        """
        self.num_samples = num_samples
        self.k = k
        self.include_self = include_self
        self.divide_by_classes = divide_by_classes
        self.num_candidates = max(num_candidates, k)
        self.rank_by = rank_by
        self.search = NeighbourSearch(max_points)

    def __call__(
        self,
        positions: Tensor,  # [N, 3]
        encodings: Tensor,  # [N, D]
        classifier: Callable[[Tensor], Tensor],
        directions: Tensor | None = None,  # [N, 3]
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of one random draw.

        Args:
            positions: centres; gradients are not followed.
            encodings: identity encodings.
            classifier: encodings [n, D] -> logits [n, C].
            directions: neighbouring directions (any length, 0 = unknown); None for global neighbours.
            generator: random numbers for the draw, on the CPU.

        Returns:
            A scalar, 0 in a scene with fewer than two Gaussians.
        """
        pool = self.search.refresh(positions, generator)
        if pool.shape[0] < 2:
            return encodings.sum() * 0.0
        rows = torch.randperm(pool.shape[0], generator=generator)[: self.num_samples].to(pool.device)
        targets = pool[rows]
        valid = None
        if directions is None:
            neighbours = pool[self.search.query(rows, self.k, self.include_self)]
        else:
            candidates = pool[self.search.query(rows, self.num_candidates)]
            neighbours, valid = directional_neighbours(
                positions, targets, directions[targets], candidates, self.k, self.rank_by
            )
        p_targets = classifier(encodings[targets]).softmax(dim=-1)
        p_neighbours = classifier(encodings[neighbours.reshape(-1)]).softmax(dim=-1)
        return neighbourhood_kl(
            p_targets, p_neighbours.view(*neighbours.shape, -1), valid, divide_by_classes=self.divide_by_classes
        )


def update_running_mean(mean: Tensor, gradient: Tensor, visible: Tensor, decay: float = 0.9) -> None:
    """Exponential mean of position gradients over the steps in which a Gaussian was seen, in place.

    A Gaussian outside the view has a zero gradient that says nothing about its neighbouring direction, so it keeps its
    mean.

    Args:
        mean: [N, 3], changed in place.
        gradient: this step's gradient of the centres, [N, 3].
        visible: Gaussians in this step's view, [N] bool.
        decay: weight of the past.
    """
    mean.copy_(torch.where(visible[:, None], (mean * decay).add_(gradient, alpha=1.0 - decay), mean))
