"""Gaga's 3D-aware memory bank: one group id for the masks of one object in all views (paper, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gseg_ns.errors import OptionError
from gseg_ns.rendering.camera import Camera


@dataclass(frozen=True)
class MemoryBankOptions:
    """What decides whether two masks show one object."""

    front: float = 0.2
    """Share of the Gaussians behind each mask and cell, nearest first, that stand for the mask."""
    grid: int = 32
    """The image is cut into grid x grid cells, so that a large mask is represented over its whole extent."""
    overlap: float = 0.1
    """A mask that shares less than this with every group founds a new one."""
    similarity: Literal["paper", "official"] = "paper"
    """paper: shared / mask (Eq. 3). official: shared / (mask + shared), which turns 0.1 into 0.111 of Eq. 3."""
    exclusive: bool = True
    """A Gaussian belongs to one group only, as the paper says. The official code lets the founder of a group also keep
    Gaussians that other groups own."""

    def __post_init__(self) -> None:
        if not 0 < self.front <= 1:
            raise OptionError(f"front is {self.front}: give a share of the Gaussians, above 0 and at most 1")
        if self.grid < 1:
            raise OptionError(f"grid is {self.grid}: give the number of cells along an image side, at least 1")
        if not 0 <= self.overlap <= 1:
            raise OptionError(f"overlap is {self.overlap}: give a ratio between 0 and 1")


def centre_pixels(means: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Find the pixel that each Gaussian's centre falls into.

    Args:
        means: [N, 3] in world coordinates.
        camera: the view.

    Returns:
        ids [M] of the Gaussians in front of the camera and inside the image, their flat pixel index y * width + x [M],
        and their depth [M].
    """
    viewmat, intrinsics = camera.viewmat.to(means), camera.K.to(means)
    local = means @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = local[:, 2]
    projected = local @ intrinsics.T
    # Dividing by a depth of zero gives inf or nan, which the comparisons below turn away.
    x = torch.floor(projected[:, 0] / depth)
    y = torch.floor(projected[:, 1] / depth)
    inside = (depth > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    ids = inside.nonzero().squeeze(1)
    return ids, y[ids].long() * camera.width + x[ids].long(), depth[ids]


def corresponding_gaussians(
    means: Tensor,  # [N, 3]
    camera: Camera,
    labels: Tensor,  # [H, W] int
    front: float,
    grid: int,
) -> tuple[Tensor, Tensor]:
    """Find the Gaussians that stand for each mask of a view: the frontmost in each (mask, cell).

    By the Gaussians' centres alone, as in the official code (confirmed by its author). `labels` may have another
    resolution than the camera: the camera is scaled to it.

    Args:
        means: centres in world coordinates.
        camera: the view.
        labels: the view's label map; 0 is no mask.
        front: share of the Gaussians of each mask and cell that is kept, but at least one.
        grid: the image is cut into grid x grid cells.

    Returns:
        (ids [M], labels [M]): a Gaussian occurs at most once.
    """
    height, width = labels.shape
    ids, pixels, depth = centre_pixels(means, camera.resized(width, height))
    labels_at = labels.reshape(-1)[pixels].long()
    masked = labels_at > 0
    ids, pixels, depth, labels_at = ids[masked], pixels[masked], depth[masked], labels_at[masked]
    if ids.numel() == 0:
        return ids, labels_at

    cell_width, cell_height = -(-width // grid), -(-height // grid)
    cell = (pixels // width // cell_height) * grid + (pixels % width) // cell_width
    key = labels_at * (grid * grid) + cell
    # Two stable sorts put each (mask, cell) together with its Gaussians from near to far.
    order = torch.argsort(depth)
    order = order[torch.argsort(key[order], stable=True)]
    _, counts = torch.unique_consecutive(key[order], return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.arange(len(order), device=order.device) - starts.repeat_interleave(counts)
    quota = (counts * front).long().clamp_min(1).repeat_interleave(counts)
    chosen = order[rank < quota]
    return ids[chosen], labels_at[chosen]


class MemoryBank:
    """Groups of Gaussians, grown view by view (paper, section 3.2 and Eq. 3, 4).

    The paper visits the masks of a view one by one. The sets of one view are disjoint, so what one mask adds to a
    group cannot change another mask's overlap with it: a whole view is decided at once, with the same result.
    """

    def __init__(self, num_gaussians: int, options: MemoryBankOptions, device: torch.device | str = "cpu") -> None:
        self.options = options
        self.num_groups = 0
        self.owner = torch.full((num_gaussians,), -1, dtype=torch.long, device=device)
        """The group (from 0) of each Gaussian, -1 = none, [N] int64."""
        # Only without `exclusive`: further memberships, as pairs (Gaussian, group).
        self._extra = torch.empty((2, 0), dtype=torch.long, device=device)

    def overlaps(self, ids: Tensor, labels: Tensor, num_labels: int) -> Tensor:
        """Count the Gaussians that each mask shares with each group: [num_labels + 1, num_groups] int64."""
        groups = max(self.num_groups, 1)
        owner = self.owner[ids]
        owned = owner >= 0
        flat = labels[owned] * groups + owner[owned]
        if self._extra.shape[1]:
            label_of = torch.zeros_like(self.owner).index_put_((ids,), labels)
            extra_label = label_of[self._extra[0]]
            seen = extra_label > 0
            flat = torch.cat([flat, extra_label[seen] * groups + self._extra[1][seen]])
        return torch.bincount(flat, minlength=(num_labels + 1) * groups).view(num_labels + 1, groups)

    def add_view(self, means: Tensor, camera: Camera, labels: Tensor) -> Tensor:
        """Give every mask of a view its group and add its Gaussians to it.

        Args:
            means: [N, 3], in world coordinates.
            camera: the view.
            labels: [H, W] int, the view's label map; 0 is no mask.

        Returns:
            lookup [L + 1] int64, L the largest label: lookup[label] is the group id from 1, or 0 for label 0 and for
            masks that no Gaussian stands for (the official code opens an empty group for each of those).
        """
        options = self.options
        num_labels = int(labels.max()) if labels.numel() else 0
        lookup = torch.zeros(num_labels + 1, dtype=torch.long, device=self.owner.device)
        ids, labels_at = corresponding_gaussians(means, camera, labels, options.front, options.grid)
        if ids.numel() == 0:
            return lookup
        size = torch.bincount(labels_at, minlength=num_labels + 1)
        shared = self.overlaps(ids, labels_at, num_labels)
        best_shared, best = shared.max(dim=1)
        ratio = best_shared / (size + (best_shared if options.similarity == "official" else 0)).clamp_min(1)
        present = size > 0
        # With no group yet there is nothing to join, whatever the threshold.
        joins = present & (ratio >= options.overlap) & (best_shared > 0)
        founds = present & ~joins
        lookup[joins] = best[joins] + 1
        lookup[founds] = self.num_groups + 1 + torch.arange(int(founds.sum()), device=lookup.device)
        self.num_groups += int(founds.sum())

        group = lookup[labels_at] - 1
        free = self.owner[ids] < 0
        if not options.exclusive:
            kept = founds[labels_at] & ~free
            self._extra = torch.cat([self._extra, torch.stack([ids[kept], group[kept]])], dim=1)
        self.owner[ids[free]] = group[free]
        return lookup


def relabel(labels: Tensor, lookup: Tensor) -> Tensor:
    """Replace the labels of a view by their groups: [H, W] int64. Labels beyond the lookup become 0."""
    labels = labels.long()
    return torch.where(labels < len(lookup), lookup[labels.clamp_max(len(lookup) - 1)], 0)
