"""A slow, dense, pure-torch renderer that the tests hold the kernels against: every pixel times every Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor


def dense_weights(
    means2d: Tensor,  # [N, 2]
    conics: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    depths: Tensor,  # [N]
    radii: Tensor,  # [N] or [N, 2] int
    width: int,
    height: int,
    tile_size: int | None = 16,
) -> Tensor:
    """Weights w = alpha T [H * W, N] of one camera, differentiable through autograd, by gsplat 1.4.0's rules.

    Args:
        tile_size: a Gaussian is drawn only in the tiles that the square of its radius touches, as in gsplat;
            None draws it everywhere.
    """
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([xs, ys], dim=-1).reshape(-1, 2).to(means2d) + 0.5
    visible = radii > 0 if radii.dim() == 1 else (radii > 0).all(dim=-1)
    order = torch.sort(torch.where(visible, depths, depths.new_tensor(torch.inf)), stable=True).indices
    kept = order[: int(visible.sum())]
    mean, conic, opacity = means2d[kept], conics[kept], opacities[kept]
    d = mean[None] - pixels[:, None]  # [P, V, 2]
    sigma = 0.5 * (conic[:, 0] * d[..., 0] ** 2 + conic[:, 2] * d[..., 1] ** 2) + conic[:, 1] * d[..., 0] * d[..., 1]
    alpha = (opacity * torch.exp(-sigma)).clamp_max(0.999)
    drawn = (sigma >= 0) & (alpha >= 1.0 / 255.0)
    if tile_size is not None:
        radius = radii.reshape(len(radii), -1)[kept].to(mean)
        low, high = ((mean - radius) / tile_size).floor(), ((mean + radius) / tile_size).ceil()
        tile = ((pixels - 0.5) / tile_size).floor()[:, None]
        drawn = drawn & ((tile >= low) & (tile < high)).all(dim=-1)
    alpha = torch.where(drawn, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1) if len(kept) else after
    # The contribution that would bring T to 1e-4 ends the pixel and is itself dropped.
    weights = torch.where(after > 1e-4, alpha * before, torch.zeros_like(alpha))
    return torch.zeros(pixels.shape[0], means2d.shape[0]).to(means2d).index_copy(1, kept, weights)


def rasterize_to_pixels(
    means2d: Tensor,  # [C, N, 2]
    conics: Tensor,  # [C, N, 3]
    colors: Tensor,  # [C, N, D]
    opacities: Tensor,  # [C, N]
    depths: Tensor,  # [C, N]
    radii: Tensor,  # [C, N] or [C, N, 2] int
    width: int,
    height: int,
    backgrounds: Tensor | None = None,  # [C, D]
    tile_size: int | None = 16,
) -> tuple[Tensor, Tensor]:
    """Colors [C, H, W, D] and alphas [C, H, W, 1] of all cameras, through `dense_weights`."""
    images, alphas = [], []
    for camera in range(means2d.shape[0]):
        weights = dense_weights(
            means2d[camera], conics[camera], opacities[camera], depths[camera], radii[camera], width, height, tile_size
        )
        alpha = weights.sum(dim=1, keepdim=True)
        image = weights @ colors[camera]
        if backgrounds is not None:
            image = image + (1 - alpha) * backgrounds[camera]
        images.append(image.reshape(height, width, -1))
        alphas.append(alpha.reshape(height, width, 1))
    return torch.stack(images), torch.stack(alphas)
