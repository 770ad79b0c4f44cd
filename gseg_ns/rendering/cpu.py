"""Compositing on the CPU as an autograd function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import composite, weights
from gseg_ns.rendering.kernels.composite import EXTRA


def offsets_with_end(isect_offsets: Tensor, flatten_ids: Tensor) -> np.ndarray:
    """Tile offsets [tiles + 1] with the end of the last list appended."""
    flat = isect_offsets.reshape(-1)
    out = np.empty(flat.numel() + 1, np.int64)
    out[:-1] = flat.numpy()
    out[-1] = flatten_ids.numel()
    return out


def pack(means2d: Tensor, conics: Tensor, opacities: Tensor) -> np.ndarray:
    """Projected Gaussians [C, N, ...] as the kernels read them: [C * N, PACKED]."""
    total = opacities.numel()
    packed = np.empty((total, weights.PACKED), opacities.detach().numpy().dtype)
    threads.share(
        weights.pack, total, means2d.detach().reshape(total, 2).contiguous().numpy(),
        conics.detach().reshape(total, 3).contiguous().numpy(),
        opacities.detach().reshape(total).contiguous().numpy(), packed, grain=2048,
    )  # fmt: skip
    return packed


class _Composite(torch.autograd.Function):
    """Forward and backward compositing without background; alpha is returned beside the colors."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,  # [C, N, 2]
        conics: Tensor,  # [C, N, 3]
        colors: Tensor,  # [C, N, D]
        opacities: Tensor,  # [C, N]
        isect_offsets: Tensor,  # [C, tile_height, tile_width]
        flatten_ids: Tensor,  # [n_isects]
        masks: Tensor | None,  # [C, tile_height, tile_width]
        width: int,
        height: int,
        tile_size: int,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor]:
        cameras, tile_height, tile_width = isect_offsets.shape
        total, channels = cameras * means2d.shape[1], colors.shape[-1]
        inputs = (
            pack(means2d, conics, opacities),
            colors.detach().reshape(total, channels).contiguous().numpy(),
            offsets_with_end(isect_offsets, flatten_ids),
            flatten_ids.contiguous().numpy(),
            np.empty(0, np.bool_) if masks is None else masks.reshape(-1).contiguous().numpy(),
            width,
            height,
            tile_size,
            tile_width,
            tile_height,
        )
        image = torch.empty((cameras, height, width, channels), dtype=means2d.dtype)
        transmittance = torch.empty((cameras, height, width), dtype=means2d.dtype)
        tiles = cameras * tile_height * tile_width
        threads.share(composite.forward, tiles, *inputs, image.numpy(), transmittance.numpy())
        ctx.save_for_backward(means2d, conics, colors, opacities, image, transmittance)
        ctx.inputs, ctx.absgrad = inputs, absgrad
        return image, 1.0 - transmittance[..., None]

    @staticmethod
    def backward(ctx: Any, v_image: Tensor, v_alphas: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        means2d, conics, colors, opacities, image, transmittance = ctx.saved_tensors
        tiles = ctx.inputs[2].shape[0] - 1
        flatten_ids = ctx.inputs[3]
        channels = colors.shape[-1]
        total = means2d.shape[0] * means2d.shape[1]
        v_pairs = np.empty((flatten_ids.shape[0], channels + EXTRA), image.numpy().dtype)
        threads.share(
            composite.backward, tiles, *ctx.inputs, image.numpy(), transmittance.numpy(),
            v_image.contiguous().numpy(), v_alphas[..., 0].contiguous().numpy(), v_pairs,
        )  # fmt: skip
        grads = [
            torch.empty_like(t, memory_format=torch.contiguous_format) for t in (colors, means2d, conics, opacities)
        ]
        absolute = torch.empty((*means2d.shape[:2], 2) if ctx.absgrad else (0, 0, 2), dtype=means2d.dtype)
        v_colors, v_means2d, v_conics, v_opacities = grads
        threads.share(
            composite.reduce_pairs, total, flatten_ids, v_pairs, np.empty((total, channels + EXTRA), v_pairs.dtype),
            v_colors.view(total, channels).numpy(), v_means2d.view(total, 2).numpy(), absolute.view(-1, 2).numpy(),
            v_conics.view(total, 3).numpy(), v_opacities.view(total).numpy(), grain=1 << 16,
        )  # fmt: skip
        if ctx.absgrad:
            means2d.absgrad = absolute
        return v_means2d, v_conics, v_colors, v_opacities, *(None,) * 7


def rasterize_to_pixels(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    image_width: int,
    image_height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: Tensor | None = None,
    masks: Tensor | None = None,
    absgrad: bool = False,
) -> tuple[Tensor, Tensor]:
    """CPU side of `gseg_ns.rendering.rasterize_to_pixels`; shapes as there, already checked."""
    image, alphas = _Composite.apply(
        means2d, conics, colors, opacities, isect_offsets, flatten_ids, masks, image_width, image_height, tile_size,
        absgrad,
    )  # fmt: skip
    if backgrounds is not None:
        image = image + (1.0 - alphas) * backgrounds[:, None, None, :]
    return image, alphas
