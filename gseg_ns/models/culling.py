"""Gaussians that photographs say too little of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from gsplat.strategy.ops import remove
from torch import Tensor
from torch.nn import ParameterDict
from torch.optim import Optimizer

from gseg_ns import terminal
from gseg_ns.lifting.memory_bank import centre_pixels
from gseg_ns.rendering import Camera


@torch.no_grad()
def in_pictures(means: Tensor, cameras: Iterable[Camera]) -> Tensor:
    """Which centers lie in a picture, whatever is before them.

    Args:
        means: [N, 3] in world coordinates.
        cameras: of the pictures.

    Returns:
        bool [N].
    """
    found = torch.zeros(len(means), dtype=torch.bool, device=means.device)
    for camera in cameras:
        found[centre_pixels(means, camera)[0]] = True
    return found


def cull_out_of_pictures(
    params: ParameterDict, optimizers: dict[str, Optimizer], state: dict[str, Any], cameras: Iterable[Camera]
) -> None:
    """Remove the Gaussians whose centers lie in no picture that was trained on.

    Of most of them no more than a rim is seen, at the edge of a picture, and many depths explain that rim; a large one
    may show more, as far as it reaches in. Those that came to lie near the cameras cover much of a view from between
    them. Nothing is removed where nothing would be left.

    Args:
        params: of the Gaussians, `means` [N, 3] and others with a row each; changed in place.
        optimizers: of the parameters, by the same names; follow.
        state: of gsplat's densification; follows.
        cameras: of the pictures.
    """
    means = params["means"]
    out = ~in_pictures(means.detach(), cameras)
    count = int(out.sum())
    if 0 < count < len(out):
        remove(params, optimizers, state, out)
        terminal.say(f"{count} of {len(out)} Gaussians are left out: their centers lie in no training picture.")
