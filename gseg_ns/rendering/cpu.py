"""Compositing on the CPU as an autograd function."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import composite, tiles, weights
from gseg_ns.rendering.kernels.composite import EXTRA

_PACKED = "gseg_packed"
"""Under which a `meta` of the CPU keeps its Gaussians as kernels want them."""


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


def packed_of(meta: dict[str, Any]) -> np.ndarray:
    """The projected Gaussians of a `meta` of `project` as the kernels read them: [C * N, PACKED]."""
    projected = meta["means2d"], meta["conics"], meta["opacities"]
    kept = meta.get(_PACKED)
    # Several questions about one view are the rule.
    if kept is None or any(one is not other for one, other in zip(kept[0], projected, strict=True)):
        kept = meta[_PACKED] = projected, pack(*projected)
    return cast(np.ndarray, kept[1])


def taken_packed(meta: dict[str, Any]) -> np.ndarray:
    """As `packed_of`, and the `meta` has only what gsplat's has."""
    packed = packed_of(meta)
    del meta[_PACKED]
    return packed


def scene_of(meta: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays that kernels start with, of a `meta` of `project`: projected Gaussians, tile offsets and lists."""
    return (
        packed_of(meta),
        offsets_with_end(meta["isect_offsets"], meta["flatten_ids"]),
        meta["flatten_ids"].numpy(),
    )


def composite_values(meta: dict[str, Any], values: Tensor, shown: Tensor | None) -> Tensor:
    """CPU side of `gseg_ns.rendering.composite` without gradients: what other questions packed is not packed again."""
    width, height, tile_size = meta["width"], meta["height"], meta["tile_size"]
    scene, channels = scene_of(meta), values.shape[1]
    image = torch.empty((1, height, width, channels), dtype=meta["means2d"].dtype)
    masks = np.empty(0, np.bool_) if shown is None else shown.reshape(-1).contiguous().numpy()
    threads.share(
        composite.forward, len(scene[1]) - 1, scene[0], values.to(image.dtype).contiguous().numpy(), *scene[1:], masks,
        width, height, tile_size, meta["tile_width"], meta["tile_height"], image.numpy(),
        np.empty((1, height, width), scene[0].dtype),
    )  # fmt: skip
    return image[0]


def tiles_showing(meta: dict[str, Any], rows: Tensor) -> Tensor:
    """CPU side of `gseg_ns.rendering.tiles_showing`."""
    offsets = offsets_with_end(meta["isect_offsets"], meta["flatten_ids"])
    found = torch.empty(meta["isect_offsets"].shape, dtype=torch.bool)
    threads.share(
        tiles.tiles_with, len(offsets) - 1, offsets, meta["flatten_ids"].numpy(), rows.contiguous().numpy(),
        found.view(-1).numpy(),
    )  # fmt: skip
    return found


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
        packed: np.ndarray | None,  # [C * N, PACKED], where it was made before
    ) -> tuple[Tensor, Tensor]:
        cameras, tile_height, tile_width = isect_offsets.shape
        total, channels = cameras * means2d.shape[1], colors.shape[-1]
        inputs = (
            pack(means2d, conics, opacities) if packed is None else packed,
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
        threads.share(
            composite.forward, cameras * tile_height * tile_width, *inputs, image.numpy(), transmittance.numpy()
        )
        ctx.save_for_backward(means2d, conics, colors, opacities, image, transmittance)
        ctx.inputs, ctx.absgrad = inputs, absgrad
        return image, 1.0 - transmittance[..., None]

    @staticmethod
    def backward(ctx: Any, v_image: Tensor, v_alphas: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        means2d, conics, colors, opacities, image, transmittance = ctx.saved_tensors
        flatten_ids = ctx.inputs[3]
        channels = colors.shape[-1]
        total = means2d.shape[0] * means2d.shape[1]
        v_pairs = np.empty((flatten_ids.shape[0], channels + EXTRA), image.numpy().dtype)
        threads.share(
            composite.backward, ctx.inputs[2].shape[0] - 1, *ctx.inputs, image.numpy(), transmittance.numpy(),
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
            v_conics.view(total, 3).numpy(), v_opacities.view(total).numpy(),
            # Each part walks all pairs once more: not more of them than threads.
            grain=max(total // threads.num_threads(), 1 << 12),
        )  # fmt: skip
        if ctx.absgrad:
            means2d.absgrad = absolute
        return v_means2d, v_conics, v_colors, v_opacities, *(None,) * 8


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
    packed: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """CPU side of `gseg_ns.rendering.rasterize_to_pixels`; shapes as there, already checked.

    `packed` is what `pack` said of the same Gaussians before.
    """
    image, alphas = _Composite.apply(
        means2d, conics, colors, opacities, isect_offsets, flatten_ids, masks, image_width, image_height, tile_size,
        absgrad, packed,
    )  # fmt: skip
    if backgrounds is not None:
        image = image + (1.0 - alphas) * backgrounds[:, None, None, :]
    return image, alphas
