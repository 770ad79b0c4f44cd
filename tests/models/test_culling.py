"""Gaussians whose centers no training picture shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter, ParameterDict

from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.saga import saga
from gseg_ns.models.culling import cull_out_of_pictures, in_pictures
from gseg_ns.models.parameters import GEOMETRY
from gseg_ns.rendering import Camera

K = torch.tensor([[10.0, 0.0, 8.0], [0.0, 10.0, 6.0], [0.0, 0.0, 1.0]])
AHEAD = Camera(torch.eye(4), K, 16, 12)
BACK = Camera(torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])), K, 16, 12)
MEANS = torch.tensor(
    [
        [0.0, 0.0, 2.0],  # ahead, in the middle
        [1.5, 0.0, 2.0],  # in the last column but one
        [1.7, 0.0, 2.0],  # beyond it
        [0.0, 1.3, 2.0],  # below the picture
        [0.0, 0.0, -3.0],  # behind the first camera, before the second
        [0.0, 0.0, 0.0],  # in the lens of both
    ]
)


def test_a_center_lies_in_the_pictures_that_show_its_place() -> None:
    assert in_pictures(MEANS, [AHEAD]).tolist() == [True, True, False, False, False, False]
    assert in_pictures(MEANS, [AHEAD, BACK]).tolist() == [True, True, False, False, True, False]
    assert not in_pictures(MEANS, []).any()


def gaussians() -> tuple[ParameterDict, dict[str, Any], dict[str, Any]]:
    """Of the centers above, with moments of a step, and what densification counts."""
    params = ParameterDict({"means": Parameter(MEANS.clone()), "identity": Parameter(torch.arange(6.0)[:, None])})
    optimizers = {name: torch.optim.Adam([parameter]) for name, parameter in params.items()}
    params["identity"].grad = torch.arange(6.0)[:, None] + 1
    optimizers["identity"].step()
    return params, optimizers, {"count": torch.arange(6.0), "scene_scale": 1.0}


def test_moments_and_counts_go_with_their_gaussians(capsys: pytest.CaptureFixture[str]) -> None:
    params, optimizers, state = gaussians()
    before = params["identity"].detach().clone()
    moments = optimizers["identity"].state[params["identity"]]["exp_avg"].clone()
    cull_out_of_pictures(params, optimizers, state, [AHEAD, BACK])
    kept = [0, 1, 4]
    assert torch.equal(params["means"], MEANS[kept])
    assert torch.equal(params["identity"], before[kept])
    assert state["count"].tolist() == kept
    (trained,) = optimizers["identity"].param_groups[0]["params"]
    assert trained is params["identity"]
    assert torch.equal(optimizers["identity"].state[trained]["exp_avg"], moments[kept])
    assert "3 of 6 Gaussians are left out" in capsys.readouterr().out


@pytest.mark.parametrize("cameras", [[], [AHEAD]], ids=["no camera", "all behind"])
def test_something_is_left(cameras: list[Camera]) -> None:
    params, optimizers, state = gaussians()
    with torch.no_grad():
        params["means"][:] = torch.tensor([0.0, 0.0, -1.0])
    cull_out_of_pictures(params, optimizers, state, cameras)
    assert len(params["means"]) == 6


def add_one_behind(trainer: Any) -> int:
    """Let one Gaussian be above all cameras; returns how many there are."""
    model = trainer.pipeline.model
    with torch.no_grad():
        model.gauss_params["means"][0] = torch.tensor([0.0, 0.0, 1e4])
    return int(model.num_points)


@pytest.mark.parametrize("asked", [True, False])
def test_it_is_gone_when_the_geometry_freezes(
    asked: bool, make_trainer: Callable[..., Any], small_scene: Path, step: Callable[..., dict[str, Tensor]]
) -> None:
    trainer = make_trainer(gaga, small_scene, cull_out_of_pictures=asked, refine_every=1000)
    model, first = trainer.pipeline.model, trainer.pipeline.model.geometry_steps
    step(trainer, first - 1)
    count = add_one_behind(trainer)
    step(trainer, first)
    far = (model.means.abs().amax(dim=1) > 1e3).sum()
    assert (int(far), model.num_points < count) == ((0, True) if asked else (1, False))
    assert len(model.gaussian_groups()) == len(model.gauss_params["identity"]) == model.num_points
    (trained,) = trainer.optimizers.optimizers["identity"].param_groups[0]["params"]
    assert trained is model.gauss_params["identity"]
    step(trainer, first + 1)  # features go on


def test_a_given_geometry_and_one_that_never_freezes_stay_whole(
    make_trainer: Callable[..., Any], small_scene: Path, step: Callable[..., dict[str, Tensor]]
) -> None:
    source = make_trainer(gaga, small_scene, cull_out_of_pictures=False)
    count = add_one_behind(source)
    source.save_checkpoint(0)
    given = make_trainer(gaga, small_scene, geometry=source.base_dir)
    step(given, 0)
    assert given.pipeline.model.num_points == count
    joint = make_trainer(gradiseg, small_scene, refine_every=1000)
    count = add_one_behind(joint)
    for number in range(3):
        step(joint, number)
    assert joint.pipeline.model.num_points == count


def voted(model: Any) -> Tensor:
    """What masks say of each Gaussian, without features that answer for the rest of a tree."""
    tree = model.tree()
    return cast(Tensor, tree.labels("object") if tree is not None else model.gaussian_groups())


@pytest.mark.parametrize("last", [6, 7], ids=["stopped", "ended"])
@pytest.mark.parametrize("method", [gaga, saga], ids=["gaga", "saga"])
def test_a_run_that_goes_on_for_longer_finds_its_groups_anew(
    method: Any, last: int, make_trainer: Callable[..., Any], small_scene: Path, step: Callable[..., dict[str, Tensor]]
) -> None:
    """Its geometry trains on before it freezes again: what was found was found in Gaussians that are elsewhere now."""
    short = make_trainer(method, small_scene, steps=8, refine_every=1000)
    for number in range(5, last + 1):
        step(short, number)
    short.save_checkpoint(last)
    grouped = voted(short.pipeline.model) > 0
    assert grouped.any()
    longer = make_trainer(method, small_scene, load=short.checkpoint_dir, steps=16, refine_every=1000)
    model, first = longer.pipeline.model, longer.pipeline.model.geometry_steps
    step(longer, first - 1)
    assert not model.has_findings
    assert not model.by_vote
    # A classifier of another number of groups would be updated with moments of other sizes.
    assert not any(o.state for name, o in longer.optimizers.optimizers.items() if name not in GEOMETRY)
    order = torch.randperm(len(grouped), generator=torch.Generator().manual_seed(0))
    for parameter in model.gauss_params.values():  # each Gaussian in another's row
        parameter.data = parameter.data[order]
    count = add_one_behind(longer)
    step(longer, first)
    assert model.num_points == count - 1  # nobody sees the one behind
    assert model.by_vote
    again = voted(model)
    assert ((again > 0) == grouped[order][1:]).float().mean() > 0.95
    step(longer, first + 1)
    longer.save_checkpoint(first + 1)
    resumed = make_trainer(method, small_scene, load=longer.checkpoint_dir, steps=16, refine_every=1000)
    step(resumed, first + 2)
    assert torch.equal(voted(resumed.pipeline.model), again)


@pytest.mark.parametrize("method", [gaga, saga], ids=["gaga", "saga"])
def test_a_run_that_goes_on_where_its_geometry_would_freeze_keeps_its_groups(
    method: Any, make_trainer: Callable[..., Any], small_scene: Path, step: Callable[..., dict[str, Tensor]]
) -> None:
    short = make_trainer(method, small_scene, steps=9, refine_every=1000, cull_out_of_pictures=False)
    for number in range(6, 9):
        step(short, number)
    count = add_one_behind(short)
    short.save_checkpoint(8)
    groups = voted(short.pipeline.model)
    longer = make_trainer(method, small_scene, load=short.checkpoint_dir, steps=12, refine_every=1000)
    assert longer.pipeline.model.geometry_steps == 9
    step(longer, 9)
    assert longer.pipeline.model.num_points == count
    assert torch.equal(voted(longer.pipeline.model), groups)
