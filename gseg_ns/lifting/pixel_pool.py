"""The pixels of a view that supervise features on frozen geometry: what they see, and which masks they are in.

With frozen geometry a pixel always sees the same Gaussians with the same weights. They are computed once a view and
kept as sparse rows; a training step composites its thousand pixels from these and renders nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.lifting.correspondence import mean_mask_size
from gseg_ns.masks import MaskSet
from gseg_ns.rendering import PixelWeights, pixel_weights
from gseg_ns.transfer import upload

_PROBE = 512
"""Pixels from which the length of a view's rows is estimated."""


@dataclass(frozen=True)
class PixelPool:
    """Some pixels of one view.

    What a step draws from and branches on stays on the CPU, so that no step waits for a GPU to tell it.

    Memory: 8 bytes a (pixel, Gaussian) pair and 36 a pixel; `make_pool` keeps it below a bound.
    """

    weights: PixelWeights
    """[B, N] rows of the pixels, on the device of the Gaussians; `col` is int32."""
    lengths: Tensor
    """[B] int32 on the CPU, the number of weights of each row."""
    regions: Tensor
    """[B] int64 on the CPU, row of `members` of each pixel; 0 is in no mask."""
    members: Tensor
    """[U, M] bool, which masks contain a region, on the device of the Gaussians."""
    covered: Tensor
    """[U] bool on the CPU, whether any mask contains a region."""
    sizes: Tensor
    """[U] on the CPU, mean area in pixels of the masks that contain a region, 0 for none."""
    scales: Tensor
    """[M] on the CPU, metric 3D scales of the masks."""
    odds: Tensor
    """[B] float64 on the CPU, running sum of the chances with which a random pixel of a random mask is each pixel."""
    uniform: Tensor | None = None
    """[B'] int64 on the CPU, the pixels that were taken without looking at masks; None: all."""

    def __len__(self) -> int:
        """B, the number of pixels."""
        return len(self.regions)

    def draw(
        self, count: int, generator: torch.Generator | None = None, balanced: float = 0.0
    ) -> tuple[PixelWeights, Tensor]:
        """Draw different pixels.

        Args:
            count: how many; all where there are no more.
            generator: on the CPU.
            balanced: share of them that is drawn mask by mask, a random pixel of a random mask, so that small masks
                are met as often as large ones; the rest uniformly. Repeats are dropped, so that these may be fewer.

        Returns:
            weights [P, N] on the device of the Gaussians, and regions [P] on the CPU.
        """
        if count >= len(self):
            chosen = torch.arange(len(self))
        else:
            by_mask = round(balanced * count) if self.members.shape[1] else 0
            evenly = len(self) if self.uniform is None else len(self.uniform)
            drawn = torch.randint(evenly, (count - by_mask,), generator=generator)
            drawn = drawn if self.uniform is None else self.uniform[drawn]
            if by_mask:
                ticket = torch.rand(by_mask, generator=generator, dtype=torch.double) * self.odds[-1]
                drawn = torch.cat([drawn, torch.searchsorted(self.odds, ticket).clamp_max(len(self) - 1)])
            chosen = drawn.unique()
        rows = self.weights.rows(upload(chosen, self.weights.crow.device), int(self.lengths[chosen].sum()))
        return PixelWeights(rows.crow, rows.col.long(), rows.val, rows.num_gaussians), self.regions[chosen]


def make_pool(
    meta: dict[str, Any],
    masks: MaskSet,
    scales: Tensor,
    max_bytes: float,
    generator: torch.Generator | None = None,
    balanced: float = 0.0,
) -> PixelPool:
    """Keep as many random pixels of a view as the memory allows, at most all.

    Where that is not all, they are taken as they will be drawn: a share of them mask by mask, so that a small mask
    keeps as many as a large one, or all that it has.

    Args:
        meta: projection of the view.
        masks: its masks, of the view's size.
        scales: [M] metric 3D scales of the masks.
        max_bytes: bound on the memory of the rows.
        generator: of the choice of pixels, on the CPU.
        balanced: the share that will be drawn mask by mask, see `PixelPool.draw`.
    """
    device = meta["means2d"].device
    # The same numbers as in 64 bits, and half as much memory to shuffle.
    order = torch.randperm(meta["width"] * meta["height"], generator=generator, dtype=torch.int32)
    probe = pixel_weights(meta, order[:_PROBE])
    each = 8.0 * len(probe.col) / max(len(probe), 1) + 36.0
    room = max(1, int(max_bytes / each))
    by_mask = round(balanced * room) if len(masks) and room < len(order) else 0
    # In image order neighbouring rows share Gaussians, which the cache likes.
    pixels, uniform = order[: room - by_mask].sort().values.long(), None
    if by_mask:
        evenly = pixels
        pixels = torch.cat([evenly, _pixels_by_mask(masks, by_mask, generator)]).unique()
        uniform = torch.searchsorted(pixels, evenly)
    rows = pixel_weights(meta, pixels)
    members, regions = masks.partition[2], masks.region_at(pixels)
    # Of each mask the pixels that are kept; none may be.
    kept = members.double().T @ torch.bincount(regions, minlength=len(members)).double()
    chance = members.double() @ torch.where(kept > 0, 1.0 / kept.clamp_min(1), 0.0)
    return PixelPool(
        weights=PixelWeights(rows.crow, rows.col.int(), rows.val, rows.num_gaussians),
        lengths=rows.crow.diff().int().cpu(),
        regions=regions,
        members=members.to(device),
        covered=members.any(dim=1),
        sizes=mean_mask_size(members, masks.areas.cpu()),
        scales=scales.cpu(),
        odds=chance[regions].cumsum(0),
        uniform=uniform,
    )


def _pixels_by_mask(masks: MaskSet, count: int, generator: torch.Generator | None) -> Tensor:
    """About `count` random pixels of masks, equally many of each mask that has them; some may be the same."""
    first, starts, stops = masks.runs
    each = -(-count // len(masks))
    chosen = []
    for begin, end in pairwise(first):
        filled = np.cumsum(stops[begin:end] - starts[begin:end])
        area = int(filled[-1]) if len(filled) else 0
        if area == 0:
            continue
        drawn = torch.arange(area) if area <= each else torch.randint(area, (each,), generator=generator)
        run = np.searchsorted(filled, drawn.numpy(), side="right")
        chosen.append(stops[begin:end][run] - filled[run] + drawn.numpy())
    places = np.concatenate([np.zeros(0, np.int64), *chosen])  # column by column
    return torch.from_numpy(places % masks.height * masks.width + places // masks.height)
