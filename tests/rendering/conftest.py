"""Small random scenes for the rendering tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor


class Scene(NamedTuple):
    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4]
    scales: Tensor  # [N, 3]
    opacities: Tensor  # [N]
    viewmats: Tensor  # [C, 4, 4]
    Ks: Tensor  # [C, 3, 3]
    width: int
    height: int


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    def make(
        count: int = 80,
        width: int = 37,
        height: int = 29,
        cameras: int = 1,
        dtype: torch.dtype = torch.float32,
        size: float = 0.12,
        seed: int = 0,
    ) -> Scene:
        g = torch.Generator().manual_seed(seed)
        means = (torch.rand(count, 3, generator=g, dtype=dtype) * 2 - 1) * torch.tensor([1.4, 1.1, 1.0], dtype=dtype)
        quats = torch.randn(count, 4, generator=g, dtype=dtype)
        scales = torch.exp(torch.randn(count, 3, generator=g, dtype=dtype) * 0.6) * size
        opacities = torch.rand(count, generator=g, dtype=dtype)
        opacities[::5] = 1.0
        viewmats = torch.eye(4, dtype=dtype).repeat(cameras, 1, 1)
        viewmats[:, 2, 3] = 3.0
        for camera in range(1, cameras):
            angle = torch.tensor(0.4 * camera, dtype=dtype)
            viewmats[camera, 0, 0] = viewmats[camera, 2, 2] = angle.cos()
            viewmats[camera, 0, 2], viewmats[camera, 2, 0] = angle.sin(), -angle.sin()
        K = torch.tensor([[1.0 * width, 0, 0.48 * width], [0, 1.1 * width, 0.53 * height], [0, 0, 1]], dtype=dtype)
        return Scene(means, quats, scales, opacities, viewmats, K.repeat(cameras, 1, 1), width, height)

    return make
