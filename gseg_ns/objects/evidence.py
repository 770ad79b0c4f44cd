"""What a run's views say of its Gaussians: how much each gives to pictures, and how much of that is its own object."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gseg_ns.rendering import Camera, sparse_vote
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats


@dataclass(frozen=True)
class Evidence:
    """Sums over views. Weights are in pixels: 1 is one pixel that shows a Gaussian and nothing else."""

    total: Tensor  # [N] float32
    """What each Gaussian gives to all pixels."""
    own: Tensor  # [N] float32
    """What of it falls on pixels that are called its group."""
    exposure: Tensor  # [N] float32
    """The largest part of a Gaussian that a single view sees as its group, 0..1: what always lies behind something
    that is nearly opaque has little."""
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

        parts = taken(self.total), taken(self.own), taken(self.exposure)
        return Evidence(*parts, self.pixels, self.views, self.num_views)

    def to(self, device: torch.device | str) -> Evidence:
        """The same on `device`."""
        names = ("total", "own", "exposure", "pixels", "views")
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
    total, own, exposure = (torch.zeros(count, device=device) for _ in range(3))
    pixels, shown = (torch.zeros(size, dtype=torch.int64, device=device) for _ in range(2))
    num_views = 0
    for camera, labels in views:
        num_views += 1
        meta = project_splats(splats, camera.to(device))
        gaussians, called, weights = sparse_vote(meta, labels)
        gaussians, called, weights = gaussians.to(device).long(), called.to(device).long(), weights.to(device)
        total.index_add_(0, gaussians, weights)
        same = called == groups[gaussians]
        mine = torch.zeros_like(own).index_add_(0, gaussians[same], weights[same])
        own += mine
        conics = meta["conics"][0]
        determinant = (conics[:, 0] * conics[:, 2] - conics[:, 1] ** 2).clamp_min(1e-12)
        footprint = 2 * math.pi * meta["opacities"][0] / determinant.sqrt()
        # What is not in the view has no projection, and gives nothing.
        part = torch.where(mine > 0, mine / footprint.clamp_min(1e-6), 0).clamp_max(1)
        exposure = torch.maximum(exposure, part.nan_to_num(0.0))
        counted = torch.bincount(labels.to(device).flatten().long().clamp(0, size - 1), minlength=size)
        pixels += counted
        shown += counted > 0
    return Evidence(total, own, exposure, pixels, shown, num_views)
