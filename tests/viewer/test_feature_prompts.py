"""Clicks that are answered by features: scale, threshold, and what is not wanted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Duplicate, Hide, Isolate, Remove
from gseg_ns.errors import GsegError
from gseg_ns.lifting.similarity import similarity
from gseg_ns.models import saga
from gseg_ns.models.saga import SagaModel, SagaModelConfig
from gseg_ns.runs.edited_model import with_gaussians
from gseg_ns.runs.prompting import Prompter
from gseg_ns.selection.prompts import Prompt
from gseg_ns.viewer.controller import SegmentController
from three_balls import BALL, PER_BALL, FakeSam, build_model, pixel_of, plant, rows, view


@pytest.fixture
def model() -> SagaModel:
    """At scale 0 the balls are three, at scale 1 the left two are one."""
    model = build_model(SagaModelConfig())
    features = torch.zeros(len(BALL), 32)
    features[torch.arange(len(BALL)), BALL] = 1.0  # which ball it is
    features[torch.arange(len(BALL)), 3 + BALL // 2] = 1.0  # which pair
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.gauss_params["affinity"].copy_(features + 0.01 * noise)
        steep = torch.tensor([[-40.0]] * 3 + [[40.0]] * 2 + [[0.0]] * 27)  # the gate: balls at scale 0, pairs at 1
        model.scale_gate.linear.weight.copy_(steep)
        model.scale_gate.linear.bias.copy_(-steep[:, 0] / 2)
        model.scale_gate.linear.bias[5:] = -20.0
    model.finished.fill_(True)
    model.step = model.config.num_iterations - 1
    return model


@pytest.fixture
def controller(model: SagaModel) -> SegmentController:
    return SegmentController(model)


def test_the_scale_says_how_much_a_click_means(controller: SegmentController) -> None:
    camera = to_camera(view())
    controller.reprompt(scale=0.0)
    said = controller.click(camera, *pixel_of(0), positive=True)
    assert "the object: +150, 150 Gaussians now" in said
    assert torch.equal(controller.selected, rows(0))
    assert "Scale 1.00: 300 Gaussians" in controller.reprompt(scale=1.0)
    assert torch.equal(controller.selected, rows(0, 1))
    controller.reprompt(scale=0.0)
    assert torch.equal(controller.selected, rows(0))
    with pytest.raises(GsegError, match="outside"):
        controller.reprompt(scale=1.5)
    assert torch.equal(controller.selected, rows(0))


def test_the_scale_where_none_is_given(model: SagaModel) -> None:
    prompt = Prompt(positive=torch.tensor([pixel_of(0)]))
    model.config.default_scale = 0.0
    assert torch.equal(Prompter(model).select(view(), prompt), rows(0))
    model.config.default_scale = 1.0
    assert torch.equal(Prompter(model).select(view(), prompt), rows(0, 1))
    assert torch.equal(Prompter(model).select(view(), prompt, scale=0.0), rows(0))
    assert SegmentController(model).scale == 1.0


def test_the_threshold(controller: SegmentController) -> None:
    """At scale 0.5 all channels count alike: neighbours of a pair have cosine 0.5, others 0."""
    controller.reprompt(scale=0.5)
    controller.click(to_camera(view()), *pixel_of(0), positive=True)
    assert torch.equal(controller.selected, rows(0))
    controller.reprompt(threshold=0.4)
    assert torch.equal(controller.selected, rows(0, 1))
    controller.reprompt(threshold=-0.5)
    assert torch.equal(controller.selected, rows(0, 1, 2))
    assert "0 Gaussians" in controller.reprompt(threshold=1.0)
    controller.reprompt(threshold=0.75)
    assert torch.equal(controller.selected, rows(0))


def test_the_threshold_that_adapts(controller: SegmentController) -> None:
    controller.reprompt(scale=0.5)
    controller.click(to_camera(view()), *pixel_of(0), positive=True)
    cosines = similarity(
        controller.model.gauss_params["affinity"].detach(),
        controller._points[0].feature[None],
        controller.model.gate(0.5),
    )
    controller.reprompt(adaptive=True)
    assert torch.equal(controller.selected, cosines > cosines.mean())
    controller.reprompt(adaptive=False)
    assert torch.equal(controller.selected, rows(0))


def test_sams_own_features_are_asked_where_the_threshold_adapts(
    controller: SegmentController, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, asked = view(), []

    def answer(picture: Tensor, prompt: Prompt) -> Tensor:
        return torch.ones(picture.shape[:2], dtype=torch.bool)

    select = controller._prompter.select

    def noted(*arguments: Any, **options: Any) -> Tensor:
        asked.append((arguments[3], options["embedding"]))
        return select(*arguments, **options)

    monkeypatch.setattr(controller._prompter, "select", noted)
    embedding = torch.zeros(2, 3, 4)
    controller.mark(camera, *pixel_of(0), True, answer, embed=lambda: embedding)
    controller.reprompt(adaptive=True)
    assert [threshold for threshold, _ in asked] == [controller.threshold, None]
    assert all(given is embedding for _, given in asked)


def test_what_is_not_wanted(controller: SegmentController) -> None:
    camera = to_camera(view())
    controller.reprompt(scale=0.5, threshold=0.4)
    controller.click(camera, *pixel_of(0), positive=True)
    assert torch.equal(controller.selected, rows(0, 1))
    controller.click(camera, *pixel_of(1), positive=False)
    assert torch.equal(controller.selected, rows(0))
    controller.undo()
    assert torch.equal(controller.selected, rows(0, 1))
    # a click on what is not wanted takes it from what is there
    controller.change("all")
    controller.reprompt(threshold=0.75)
    controller.click(camera, *pixel_of(2), positive=False)
    assert torch.equal(controller.selected, rows(0, 1))
    # and a prompt begins anew beside it
    controller.click(camera, *pixel_of(2), positive=True)
    assert controller.selected[rows(0, 1)].all()


def test_what_is_not_wanted_of_an_earlier_selection(controller: SegmentController) -> None:
    """A rectangle around two, + on the third, − on the first: the second was not meant."""
    camera = to_camera(view())
    controller.reprompt(scale=0.0)
    controller.drag(camera, (0.0, 0.0), (pixel_of(1)[0] + 12, 64.0), visible_only=False)
    assert torch.equal(controller.selected, rows(0, 1))
    controller.click(camera, *pixel_of(2), positive=True)
    controller.click(camera, *pixel_of(0), positive=False)
    assert torch.equal(controller.selected, rows(1, 2))
    # what is like both is what it is more like
    controller.reprompt(threshold=-0.9)
    assert torch.equal(controller.selected[rows(0, 2)], rows(2)[rows(0, 2)])


def test_groups_are_those_of_the_scale_and_so_are_their_names(controller: SegmentController) -> None:
    controller.reprompt(scale=0.0)
    assert sorted(group.count for group in controller.groups()) == [PER_BALL] * 3
    controller.label(1, "left ball")
    controller.reprompt(scale=1.0)
    groups = controller.groups()
    assert [group.count for group in groups] == [2 * PER_BALL, PER_BALL]
    assert not any(group.name for group in groups)
    controller.select_group(groups[0].id)
    assert torch.equal(controller.selected, rows(0, 1))
    controller.reprompt(scale=0.0)
    assert [group.name for group in controller.groups() if group.id == 1] == ["left ball"]


def test_copies_and_what_is_hidden_or_removed(controller: SegmentController) -> None:
    """A click means the piece that it hit: not the copy, and nothing that is not drawn."""
    camera = to_camera(view())
    controller.reprompt(scale=1.0)
    controller.select_group(controller.groups()[0].id)
    controller.edit(Duplicate(controller.packed(), (0.0, 1.0, 0.0)))
    copy = controller.selected
    controller.change("none")
    x, y = pixel_of(0)
    controller.click(camera, x, y - 20, positive=True)
    assert torch.equal(controller.selected, copy)
    controller.edit(Remove(controller.packed()))
    controller.change("none")
    controller.reprompt(scale=0.0)
    controller.click(camera, *pixel_of(1), positive=True)
    controller.edit(Hide(controller.packed()))
    controller.change("none")
    controller.reprompt(scale=1.0)
    controller.click(camera, *pixel_of(0), positive=True)
    assert torch.equal(controller.selected[: 3 * PER_BALL], rows(0))
    assert not controller.selected[3 * PER_BALL :].any()


def test_outputs(controller: SegmentController) -> None:
    controller.reprompt(scale=1.0)
    controller.groups()  # the list of groups is asked for: the picture of groups follows the slider from now on
    controller.click(to_camera(view()), *pixel_of(0), positive=True)
    shown = controller.outputs(view(), None)
    seen = [shown["selection"][32, int(pixel_of(ball)[0]), 0] for ball in range(3)]
    assert min(seen[:2]) > 0.9
    assert seen[2] < 0.01
    color = [shown["groups"][32, int(pixel_of(ball)[0])] for ball in range(3)]
    assert torch.allclose(color[0], color[1], atol=0.1)
    assert not torch.allclose(color[0], color[2], atol=0.1)
    controller.edit(Isolate(controller.packed()))
    assert controller.outputs(view(), None)["accumulation"][32, int(pixel_of(2)[0]), 0] < 0.01


def test_a_text_selects_what_is_drawn_of_its_answer(controller: SegmentController) -> None:
    asked: list[str] = []

    def search(text: str) -> torch.Tensor:
        assert controller._lock.acquire(blocking=False), "texts are answered without the lock"  # type: ignore[attr-defined]
        controller._lock.release()  # type: ignore[attr-defined]
        asked.append(text)
        return rows(0, 2)

    controller.reprompt(scale=0.0)
    controller.click(to_camera(view()), *pixel_of(0), positive=True)
    controller.edit(Hide(controller.packed()))
    assert "150 Gaussians selected" in controller.find("a ball", search)
    assert torch.equal(controller.selected, rows(2))
    controller.undo()
    assert torch.equal(controller.selected, rows(0))
    controller.find("a ball", search, "add")
    assert torch.equal(controller.selected, rows(0, 2))
    assert asked == ["a ball", "a ball"]
    with pytest.raises(GsegError, match="number of Gaussians"):
        controller.find("a ball", lambda text: rows(0)[:-3])
    assert torch.equal(controller.selected, rows(0, 2))


def test_the_scale_of_what_sam_answers(controller: SegmentController) -> None:
    sam = FakeSam()
    controller.reprompt(scale=0.0)
    controller.click(to_camera(view()), *pixel_of(2), positive=True)
    controller.mark(view(), *pixel_of(0), True, sam, "add")
    assert torch.equal(controller.selected, rows(0, 2))
    assert "Scale 1.00: 450 Gaussians" in controller.reprompt(scale=1.0)
    controller.reprompt(scale=0.0)
    assert torch.equal(controller.selected, rows(0, 2))
    assert len(sam.asked) == 1
    controller.mark(view(), *pixel_of(1), True, sam, "add")
    assert torch.equal(controller.selected, rows(0, 1, 2))
    controller.mark(view(), *pixel_of(0), False, sam, "add")
    assert torch.equal(controller.selected, rows(1, 2))


def test_a_tree_that_is_grown_after_a_click(model: SagaModel, controller: SegmentController) -> None:
    camera = to_camera(view())
    controller.reprompt(scale=0.0)
    controller.click(camera, *pixel_of(0))
    plant(model)
    model._answer_by_tree()
    controller.click(camera, *pixel_of(2))
    assert torch.equal(controller.selected, rows(0, 2))


def test_copies_have_the_groups_of_their_model(model: SagaModel) -> None:
    """What few Gaussians without a node are is said by the cluster that they are a part of."""
    plant(model)
    model._answer_by_tree()
    few = torch.nonzero(rows(1))[:10, 0]
    model.tree_nodes[few] = 0
    model.tree_nodes[BALL == 2] = 0
    groups = model.gaussian_groups(0.0)
    assert set(groups[few].tolist()) == {5}
    assert int(groups[-1]) > 6
    source = torch.cat([few, torch.tensor([-1, len(BALL) - 1])])
    copy = with_gaussians(model, model.splats().subset(source.clamp_min(0)), source)
    assert copy.gaussian_groups(0.0).tolist() == [5] * 10 + [0, int(groups[-1])]
    again = with_gaussians(copy, copy.splats().subset(torch.tensor([11, 0])), torch.tensor([11, 0]))
    assert again.gaussian_groups(0.0).tolist() == [int(groups[-1]), 5]


def test_copies_have_the_clusters_of_their_model(model: SagaModel) -> None:
    groups = model.gaussian_groups(0.0)
    model._clusters = None
    some = torch.nonzero(rows(1, 2))[:, 0]
    copy = with_gaussians(model, model.splats().subset(some), some)
    assert torch.equal(copy.gaussian_groups(0.0), groups[some])


def test_groups_are_made_once_for_frames_and_steps_of_training(
    model: SagaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    joined = saga.joined

    def counted(*given: Any) -> torch.Tensor:
        made.append(1)
        return joined(*given)

    monkeypatch.setattr(saga, "joined", counted)
    plant(model)
    model._answer_by_tree()
    model.step = model.config.num_iterations - 400
    first = model.gaussian_groups(0.5)
    for _ in range(3):
        model.step += 1
        model.train()
        assert model.gaussian_groups(0.5) is first
        model.eval()
        assert model.gaussian_groups(0.5) is first
    assert len(made) == 1
    model.finish()
    model.gaussian_groups(0.5)
    assert len(made) == 2
