"""The pixels of a view that supervise features on frozen geometry: what they see, and which masks they are in.

With frozen geometry a pixel always sees the same Gaussians with the same weights. They are computed once a view and
kept as sparse rows; a training step composites its thousand pixels from these and renders nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gseg_ns.lifting.correspondence import mean_mask_size
from gseg_ns.masks import MaskSet
from gseg_ns.rendering import PixelWeights, pixel_weights

_PROBE = 512
"""Pixels from which the length of a view's rows is estimated."""


@dataclass(frozen=True)
class PixelPool:
    """Some pixels of one view, all on one device.

    Memory: 8 bytes a (pixel, Gaussian) pair and 16 a pixel; `make_pool` keeps it below a bound.
    """

    weights: PixelWeights
    """[B, N] rows of the pixels; `col` is int32."""
    regions: Tensor
    """[B] int64, row of `members` of each pixel; 0 is in no mask."""
    members: Tensor
    """[U, M] bool, which masks contain a region."""
    sizes: Tensor
    """[U] mean area in pixels of the masks that contain a region, 0 for none."""
    scales: Tensor
    """[M] metric 3D scales of the masks."""

    def __len__(self) -> int:
        """B, the number of pixels."""
        return len(self.regions)

    def draw(self, count: int, generator: torch.Generator | None = None) -> tuple[PixelWeights, Tensor]:
        """Draw pixels without replacement.

        Args:
            count: how many; all where there are fewer.
            generator: on the CPU.

        Returns:
            weights [P, N] and regions [P].
        """
        if count >= len(self):
            chosen = torch.arange(len(self), device=self.regions.device)
        elif 4 * count > len(self):
            chosen = torch.randperm(len(self), generator=generator)[:count].to(self.regions.device)
        else:
            # Draw a few more and drop repeats: cheaper than a permutation of the whole pool.
            drawn = torch.randint(len(self), (count + count // 2,), generator=generator).unique()
            chosen = drawn[torch.randperm(len(drawn), generator=generator)[:count]].to(self.regions.device)
        rows = self.weights.rows(chosen)
        return PixelWeights(rows.crow, rows.col.long(), rows.val, rows.num_gaussians), self.regions[chosen]


def make_pool(
    meta: dict[str, Any], masks: MaskSet, scales: Tensor, max_bytes: float, generator: torch.Generator | None = None
) -> PixelPool:
    """Keep as many random pixels of a view as the memory allows, at most all.

    Args:
        meta: projection of the view.
        masks: its masks, of the view's size.
        scales: [M] metric 3D scales of the masks.
        max_bytes: bound on the memory of the rows.
        generator: of the choice of pixels, on the CPU.
    """
    device = meta["means2d"].device
    order = torch.randperm(meta["width"] * meta["height"], generator=generator)
    probe = pixel_weights(meta, order[:_PROBE].to(device))
    each = 8.0 * len(probe.col) / max(len(probe), 1) + 16.0
    # In image order neighbouring rows share Gaussians, which the cache likes.
    pixels = order[: max(1, int(max_bytes / each))].sort().values
    rows = pixel_weights(meta, pixels.to(device))
    region, members = masks.regions
    members = members.to(device)
    return PixelPool(
        weights=PixelWeights(rows.crow, rows.col.int(), rows.val, rows.num_gaussians),
        regions=region.flatten()[pixels].long().to(device),
        members=members,
        sizes=mean_mask_size(members, masks.areas.to(device)),
        scales=scales.to(device),
    )
