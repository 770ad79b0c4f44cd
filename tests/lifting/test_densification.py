from __future__ import annotations

import pytest
import torch

from gseg_ns.lifting.densification import (
    GRADIENT,
    VISITS,
    accumulate,
    mean_gradient,
    reset_monitor,
    select,
    split_axis,
    split_in_two,
)


def scene(count: int) -> tuple[torch.nn.ParameterDict, dict[str, torch.optim.Optimizer], dict[str, torch.Tensor]]:
    """Random Gaussians whose optimisers have taken a step, with per-Gaussian state."""
    torch.manual_seed(0)
    params = torch.nn.ParameterDict(
        {
            "means": torch.nn.Parameter(torch.randn(count, 3)),
            "scales": torch.nn.Parameter(torch.randn(count, 3) - 2),
            "quats": torch.nn.Parameter(torch.randn(count, 4)),
            "opacities": torch.nn.Parameter(torch.randn(count, 1)),
            "features_rest": torch.nn.Parameter(torch.randn(count, 15, 3)),
            "identity": torch.nn.Parameter(torch.randn(count, 16)),
        }
    )
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam([parameter], lr=1e-3) for name, parameter in params.items()
    }
    torch.stack([parameter.square().sum() for parameter in params.values()]).sum().backward()
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad()
    state: dict[str, torch.Tensor] = {"grad2d": torch.arange(count).float(), "position": torch.randn(count, 3)}
    reset_monitor(state, count, "cpu")
    return params, optimizers, state


def test_every_field_moment_and_state_stays_in_step() -> None:
    params, optimizers, state = scene(10)
    state[GRADIENT] += 1.0
    before = {name: parameter.detach().clone() for name, parameter in params.items()}
    moments = {name: o.state[o.param_groups[0]["params"][0]]["exp_avg"].clone() for name, o in optimizers.items()}
    mask = torch.zeros(10, dtype=torch.bool)
    mask[[2, 7]] = True
    axis = split_axis(before["quats"][mask], before["scales"][mask].exp())
    assert split_in_two(params, optimizers, state, mask, axis) == 2
    for name, parameter in params.items():
        group = optimizers[name].param_groups[0]
        assert group["params"][0] is parameter
        assert parameter.requires_grad
        assert parameter.shape[0] == 12
        torch.testing.assert_close(parameter[:8], before[name][~mask])
        moment = optimizers[name].state[parameter]["exp_avg"]
        torch.testing.assert_close(moment[:8], moments[name][~mask])
        assert (moment[8:] == 0).all()
        if name not in ("means", "scales", "opacities"):
            torch.testing.assert_close(parameter[8:], before[name][mask].repeat(2, *[1] * (parameter.dim() - 1)))
    assert state["grad2d"].tolist() == [0, 1, 3, 4, 5, 6, 8, 9, 2, 7, 2, 7]
    assert state[GRADIENT].tolist() == [1] * 8 + [0] * 4
    # The optimiser goes on.
    params["means"].sum().backward()
    optimizers["means"].step()


def test_children_stand_on_both_sides_of_the_parent() -> None:
    params, optimizers, state = scene(6)
    before = {name: parameter.detach().clone() for name, parameter in params.items()}
    mask = torch.ones(6, dtype=torch.bool)
    axis = split_axis(before["quats"], before["scales"].exp())
    split_in_two(params, optimizers, state, mask, axis, offset=0.5, shrink=1.6)
    first, second = params["means"].detach().chunk(2)
    torch.testing.assert_close((first + second) / 2, before["means"])
    extent = before["scales"].exp().amax(-1)
    torch.testing.assert_close((first - second).norm(dim=-1), extent)
    shrunk = before["scales"].exp().gather(1, axis[:, None]) / params["scales"].detach()[:6].exp().gather(
        1, axis[:, None]
    )
    torch.testing.assert_close(shrunk, torch.full((6, 1), 1.6))
    # As opaque at the parent's centre as it was.
    alpha = params["opacities"].detach()[:6].sigmoid() * torch.exp(torch.tensor(-0.5 * 0.8**2))
    torch.testing.assert_close(1 - (1 - alpha).square(), before["opacities"].sigmoid(), rtol=1e-4, atol=1e-4)


def test_splitting_is_deterministic() -> None:
    results = []
    for seed in (1, 2):
        params, optimizers, state = scene(5)
        torch.manual_seed(seed)
        mask = torch.ones(5, dtype=torch.bool)
        split_in_two(params, optimizers, state, mask, split_axis(params["quats"], params["scales"].exp()))
        results.append(params["means"].detach().clone())
    assert torch.equal(*results)


def test_monitor_takes_norms_before_sums() -> None:
    state: dict[str, torch.Tensor] = {}
    reset_monitor(state, 3, "cpu")
    pull = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]])
    accumulate(state, pull, num_pixels=10)
    accumulate(state, torch.tensor([[-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), num_pixels=10)
    assert state[VISITS].tolist() == [2, 1, 0]
    assert mean_gradient(state).tolist() == [10, 5, 0]


def test_selection() -> None:
    gradient = torch.arange(10).float()
    scales = torch.ones(10, 3)
    scales[9] = 0.01
    assert select(gradient, scales, share=0.2, min_scale=0.1).nonzero().squeeze(1).tolist() == [7, 8]
    assert select(gradient, scales, threshold=6.5).nonzero().squeeze(1).tolist() == [7, 8, 9]
    assert select(gradient, scales, threshold=6.5, budget=1).nonzero().squeeze(1).tolist() == [9]
    assert not select(torch.zeros(10), scales, share=0.5).any()
    assert not select(gradient, scales, share=0.2, budget=-3).any()


def test_axes() -> None:
    quats = torch.tensor([[2.0, 0, 0, 0], [0.70710678, 0, 0, 0.70710678]])
    scales = torch.tensor([[1.0, 2, 3], [1.0, 2, 3]])
    assert split_axis(quats, scales).tolist() == [2, 2]
    # The second is turned by 90 degrees about z: the world's x is its own second axis.
    pull = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    assert split_axis(quats, scales, "position_gradient", pull).tolist() == [0, 1]
    assert split_axis(quats, scales, "position_gradient", torch.zeros(2, 3)).tolist() == [2, 2]
    assert split_axis(quats, scales, "random", generator=torch.Generator().manual_seed(0)).shape == (2,)
    with pytest.raises(ValueError, match="split direction"):
        split_axis(quats, scales, "sideways")
    with pytest.raises(ValueError, match="needs position gradients"):
        split_axis(quats, scales, "position_gradient")


def test_nothing_to_split_changes_nothing() -> None:
    params, optimizers, state = scene(4)
    means = params["means"]
    empty = torch.zeros(0, dtype=torch.long)
    assert split_in_two(params, optimizers, state, torch.zeros(4, dtype=torch.bool), empty) == 0
    assert params["means"] is means
