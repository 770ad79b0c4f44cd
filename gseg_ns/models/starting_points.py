"""The points that Gaussians start from, whatever a capture's cloud is like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gseg_ns import terminal

LEAST_POINTS = 50
"""A scene with fewer points starts from random ones too: nothing grows where nothing is."""


def starting_points(
    points: Tensor,
    colors: Tensor,
    num_random: int,
    random_scale: float,
    tell: Callable[[str], None] = terminal.warn,
) -> tuple[Tensor, Tensor]:
    """Leave out what no Gaussian can start from, and fill up what is too little.

    A Gaussian starts as large as its nearest neighbours are far: of points in one place it would be nothing.

    Args:
        points: [N, 3].
        colors: [N, 3] 0..255, or [0, 3] without any.
        num_random: how many there are after filling up.
        random_scale: side of the cube around the origin in which random points lie.
        tell: is told what is left out and what is added.

    Returns:
        points [M, 3] and colors [M, 3] uint8.
    """
    if not len(colors):
        colors = torch.full_like(points, 128)
    finite = torch.isfinite(points).all(dim=1) & (points.abs() < 1e6).all(dim=1)
    kept = torch.nonzero(finite)[:, 0]
    _, first = np.unique(points[kept].cpu().numpy(), axis=0, return_index=True)
    kept = kept[torch.from_numpy(np.sort(first)).to(kept.device)]
    broken, double = int((~finite).sum()), int(finite.sum()) - len(kept)
    if broken or double:
        tell(
            f"{broken + double} of {len(points)} points are left out: {broken} are not finite, {double} are "
            "there more than once."
        )
    points, colors = points[kept], colors[kept].to(torch.uint8)
    if len(points) >= LEAST_POINTS:
        return points, colors
    missing = max(num_random - len(points), LEAST_POINTS)
    tell(f"The scene has {len(points)} points to start from: {missing} random ones are added.")
    generator = torch.Generator().manual_seed(0)
    random = (torch.rand((missing, 3), generator=generator) - 0.5) * random_scale
    shades = torch.randint(0, 256, (missing, 3), generator=generator, dtype=torch.uint8)
    return torch.cat([points, random.to(points)]), torch.cat([colors, shades.to(colors.device)])
