"""Adam on the CPU: torch's own update in one pass over memory, which the threads of the kernels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gseg_ns.rendering import threads

_BLOCK = 1 << 14
"""Numbers to a piece: whole vectors, so that each number is updated as it would be in one piece."""

_GRAIN = 8
"""Pieces worth handing to a thread."""


def _update(start: int, stop: int, tensors: tuple[Tensor, ...], step: Tensor, options: dict[str, Any]) -> None:
    """Update numbers of pieces start..stop."""
    parameter, gradient, mean, square = (t[start * _BLOCK : stop * _BLOCK] for t in tensors)
    torch._fused_adam_([parameter], [gradient], [mean], [square], [], [step], **options)


class SharedAdam(torch.optim.Adam):
    """`torch.optim.Adam`, whose fused update on the CPU is shared by threads, to the same bits.

    torch itself would take its own threads for it, of which it has one here (see `threads.configure`). Whatever is not
    a plain update of a parameter on the CPU is left to torch.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Make a step, as torch does."""
        todo = None if closure is not None or hasattr(self, "grad_scale") else self._plain_updates()
        if todo is None:
            # torch wraps the step of each class for its hooks, and this one is wrapped already.
            return getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step)(self, closure)
        for tensors, step, options in todo:
            step += 1
            flat = tuple(t.view(-1) for t in tensors)
            threads.share(_update, -(-flat[0].numel() // _BLOCK), flat, step, options, grain=_GRAIN)
        return None

    def _plain_updates(self) -> list[tuple[tuple[Tensor, ...], Tensor, dict[str, Any]]] | None:
        """Parameter, gradient and moments, step and options of each update; None where one of them is not plain."""
        todo: list[tuple[tuple[Tensor, ...], Tensor, dict[str, Any]]] = []
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            options = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}
            options |= {"beta1": beta1, "beta2": beta2}
            special = group["amsgrad"] or group.get("decoupled_weight_decay", False)
            if not group["fused"] or special or any(isinstance(value, Tensor) for value in options.values()):
                return None
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state.get(parameter)
                if not state:  # torch makes it
                    return None
                tensors = parameter.detach(), parameter.grad, state["exp_avg"], state["exp_avg_sq"]
                if not all(_is_plain(t, parameter.dtype) for t in tensors):
                    return None
                todo.append((tensors, state["step"], options))
        return todo


def _is_plain(tensor: Tensor, dtype: torch.dtype) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.dtype == dtype
        and dtype in (torch.float32, torch.float64)
        and tensor.is_contiguous()
    )
