"""Compositing as one writes it down: pixel by pixel over the list of its tile, compiled by Numba as it is.

What CPU rasterizers of 3D Gaussians do that were ported from CUDA; `rendering.py` measures ours against it. The rules
are gsplat's, the lists are those of `project`. One thread.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit


@njit
def _alpha(x, y, mean, conic, opacity):  # type: ignore[no-untyped-def]
    dx, dy = x - mean[0], y - mean[1]
    sigma = np.float32(0.5) * (conic[0] * dx * dx + conic[2] * dy * dy) + conic[1] * dx * dy
    alpha = min(np.float32(0.999), opacity * math.exp(-sigma))
    return (alpha if sigma >= 0 and alpha >= np.float32(1 / 255) else np.float32(0)), dx, dy


@njit
def forward(means2d, conics, colors, opacities, offsets, ids, tile_size, image, transmittance, ends):  # type: ignore[no-untyped-def]
    """Composite one view.

    Args:
        means2d: [N, 2], conics [N, 3], colors [N, D], opacities [N].
        offsets: [tile_height, tile_width] into ids, where each tile's list begins.
        image: [H, W, D], transmittance [H, W], ends [H, W] (last + 1 place in ids), written.
    """
    height, width, channels = image.shape
    for row in range(height):
        for column in range(width):
            tile = row // tile_size * offsets.shape[1] + column // tile_size
            begin = offsets.flat[tile]
            stop = offsets.flat[tile + 1] if tile + 1 < offsets.size else len(ids)
            left, end = np.float32(1), begin
            for channel in range(channels):
                image[row, column, channel] = 0
            for k in range(begin, stop):
                g = ids[k]
                alpha, _, _ = _alpha(
                    np.float32(column + 0.5), np.float32(row + 0.5), means2d[g], conics[g], opacities[g]
                )
                if alpha == 0:
                    continue
                after = left * (np.float32(1) - alpha)
                if after <= np.float32(1e-4):
                    break
                for channel in range(channels):
                    image[row, column, channel] += alpha * left * colors[g, channel]
                left, end = after, k + 1
            transmittance[row, column], ends[row, column] = left, end


@njit
def backward(  # type: ignore[no-untyped-def]
    means2d, conics, colors, opacities, offsets, ids, tile_size, transmittance, ends, v_image, v_alphas, v_means,
    v_conics, v_colors, v_opacities,
):  # fmt: skip
    """Gradients of `forward`, back to front; v_means, v_conics, v_colors and v_opacities are added to."""
    height, width, channels = v_image.shape
    behind = np.zeros(channels, np.float32)
    for row in range(height):
        for column in range(width):
            tile = row // tile_size * offsets.shape[1] + column // tile_size
            behind[:] = 0
            last, left = transmittance[row, column], transmittance[row, column]
            for k in range(ends[row, column] - 1, offsets.flat[tile] - 1, -1):
                g = ids[k]
                alpha, dx, dy = _alpha(
                    np.float32(column + 0.5), np.float32(row + 0.5), means2d[g], conics[g], opacities[g]
                )
                if alpha == 0:
                    continue
                inverse = np.float32(1) / (np.float32(1) - alpha)
                left *= inverse
                v_alpha = last * inverse * v_alphas[row, column]
                for channel in range(channels):
                    v = v_image[row, column, channel]
                    v_colors[g, channel] += alpha * left * v
                    v_alpha += (colors[g, channel] * left - behind[channel] * inverse) * v
                    behind[channel] += colors[g, channel] * alpha * left
                if alpha >= np.float32(0.999):
                    continue
                v_sigma = -alpha * v_alpha
                v_conics[g, 0] += np.float32(0.5) * v_sigma * dx * dx
                v_conics[g, 1] += v_sigma * dx * dy
                v_conics[g, 2] += np.float32(0.5) * v_sigma * dy * dy
                v_means[g, 0] -= v_sigma * (conics[g, 0] * dx + conics[g, 1] * dy)
                v_means[g, 1] -= v_sigma * (conics[g, 1] * dx + conics[g, 2] * dy)
                v_opacities[g] += alpha / opacities[g] * v_alpha


class View:
    """A projected view, and what was composited of it."""

    def __init__(self, meta: dict[str, Any], colors: np.ndarray) -> None:
        """Take `meta` of `project` with one camera, and colors [N, D]."""
        names = ("means2d", "conics")
        self.splats = [meta[name][0].numpy() for name in names] + [colors, meta["opacities"][0].numpy()]
        self.lists = [meta["isect_offsets"][0].numpy().astype(np.int64), meta["flatten_ids"].numpy(), meta["tile_size"]]
        size = (meta["height"], meta["width"])
        self.image = np.empty((*size, colors.shape[1]), np.float32)
        self.transmittance, self.ends = np.empty(size, np.float32), np.empty(size, np.int64)

    def forward(self) -> None:
        """Composite."""
        forward(*self.splats, *self.lists, self.image, self.transmittance, self.ends)  # type: ignore[call-arg]

    def backward(self, v_image: np.ndarray, v_alphas: np.ndarray) -> list[np.ndarray]:
        """Gradients of means2d, conics, colors and opacities."""
        gradients = [np.zeros_like(values) for values in self.splats]
        inputs = (*self.splats, *self.lists, self.transmittance, self.ends, v_image, v_alphas)
        backward(*inputs, *gradients)  # type: ignore[call-arg]
        return gradients
