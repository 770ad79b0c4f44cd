"""Colors for integer ids: the same id has the same color in every picture, whatever else is in it."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

UNLABELLED = (64, 64, 64)
"""Dark grey, for id 0 and below."""

# 2^64 times the fractional parts of the golden ratio, sqrt(2) and sqrt(3), as signed 64-bit integers. Multiples of an
# irrational number modulo 1 spread evenly (Weyl), and the golden ratio keeps neighbours farthest apart. Integer
# arithmetic wraps, so that ids of any size keep their full precision on every device.
_HUE = 0x9E3779B97F4A7C15 - 2**64
_LIGHTNESS = 0x6A09E667F3BCC909
_SATURATION = 0xBB67AE8584CAA73B - 2**64


@overload
def colors(ids: Tensor) -> Tensor: ...


@overload
def colors(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...


def colors(ids: Tensor | np.ndarray[Any, Any]) -> Tensor | np.ndarray[Any, Any]:
    """One color for each id.

    Args:
        ids: integers [...], any shape and any size; 0 and negative ids mean unlabelled.

    Returns:
        uint8 [..., 3] RGB, of the kind (torch on the same device, or numpy) that came in. Unlabelled is dark grey.

    Raises:
        TypeError: `ids` are not integers.
    """
    if isinstance(ids, np.ndarray):
        if not np.issubdtype(ids.dtype, np.integer) and ids.dtype != np.bool_:
            raise TypeError(f"ids must be integers, got {ids.dtype}")
        return colors(torch.from_numpy(ids.astype(np.int64))).numpy()
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"ids must be integers, got {ids.dtype}")
    ids = ids.to(torch.int64)
    hue, lightness, saturation = (_fraction(ids, factor) for factor in (_HUE, _LIGHTNESS, _SATURATION))
    lightness = 0.42 + 0.36 * lightness
    chroma = (1 - (2 * lightness - 1).abs()) * (0.6 + 0.4 * saturation)
    # HSL to RGB by the closed formula: channel n peaks a third of the hue circle apart.
    channels = []
    for n in (0, 8, 4):
        k = (n + 12 * hue) % 12
        channels.append(lightness - 0.5 * chroma * torch.minimum(k - 3, 9 - k).clamp(-1, 1))
    rgb = (torch.stack(channels, dim=-1) * 255).round().clamp(0, 255).to(torch.uint8)
    return torch.where((ids > 0)[..., None], rgb, rgb.new_tensor(UNLABELLED))


def _fraction(ids: Tensor, factor: int) -> Tensor:
    """Fractional part of id * factor / 2^64, to 24 bits, exactly."""
    return ((ids * factor) >> 40 & 0xFFFFFF).to(torch.float32) / 2**24
