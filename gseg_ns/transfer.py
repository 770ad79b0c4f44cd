"""Copies to a GPU that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor to a device; to a GPU without waiting until the GPU has done what it was told before.

    `Tensor.to` waits: from memory that the system may move, the driver can copy only while it holds the caller. Pinned
    memory is kept for reuse by torch until the copy is done.

    Args:
        tensor: on the CPU. One that is on a GPU already, or has a gradient, is handed to `Tensor.to`.
        device: where it shall be.
    """
    if torch.device(device).type == "cuda" and not tensor.is_cuda and not tensor.requires_grad:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
