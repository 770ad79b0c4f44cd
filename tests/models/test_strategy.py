from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter, ParameterDict

from gseg_ns.models.strategy import BudgetedStrategy


def make(count: int) -> tuple[ParameterDict, dict[str, torch.optim.Optimizer], dict[str, object]]:
    torch.manual_seed(0)
    params = ParameterDict(
        {
            "means": Parameter(torch.rand(count, 3)),
            "scales": Parameter(torch.full((count, 3), -6.0)),
            "quats": Parameter(torch.rand(count, 4)),
            "opacities": Parameter(torch.zeros(count, 1)),
            "identity": Parameter(torch.arange(count).float()[:, None].repeat(1, 16)),
        }
    )
    optimizers = {name: torch.optim.Adam([param]) for name, param in params.items()}
    state = {"grad2d": torch.arange(count).float(), "count": torch.ones(count), "radii": torch.zeros(count)}
    return params, optimizers, {**state, "scene_scale": 1.0}


@pytest.mark.parametrize(("budget", "expected"), [(0, 19), (100, 19), (14, 14), (10, 10), (5, 10)])
def test_growth_stops_at_the_budget(budget: int, expected: int) -> None:
    params, optimizers, state = make(10)
    strategy = BudgetedStrategy(grow_grad2d=0.5, refine_scale2d_stop_iter=1000, max_gaussians=budget)
    strategy._grow_gs(params, optimizers, state, step=10)
    assert {param.shape[0] for param in params.values()} == {expected}


def test_the_largest_gradients_are_served_and_fields_stay_in_step() -> None:
    params, optimizers, state = make(10)
    strategy = BudgetedStrategy(grow_grad2d=0.5, refine_scale2d_stop_iter=1000, max_gaussians=13)
    strategy._grow_gs(params, optimizers, state, step=10)
    assert sorted(params["identity"][10:, 0].tolist()) == [7, 8, 9]
    assert optimizers["identity"].param_groups[0]["params"][0] is params["identity"]
