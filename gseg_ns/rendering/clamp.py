"""`clamp` on the CPU as an autograd function: torch's own backward takes ten passes over a picture on one thread."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import clamp as kernels

_GRAIN = 1 << 15
"""Numbers worth handing to a thread."""


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        # Saved by torch, which finds out when they are changed in place before the gradients are asked for.
        ctx.save_for_backward(values)
        ctx.bounds = low, high
        given = values.detach().contiguous()
        out = torch.empty_like(given)
        threads.share(
            kernels.forward, out.numel(), given.view(-1).numpy(), low, high, out.view(-1).numpy(), grain=_GRAIN
        )
        return out

    @staticmethod
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        v_values = torch.empty(v_out.shape, dtype=v_out.dtype)
        upstream = v_out.contiguous().view(-1).numpy()
        (values,) = ctx.saved_tensors
        given = values.detach().contiguous().view(-1).numpy()
        threads.share(
            kernels.backward, len(upstream), given, *ctx.bounds, upstream, v_values.view(-1).numpy(), grain=_GRAIN
        )
        return v_values, None, None


def clamp(values: Tensor, low: float, high: float) -> Tensor:
    """Return the values within two bounds: `torch.clamp`, with kernels for floats on the CPU."""
    if values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64):
        return torch.clamp(values, low, high)
    return cast(Tensor, _Clamp.apply(values, low, high))
