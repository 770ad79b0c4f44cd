"""What a run's views say of its Gaussians: how much each gives to pictures, and how much of that is its own object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gseg_ns.rendering import Camera, pixel_weights, sparse_vote
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

PIXELS = 1000
"""So many pixels of a group, evenly drawn, say in each view what of it is in front."""


@dataclass(frozen=True)
class Evidence:
    """Sums over views. Weights are in pixels: 1 is one pixel that shows a Gaussian and nothing else."""

    total: Tensor  # [N] float32
    """What each Gaussian gives to all pixels."""
    own: Tensor  # [N] float32
    """What of it falls on pixels that are called its group."""
    front: Tensor  # [N] float32
    """What of `own` is in the nearer half of what a pixel shows, where the eye sees a surface. What is seen through it,
    like a reflection in a glossy tray, is in the farther half from wherever one looks."""
    ends: Tensor  # [N] float32
    """Pixels of its group that it makes half of what they show: where the eye puts the surface. A faint film before it
    never does, however large it is."""
    pixels: Tensor  # [K + 1] int64
    """Pixels that are called each group."""
    views: Tensor  # [K + 1] int64
    """Views that show each group."""
    num_views: int
    """Views that were asked."""

    def rows(self, source: Tensor) -> Evidence:
        """That of other rows.

        Args:
            source: int64 [M], which Gaussian each row is, or is a copy of; -1 for none, of which nothing is known.
        """
        known = source.to(self.total.device).clamp_min(0)
        strange = source.to(self.total.device) < 0

        def taken(values: Tensor) -> Tensor:
            return torch.where(strange, 0, values[known]) if len(values) else values.new_zeros(len(known))

        parts = taken(self.total), taken(self.own), taken(self.front), taken(self.ends)
        return Evidence(*parts, self.pixels, self.views, self.num_views)

    def to(self, device: torch.device | str) -> Evidence:
        """The same on `device`."""
        names = ("total", "own", "front", "ends", "pixels", "views")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@torch.no_grad()
def gather_evidence(splats: Splats, groups: Tensor, views: Iterable[tuple[Camera, Tensor]]) -> Evidence:
    """Ask views.

    Args:
        splats: N Gaussians.
        groups: int [N], 0 = none.
        views: camera, and the group of each pixel as the run draws it [H, W]; 0 = none.

    Returns:
        On the device of the splats.
    """
    device, count = splats.device, len(splats)
    groups = groups.to(device, torch.int64)
    size = int(groups.max()) + 1 if count else 1
    total, own, front, ends = (torch.zeros(count, device=device) for _ in range(4))
    pixels, shown = (torch.zeros(size, dtype=torch.int64, device=device) for _ in range(2))
    num_views = 0
    for camera, labels in views:
        num_views += 1
        meta = project_splats(splats, camera.to(device))
        gaussians, called, weights = sparse_vote(meta, labels)
        gaussians, called, weights = gaussians.to(device).long(), called.to(device).long(), weights.to(device)
        total.index_add_(0, gaussians, weights)
        same = called == groups[gaussians]
        own.index_add_(0, gaussians[same], weights[same])
        nearer, ending = _nearer_half(meta, labels, groups)
        front += nearer
        ends += ending
        counted = torch.bincount(labels.to(device).flatten().long().clamp(0, size - 1), minlength=size)
        pixels += counted
        shown += counted > 0
    front = front.minimum(own)  # of drawn pixels it is a guess
    return Evidence(total, own, front, ends, pixels, shown, num_views)


def _nearer_half(meta: dict[str, Any], labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """What each Gaussian gives to the nearer half of what pixels show that are called its group, and where that ends.

    Args:
        meta: of the view, see `project`.
        labels: int [H, W].
        groups: int64 [N].

    Returns:
        [N] in pixels, and the number of pixels [N] whose nearer half ends in it.
    """
    flat = labels.flatten().to(groups.device, torch.int64)
    called = torch.nonzero(flat > 0)[:, 0]
    called = called[flat[called].argsort(stable=True)]
    _, counts = flat[called].unique_consecutive(return_counts=True)
    step = (counts / PIXELS).ceil().long().repeat_interleave(counts)
    place = torch.arange(len(called), device=called.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    drawn = place % step == 0
    chosen, each = called[drawn], step[drawn].float()
    weights = pixel_weights(meta, chosen)
    row, val = weights.row.to(groups.device), weights.val.to(groups.device).double()
    passed = val.cumsum(0) - val
    begin = weights.crow[:-1].to(groups.device)
    filled = torch.nonzero(weights.crow.diff().to(groups.device) > 0)[:, 0]
    start = torch.zeros(len(chosen), dtype=torch.float64, device=groups.device)
    start[filled] = passed[begin[filled]]
    half = weights.alpha.to(groups.device).double() / 2
    left = half[row] - (passed - start[row])  # of the nearer half, when a pixel has come to a Gaussian
    nearer = left.clamp_min(0).minimum(val).float() * each[row]
    ending = ((left > 0) & (left <= val)).float() * each[row]
    col = weights.col.to(groups.device)
    same = groups[col] == flat[chosen][row]
    sums = torch.zeros(2, len(groups), device=groups.device)
    sums.index_add_(1, col[same], torch.stack([nearer, ending])[:, same])
    return sums[0], sums[1]
