from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from gseg_ns.models.adam import SharedAdam, SharedOptimizers, together
from gseg_ns.models.trainer import update_in_one_pass
from gseg_ns.rendering import threads
from thread_counts import kernel_threads


@pytest.fixture
def three_threads() -> Iterator[None]:
    with kernel_threads(3):
        yield


def trained(kind: type[torch.optim.Adam], device: str = "cpu", **options: Any) -> list[Tensor]:
    """Parameters and moments after some steps: one of many pieces, a small one, one that has no gradient at times."""
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=g) for shape in ((9001, 45), (7, 3), (300_001,))]
    slopes = [torch.randn(values.shape, generator=g) for values in start]
    parameters = [torch.nn.Parameter(values.to(device)) for values in start]
    optimizer = kind(parameters, lr=0.01, eps=1e-15, **options)
    for number in range(4):
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.grad = (slope * (number + 1)).cos().to(device)
        if number == 2:
            parameters[2].grad = None
        optimizer.step()
    states = [optimizer.state[parameter] for parameter in parameters]
    assert [float(state["step"]) for state in states] == [4, 4, 3]
    return [p.detach() for p in parameters] + [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"maximize": True}, {"amsgrad": True}])
def test_shared_steps_are_torchs_to_the_last_bit(three_threads: None, options: dict[str, Any]) -> None:
    found, expected = (trained(kind, fused=True, **options) for kind in (SharedAdam, torch.optim.Adam))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


def test_work_is_shared(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, share = [], threads.share

    def noted(kernel: Any, count: int, *args: Any, grain: int) -> None:
        shared.append(count)
        share(kernel, count, *args, grain=grain)

    monkeypatch.setattr(threads, "share", noted)
    trained(SharedAdam, fused=True)
    pieces = [-(-count // (1 << 14)) for count in (9001 * 45, 7 * 3, 300_001)]
    # The first step is torch's, which makes the moments; one has no gradient for the last.
    assert shared == [sum(pieces), sum(pieces[:2]), sum(pieces)]


def test_steps_of_several_optimizers_are_made_together_to_the_same_bits(
    three_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, share = [], threads.share

    def noted(kernel: Any, count: int, *args: Any, grain: int) -> None:
        shared.append(count)
        share(kernel, count, *args, grain=grain)

    monkeypatch.setattr(threads, "share", noted)
    found = []
    for kind in (SharedAdam, torch.optim.Adam):
        g = torch.Generator().manual_seed(0)
        names = ("means", "seen", "rest", "unused")
        parameters = {
            name: [torch.nn.Parameter(torch.randn(count, generator=g))]
            for name, count in zip(names, (70_001, 5, 250_000, 9), strict=True)
        }
        configs = {
            name: {
                "optimizer": AdamOptimizerConfig(_target=kind, lr=0.01 * (n + 1), max_norm=n or None),
                "scheduler": None,
            }
            for n, name in enumerate(names)
        }
        optimizers = update_in_one_pass(SharedOptimizers(configs, parameters))
        called: list[Tensor] = []
        seen = parameters["seen"][0]
        optimizers.optimizers["seen"].register_step_post_hook(lambda *_, p=seen, c=called: c.append(p.detach().clone()))
        for number in range(3):
            for name in names[:3]:
                parameters[name][0].grad = (parameters[name][0].detach() * (number + 1)).cos()
            optimizers.optimizer_scaler_step_some(torch.cuda.amp.GradScaler(enabled=False), list(names))
            assert torch.equal(called[-1], seen)
            optimizers.zero_grad_some([*names[:2], names[3]])
            assert [parameters[name][0].grad is None for name in names] == [True, True, False, True]
        found.append([parameters[name][0].detach() for name in names])
    for mine, theirs in zip(*found, strict=True):
        assert torch.equal(mine, theirs)
    # One with a hook is on its own; the first step is torch's.
    assert shared == [1, 5 + 16] * 2


def test_without_fused_updates_it_is_torchs(three_threads: None) -> None:
    for mine, theirs in zip(trained(SharedAdam), trained(torch.optim.Adam), strict=True):
        assert torch.equal(mine, theirs)


def test_a_hook_is_called_once_a_step() -> None:
    parameter = torch.nn.Parameter(torch.ones(5))
    optimizer, called = SharedAdam([parameter], lr=0.1, fused=True), []
    optimizer.register_step_post_hook(lambda *_: called.append(0))
    for number in range(1, 4):
        parameter.grad = torch.ones(5)
        optimizer.step()
        assert len(called) == number


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_hook_sees_what_the_step_did(everywhere: bool) -> None:
    parameter = torch.nn.Parameter(torch.ones(5))
    optimizer, seen = SharedAdam([parameter], lr=0.1, fused=True), []
    register = register_optimizer_step_post_hook if everywhere else optimizer.register_step_post_hook
    handle = register(lambda *_: seen.append(parameter.detach().clone()))
    try:
        for _ in range(3):
            parameter.grad = torch.ones(5)
            with together():
                optimizer.step()
            assert torch.equal(seen[-1], parameter)
    finally:
        handle.remove()
    assert len(seen) == 3


@pytest.mark.parametrize("second", ["plain", "with a hook", "torch's", "the same", "of a view"])
def test_steps_of_one_parameter_are_made_one_after_the_other(three_threads: None, second: str) -> None:
    """Made at once, pieces of the parameter would be read by one thread while another writes them."""
    start = torch.randn(50, 1 << 14, generator=torch.Generator().manual_seed(0))
    found = []
    for kind in (SharedAdam, torch.optim.Adam):
        first, other = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start[:3].clone())
        again = torch.nn.Parameter(first.detach()[1:]) if second == "of a view" else first
        optimizers = [kind([first, other], lr=0.01, fused=True), kind([again], lr=0.3, fused=second != "torch's")]
        if second == "with a hook":
            optimizers[1].register_step_post_hook(lambda *_: None)
        if second == "the same":
            optimizers[1] = optimizers[0]
        for number in range(4):
            for parameter in (first, other, again):
                parameter.grad = (start[: len(parameter)] * (number + 1)).cos()
            with together():
                for optimizer in optimizers:
                    optimizer.step()
        found.append([first.detach(), other.detach()])
    for mine, theirs in zip(*found, strict=True):
        assert torch.equal(mine, theirs)


def test_a_sparse_parameter_may_be_stepped_beside_others() -> None:
    dense, sparse = torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.eye(3).to_sparse())
    mine, theirs = SharedAdam([dense], lr=0.1, fused=True), SharedAdam([sparse], lr=0.1)
    for number in range(1, 4):
        dense.grad = torch.ones(5)
        with together():
            mine.step()
            theirs.step()
        assert float(dense.detach()[0]) == pytest.approx(1 - 0.1 * number)


def test_another_layout_is_torchs(three_threads: None) -> None:
    found = []
    for kind in (SharedAdam, torch.optim.Adam):
        parameter = torch.nn.Parameter(torch.arange(12.0).view(3, 4))
        optimizer = kind([parameter], lr=0.1, fused=True)
        for _ in range(3):
            parameter.grad = torch.arange(12.0).view(4, 3).T
            optimizer.step()
        found.append(parameter.detach())
    assert torch.equal(*found)


@pytest.mark.cuda
def test_on_a_gpu_it_is_torchs() -> None:
    for mine, theirs in zip(trained(SharedAdam, "cuda"), trained(torch.optim.Adam, "cuda"), strict=True):
        assert torch.equal(mine, theirs)
