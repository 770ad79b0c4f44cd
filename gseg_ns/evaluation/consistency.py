"""Do views agree about what they see? A score of label maps that needs geometry, but no ground truth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.evaluation.overlap import as_ids


@dataclass(frozen=True)
class ConsistencyScores:
    """How often two views that see the same surface point give it the same id."""

    agreement: float
    """Percent of all correspondences; NaN where there is none."""
    correspondences: int
    """How many were compared."""
    view_agreement: tuple[float, ...]
    """Percent for points seen in each view, over all others; NaN where a view shares nothing with any other."""


def multi_view_consistency(
    ids: Sequence[Tensor | np.ndarray[Any, Any]],
    depths: Sequence[Tensor | np.ndarray[Any, Any]],
    viewmats: Tensor,  # [V, 4, 4]
    Ks: Tensor,  # [V, 3, 3]
    tolerance: float = 0.02,
    max_pixels: int = 4096,
    ignore: Collection[int] = (0,),
) -> ConsistencyScores:
    """Lift pixels of each view by their depth, project them into every other view, compare the ids.

    A correspondence counts when the point falls inside the other image, at the depth that the other view has there
    (else it is hidden), and at least one of the two pixels is labelled: two unlabelled pixels agree about nothing.
    Own definition; it plays the part of the re-projection checks of multi-view label voting.

    Args:
        ids: V label maps [H, W] with ids consistent over views.
        depths: V maps [H, W] of distance along the optical axis, in scene units; 0 or not finite where unknown.
        viewmats: world-to-camera, OpenCV axes, float [V, 4, 4].
        Ks: intrinsics in pixels, pixel centres at +0.5, float [V, 3, 3].
        tolerance: largest depth difference, as a share of the depth.
        max_pixels: pixels lifted in each view, on an even grid.
        ignore: ids that mean unlabelled.

    Raises:
        ValueError: different numbers of views, or an id map and a depth map of different size.
    """
    labels = [as_ids(m) for m in ids]
    count = len(labels)
    if not (len(depths) == len(viewmats) == len(Ks) == count) or count == 0:
        raise ValueError(f"{count} label maps, {len(depths)} depth maps, {len(viewmats)} poses, {len(Ks)} intrinsics")
    device = labels[0].device
    zs = [torch.as_tensor(d, device=device).to(torch.float64) for d in depths]
    for label, z in zip(labels, zs, strict=True):
        if label.shape != z.shape:
            raise ValueError(f"a label map of {tuple(label.shape)} with depths of {tuple(z.shape)}")
    poses, intrinsics = viewmats.to(device, torch.float64), Ks.to(device, torch.float64)
    silent = torch.tensor(sorted(ignore), dtype=torch.int64, device=device)
    agree = torch.zeros(count, dtype=torch.int64)
    total = torch.zeros(count, dtype=torch.int64)
    for a in range(count):
        points, own = _lift(labels[a], zs[a], poses[a], intrinsics[a], max_pixels)
        for b in range(count):
            if a == b or len(points) == 0:
                continue
            camera = points @ poses[b, :3, :3].T + poses[b, :3, 3]
            z = camera[:, 2]
            pixel = camera @ intrinsics[b].T
            height, width = labels[b].shape
            front = z > 1e-6
            u, v = (pixel[:, i] / torch.where(front, z, 1.0) for i in (0, 1))
            inside = front & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            x, y = u[inside].long(), v[inside].long()
            seen = (zs[b][y, x] - z[inside]).abs() <= tolerance * z[inside]
            mine, other = own[inside][seen], labels[b][y, x][seen]
            counts = ~(torch.isin(mine, silent) & torch.isin(other, silent))
            agree[a] += int((counts & (mine == other)).sum())
            total[a] += int(counts.sum())
    share = [100 * int(x) / int(n) if n else float("nan") for x, n in zip(agree, total, strict=True)]
    everything = int(total.sum())
    return ConsistencyScores(
        agreement=100 * int(agree.sum()) / everything if everything else float("nan"),
        correspondences=everything,
        view_agreement=tuple(share),
    )


def _lift(ids: Tensor, depth: Tensor, viewmat: Tensor, K: Tensor, max_pixels: int) -> tuple[Tensor, Tensor]:
    """World points [n, 3] and ids [n] of an even grid of pixels with known depth."""
    height, width = ids.shape
    step = max(1, int(np.ceil(np.sqrt(height * width / max_pixels))))
    y, x = torch.meshgrid(
        torch.arange(step // 2, height, step, device=ids.device),
        torch.arange(step // 2, width, step, device=ids.device),
        indexing="ij",
    )
    y, x = y.flatten(), x.flatten()
    z = depth[y, x]
    known = z.isfinite() & (z > 0)
    y, x, z = y[known], x[known], z[known]
    rays = torch.stack([x + 0.5, y + 0.5, torch.ones_like(z)], dim=-1) @ torch.linalg.inv(K).T
    camera = rays * z[:, None]
    return (camera - viewmat[:3, 3]) @ viewmat[:3, :3], ids[y, x]
