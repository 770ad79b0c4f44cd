"""Adam on the CPU: torch's own update in one pass over memory, which the threads of the kernels share."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import Any

import torch
from nerfstudio.engine.optimizers import Optimizers
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks

from gseg_ns.rendering import threads

_BLOCK = 1 << 14
"""Numbers to a piece: whole vectors, so that each number is updated as it would be in one piece."""

_GRAIN = 8
"""Pieces worth handing to a thread."""

_Update = tuple[tuple[Tensor, ...], Tensor, dict[str, Any]]
"""Parameter, gradient and moments; how many steps were made; options."""

_waiting: ContextVar[list[_Update] | None] = ContextVar("waiting", default=None)
"""Updates that wait for others."""


@contextmanager
def together() -> Iterator[None]:
    """Within this block, updates of `SharedAdam` wait for each other, and are shared as one: most are small.

    All that wait are made before a step of a parameter that has one waiting.
    """
    updates: list[_Update] = []
    token = _waiting.set(updates)
    try:
        yield
    finally:
        _waiting.reset(token)
        _share(updates)


def _memory(tensors: Iterable[Tensor]) -> set[int]:
    """Where tensors are in memory, of those that may wait."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.layout == torch.strided}


def _share(updates: list[_Update]) -> None:
    """Make updates."""
    flat = [tuple(t.view(-1) for t in tensors) for tensors, _, _ in updates]
    begins = [0, *accumulate(-(-tensors[0].numel() // _BLOCK) for tensors in flat)]

    def update(start: int, stop: int) -> None:
        """Update numbers of pieces start..stop of all."""
        which = bisect_right(begins, start) - 1
        while which < len(flat) and begins[which] < stop:
            first, last = (max(at - begins[which], 0) * _BLOCK for at in (start, min(stop, begins[which + 1])))
            parameter, gradient, mean, square = (t[first:last] for t in flat[which])
            _, step, options = updates[which]
            torch._fused_adam_([parameter], [gradient], [mean], [square], [], [step], **options)
            which += 1

    if updates:
        threads.share(update, begins[-1], grain=_GRAIN)


class SharedOptimizers(Optimizers):
    """Nerfstudio's, whose updates by `SharedAdam` are shared as one."""

    def zero_grad_some(self, param_groups: list[str]) -> None:
        """Let gradients of some groups go, as upstream, without what torch does around it for its profiler."""
        for name in param_groups:
            if type(self.optimizers[name]) is SharedAdam:
                for group in self.optimizers[name].param_groups:
                    for parameter in group["params"]:
                        parameter.grad = None
            else:
                self.optimizers[name].zero_grad()

    def optimizer_scaler_step_some(self, grad_scaler: Any, param_groups: list[str]) -> None:
        """Step some groups of parameters, as upstream."""
        with together():
            super().optimizer_scaler_step_some(grad_scaler, param_groups)


class SharedAdam(torch.optim.Adam):
    """`torch.optim.Adam`, whose fused update on the CPU is shared by threads, to the same bits.

    torch itself would take its own threads for it, of which it has one here (see `threads.configure`). Whatever is not
    a plain update of a parameter on the CPU is left to torch.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Make a step, as torch does."""
        waiting = _waiting.get()
        if waiting:
            own = _memory(parameter for group in self.param_groups for parameter in group["params"])
            if own & _memory(tensors[0] for tensors, _, _ in waiting):
                _share(waiting)
                waiting.clear()
        todo = None if closure is not None or hasattr(self, "grad_scale") else self._plain_updates()
        if todo is None:
            # torch wraps the step of each class for its hooks, and this one is wrapped already.
            return getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step)(self, closure)
        for _, step, _ in todo:
            step += 1
        # Who wants to be called after a step wants to see what it did.
        if waiting is None or self._optimizer_step_post_hooks or _global_optimizer_post_hooks:
            _share(todo)
        else:
            waiting += todo
        return None

    def _plain_updates(self) -> list[_Update] | None:
        """The updates of a step; None where one of them is not plain."""
        todo: list[_Update] = []
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
