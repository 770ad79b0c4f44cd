"""A wall of label 1 and a disk of label 2 before it, whose rim is soft: Gaussians that reach beyond the silhouette."""

from __future__ import annotations

import torch
from torch import Tensor

from gseg_ns.rendering import project

SIZE = 48
"""Pixels of a side of a view."""


def disk_scene(count: int = 8) -> tuple[Tensor, list[dict[str, object]], list[Tensor]]:
    """Labels [N], and of each view its projection and its true label map [SIZE, SIZE]."""
    side = torch.linspace(-2, 2, 24)
    wall = torch.stack([*torch.meshgrid(side, side, indexing="xy"), torch.full((24, 24), 4.0)], -1).view(-1, 3)
    angle = torch.arange(40) / 40 * 2 * torch.pi
    rings = [torch.stack([r * angle.cos(), r * angle.sin(), torch.full((40,), 3.0)], -1) for r in (0.2, 0.4, 0.55)]
    means = torch.cat([wall, *rings])
    labels = torch.cat([torch.ones(len(wall)), torch.full((120,), 2)]).long()
    scales = torch.cat([torch.full((len(wall), 3), 0.12), torch.full((120, 3), 0.09)])
    quats = torch.zeros(len(means), 4)
    quats[:, 0] = 1
    K = torch.tensor([[[40.0, 0, SIZE / 2], [0, 40.0, SIZE / 2], [0, 0, 1]]])
    metas, truths = [], []
    for view in range(count):
        viewmat = torch.eye(4)[None].clone()
        viewmat[0, 0, 3] = 0.05 * (view - count / 2)
        metas.append(project(means, quats, scales, torch.full((len(means),), 0.9), viewmat, K, SIZE, SIZE))
        y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
        centre = 40 * 0.05 * (view - count / 2) / 3 + SIZE / 2
        # The disk itself: smaller than what its Gaussians cover.
        truths.append(torch.where((x - centre) ** 2 + (y - SIZE / 2) ** 2 < (40 * 0.5 / 3) ** 2, 2, 1))
    return labels, metas, truths
