"""How many Gaussians a device can train."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gseg_ns import terminal

CPU_MAX_GAUSSIANS = 60_000
"""Default budget without a GPU: a step of 60 000 Gaussians at 512x384 still takes well under a second on two cores."""

GPU_SHARE = 0.7
"""Part of a GPU's free memory that Gaussians may fill; the rest is for images, tile lists, and what torch keeps."""

GPU_BYTES = 1500
"""Memory of a Gaussian on a GPU beyond its parameters: harmonics gathered for a view, its projection, its tiles in two
sorted lists, and the gradients of all of these."""


def gpu_budget(free_bytes: int, feature_dims: int) -> int:
    """The number of Gaussians that can be trained in a GPU's free memory.

    A parameter of float32 is there four times, with its gradient and Adam's two moments. Splatfacto has 59 a Gaussian.

    Args:
        free_bytes: free memory before the Gaussians are there.
        feature_dims: numbers that a method adds to each Gaussian.
    """
    return max(int(GPU_SHARE * free_bytes / (16 * (59 + feature_dims) + GPU_BYTES)), CPU_MAX_GAUSSIANS)


def device_budget(device: torch.device | str, feature_dims: int) -> int:
    """The largest number of Gaussians on a device: by the time of a step on the CPU, by free memory on a GPU."""
    if torch.device(device).type == "cpu":
        return CPU_MAX_GAUSSIANS
    return gpu_budget(torch.cuda.mem_get_info(device)[0], feature_dims)


def draw_within(budget: int, count: int, tell: Callable[[str], None] = terminal.warn) -> Tensor:
    """Choose the points to start from: all [count], or a random subset of the budget's size (0 = any)."""
    if not budget or count <= budget:
        return torch.arange(count)
    tell(f"Starting from {budget} of {count} points: raise --max-gaussians to keep more.")
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:budget].sort().values
