"""Pictures of label maps: overlays and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.palette import colours


def outlines(labels: Tensor) -> Tensor:
    """Pixels whose right or lower neighbour has another label: bool [H, W] from int [H, W]."""
    edge = torch.zeros_like(labels, dtype=torch.bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def overlay(rgb: Tensor, labels: Tensor, tint: float = 0.45) -> Tensor:
    """Tint a picture with its groups' colours and draw their outlines in white.

    Args:
        rgb: [H, W, 3] in [0, 1].
        labels: [H, W] integer; 0 stays untinted.
        tint: share of the group's colour.

    Returns:
        [H, W, 3] in [0, 1].
    """
    colour = colours(labels).to(rgb) / 255
    tinted = torch.where((labels > 0)[..., None], rgb * (1 - tint) + colour * tint, rgb)
    return torch.where(outlines(labels)[..., None], torch.ones_like(rgb), tinted)


def contact_sheet(rows: Sequence[Sequence[Tensor]], gap: int = 4) -> Tensor:
    """Lay pictures out in rows on white.

    Args:
        rows: pictures [H, W, 3] in [0, 1]; they are scaled to the size of the first one.
        gap: pixels between them.

    Returns:
        [H', W', 3] in [0, 1].
    """
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    sheet = torch.ones((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            image = picture.detach().cpu().float()
            if image.shape[:2] != (height, width):
                image = F.interpolate(image.permute(2, 0, 1)[None], (height, width), mode="area")[0].permute(1, 2, 0)
            top, left = y * (height + gap), x * (width + gap)
            sheet[top : top + height, left : left + width] = image
    return sheet
