"""Splats for the tests of file formats: random, within what a format of few bits can still say."""

from __future__ import annotations

import torch

from gseg_ns.splats import Splats


def make(count: int = 50, degree: int = 3) -> Splats:
    g = torch.Generator().manual_seed(degree)
    return Splats(
        means=torch.randn(count, 3, generator=g) * 4,
        quats=torch.randn(count, 4, generator=g),
        scales=torch.rand(count, 3, generator=g) * 6 - 7,
        opacities=torch.rand(count, generator=g) * 9 - 4.5,
        sh=torch.rand(count, (degree + 1) ** 2, 3, generator=g) * 1.6 - 0.8,
        extra={"label": torch.arange(count)},
    )
