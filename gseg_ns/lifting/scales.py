"""How large is a 2D mask in 3D, and where does that size stand among all masks of the scene.

SAGA conditions its features on the physical extent of what is to be segmented (Cen et al., "Segment Any 3D Gaussians",
AAAI 2025, Eq. 2, after GARField). The gate does not see metres but the share of the scene's masks that are smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gseg_ns.errors import GsegError
from gseg_ns.lifting.kernels import mask_variances
from gseg_ns.masks import MaskSet
from gseg_ns.rendering import composite, threads

_MAX_QUANTILES = 1000


@torch.no_grad()
def expected_depth(meta: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Composited depth of one view, divided by alpha: the official code leaves the division out.

    Args:
        meta: from `gseg_ns.rendering.project`, with one camera.

    Returns:
        depth [H, W] along the camera's z (0 where nothing was hit), and alpha [H, W] in 0..1.
    """
    depths = meta["depths"][0].detach()
    total, alpha = composite(meta, torch.stack([depths, torch.ones_like(depths)], dim=-1)).unbind(dim=-1)
    return mean_depth(total, alpha), alpha


def mean_depth(total: Tensor, alpha: Tensor) -> Tensor:
    """Composited depth [H, W] divided by alpha [H, W]; 0 where nothing was hit."""
    return torch.where(alpha > 0, total / alpha.clamp_min(1e-10), 0.0)


def unproject(depth: Tensor, K: Tensor) -> Tensor:
    """Points of a depth map in the camera's frame (OpenCV: x right, y down, z forward).

    Args:
        depth: [H, W] distance along z, already divided by alpha. Non-finite or <= 0 where nothing was hit.
        K: [3, 3] intrinsics in pixels of this view, not of another one of the scene.

    Returns:
        [H, W, 3]; NaN where the depth is not valid.
    """
    height, width = depth.shape
    v, u = torch.meshgrid(
        torch.arange(height, dtype=depth.dtype, device=depth.device) + 0.5,
        torch.arange(width, dtype=depth.dtype, device=depth.device) + 0.5,
        indexing="ij",
    )
    z = torch.where(torch.isfinite(depth) & (depth > 0), depth, torch.full_like(depth, torch.nan))
    return torch.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z], dim=-1)


def mask_scales(points: Tensor, masks: MaskSet, valid: Tensor | None = None) -> Tensor:
    """The 3D scale of every mask of one view: twice the root of the summed variances of its points (Eq. 2).

    A pixel counts where at least five of the nine pixels around it are in the mask, as in the official code: at a
    mask's border the depth belongs to whatever stands behind. Masks that vanish under this (thin, tiny) are taken
    whole. A mask with fewer than two usable points has no extent: it gets scale 0, so it is the smallest of its view.

    Computed on the CPU, whatever the device, from the masks' run lengths.

    Args:
        points: [H, W, 3] points of the view in any rigid frame, NaN where there is none (see `unproject`).
        masks: M masks of the view.
        valid: [H, W] bool, pixels whose depth can be trusted (e.g. alpha >= 0.5). All where None.

    Returns:
        [M] float32 in the units of `points`, finite and >= 0, on their device.

    Raises:
        GsegError: the masks have another size than the view.
    """
    if (masks.height, masks.width) != points.shape[:2]:
        raise GsegError(
            f"A mask of {(masks.height, masks.width)} pixels does not fit a view of {tuple(points.shape[:2])}. "
            "Make the masks from the images that are trained on, at their size."
        )
    usable = torch.isfinite(points).all(dim=-1)
    if valid is not None:
        usable &= valid
    variances = np.empty(len(masks))
    threads.share(
        mask_variances, len(masks), *masks.runs, masks.bboxes.numpy(), masks.height,
        points.float().cpu().contiguous().numpy(), usable.cpu().numpy(), variances,
    )  # fmt: skip
    return 2.0 * torch.from_numpy(variances).sqrt().float().to(points.device)


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear interpolation as `numpy.interp`: the last of equal knots counts, flat outside."""
    right = torch.searchsorted(knots, x.contiguous(), right=True).clamp(1, len(knots) - 1)
    left = right - 1
    span = knots[right] - knots[left]
    share = torch.where(
        span > 0, (x - knots[left]) / span.clamp_min(torch.finfo(x.dtype).tiny), (x >= knots[right]).to(x)
    )
    return values[left] + share.clamp(0, 1) * (values[right] - values[left])


class ScaleQuantiles(nn.Module):
    """Maps a metric scale to [0, 1]: the share of the scene's masks that are smaller.

    What scikit-learn's `QuantileTransformer(output_distribution="uniform")` does, with no subsampling and so no chance
    in it, as one buffer: it travels in the checkpoint and evaluates in torch on any device.
    """

    quantiles: Tensor

    def __init__(self, num_quantiles: int = _MAX_QUANTILES) -> None:
        """Start as the identity on [0, 1], until `fit`."""
        super().__init__()
        self.register_buffer("quantiles", torch.linspace(0.0, 1.0, num_quantiles))
        self._largest: tuple[tuple[int, int], float] | None = None

    def fit(self, scales: Tensor) -> None:
        """Take the quantiles of all masks of all training views.

        Args:
            scales: [M] metric scales.

        Raises:
            GsegError: there is no finite scale.
        """
        ordered = scales[torch.isfinite(scales)].double().sort().values
        if len(ordered) == 0:
            raise GsegError("No training view has a mask with a measurable size. Run `gseg masks` on the images again.")
        position = torch.linspace(0, len(ordered) - 1, len(self.quantiles), dtype=torch.double, device=ordered.device)
        below = position.floor().long()
        above = (below + 1).clamp_max(len(ordered) - 1)
        fitted = torch.lerp(ordered[below], ordered[above], position - below)
        self.quantiles.copy_(fitted.to(self.quantiles))

    def largest(self) -> float:
        """The largest scale of the scene, read from the device once."""
        version = id(self.quantiles), self.quantiles._version
        if self._largest is None or self._largest[0] != version:
            self._largest = version, float(self.quantiles[-1])
        return self._largest[1]

    def forward(self, scale: Tensor) -> Tensor:
        """[...] metric scales to [...] shares in [0, 1]. Among equal quantiles the middle one is meant."""
        knots = self.quantiles
        shares = torch.linspace(0.0, 1.0, len(knots), device=knots.device)
        x = scale.to(knots)
        upper = _interpolate(x, knots, shares)
        lower = -_interpolate(-x, -knots.flip(0), -shares.flip(0))
        return 0.5 * (upper + lower)

    def metric(self, share: Tensor) -> Tensor:
        """[...] shares in [0, 1] back to [...] metric scales."""
        position = share.to(self.quantiles).clamp(0, 1) * (len(self.quantiles) - 1)
        below = position.floor().long().clamp_max(len(self.quantiles) - 2)
        return torch.lerp(self.quantiles[below], self.quantiles[below + 1], position - below)
