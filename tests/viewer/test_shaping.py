"""What the tab selects by shapes, colors and ranges, what it measures, and the way through a tree of parts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Hide
from gseg_ns.errors import GsegError
from gseg_ns.models.gaga import GagaModel, GagaModelConfig
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.selection import Mode
from gseg_ns.selection.shapes import Box
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.handles import degrees_of, quaternion_of
from three_balls import BALL, CENTRES, build_model, pixel_of, rows, view


@pytest.fixture
def model() -> GagaModel:
    """Groups 1, 2, 3 by the vote; the balls are red, green and red."""
    model = build_model(GagaModelConfig())
    with torch.no_grad():
        red, green = torch.tensor([1.0, -1.0, -1.0]), torch.tensor([-1.0, 1.0, -1.0])
        model.gauss_params["features_dc"].copy_(torch.stack([red, green, red])[BALL])
        model.gauss_params["features_rest"].zero_()
    model.num_groups, model.step = 3, 30_000
    model.voted_labels, model.voted_confidence = (BALL + 1).int(), torch.ones(len(BALL))
    return model


@pytest.fixture
def controller(model: GagaModel) -> SegmentController:
    return SegmentController(model)


@pytest.mark.parametrize("mode", ["set", "add", "remove", "intersect"])
def test_shapes_meet_the_selection(controller: SegmentController, mode: Mode) -> None:
    controller.select_groups([1, 2])
    before = controller.selected
    centre = (0.6, 0.0, 0.0)
    meant = rows(1, 2) & ((controller.model.means - torch.tensor(centre)).norm(dim=1) <= 0.7)
    assert 0 < int(meant.sum()) < 300
    controller.select_sphere(centre, 0.7, mode)
    after = {"set": meant, "add": before | meant, "remove": before & ~meant, "intersect": before & meant}
    assert torch.equal(controller.selected, after[mode])


def seen_by(through: bool) -> Camera | None:
    return None if through else to_camera(view())


Tool = Callable[[SegmentController, float, Mode, bool], str]
TOOLS: dict[str, Tool] = {
    "rectangle": lambda c, u, mode, through: c.drag(to_camera(view()), (0, 0), (20 + 60 * u, 40), mode, not through),
    "sphere": lambda c, u, mode, through: c.select_sphere((2 * u - 1, 0.0, 0.0), 0.9, mode, seen_by(through)),
    "box": lambda c, u, mode, through: c.select_box(
        Box((0.0, 0.0, 0.0), (3 * u + 0.3, 1.0, 0.5), (1.0, 0.0, 0.0, u)), mode, seen_by(through)
    ),
    "flood": lambda c, u, mode, through: c.select_like(
        to_camera(view()), *pixel_of(int(2.99 * u)), True, 20.0, mode, through
    ),
    "color": lambda c, u, mode, through: c.select_like(
        to_camera(view()), *pixel_of(int(2.99 * u)), False, 20.0, mode, through
    ),
    "size": lambda c, u, mode, through: c.select_range("size", 0.05 + 0.02 * u, 0.09, mode, seen_by(through)),
    "opacity": lambda c, u, mode, through: c.select_range("opacity", 0.2 * u, 0.9 - 0.2 * u, mode, seen_by(through)),
}  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.sampled_from([[], [1], [2], [1, 3], [1, 2, 3]]), st.sampled_from([None, 1, 2, 3]))
def test_every_tool_obeys_the_algebra_of_sets(
    model: GagaModel, name: str, u: float, start: list[int], hidden: int | None
) -> None:
    """In each mode, whatever is selected; in front only or through; and of what is hidden it takes nothing."""
    assume(name not in ("flood", "color") or hidden != int(2.99 * u) + 1)  # there is nothing to click on
    with torch.no_grad():
        spread = torch.linspace(-1, 1, len(BALL))
        model.gauss_params["opacities"][:, 0] = 3 * spread
        model.gauss_params["scales"][:] = -2.6 + 0.3 * spread[:, None]
    controller, tool = SegmentController(model), TOOLS[name]
    if hidden is not None:
        controller.select_group(hidden)
        controller.edit_selection(Hide)

    def selected(mode: Mode, through: bool) -> Tensor:
        controller.change("none")
        if start:
            controller.select_groups(start)
        tool(controller, u, mode, through)
        return controller.selected

    before = rows(*(group - 1 for group in start))
    for through in (False, True):
        meant = selected("set", through)
        assert torch.equal(selected("add", through), before | meant)
        assert torch.equal(selected("remove", through), before & ~meant)
        assert torch.equal(selected("intersect", through), before & meant)
        if hidden is not None:
            assert not (meant & rows(hidden - 1)).any()
    assert bool((selected("set", False) <= selected("set", True)).all())


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_leaves_out_what_the_picture_hides(controller: SegmentController, name: str) -> None:
    """One rule for all: as a rectangle over the whole picture."""
    with torch.no_grad():
        controller.model.gauss_params["opacities"][:, 0] = torch.linspace(0, 5, len(BALL))[torch.randperm(len(BALL))]
    controller = SegmentController(controller.model)
    camera = to_camera(view())
    controller.drag(camera, (0, 0), (camera.width, camera.height), "set", visible_only=True)
    shown = controller.selected
    TOOLS[name](controller, 0.4, "set", True)
    everything = controller.selected
    TOOLS[name](controller, 0.4, "set", False)
    assert 0 < int(controller.selected.sum()) < int(everything.sum())
    assert torch.equal(controller.selected, everything & shown)


def test_a_box_is_turned(controller: SegmentController) -> None:
    x, y, z = CENTRES[1].tolist()
    quarter = (math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0)  # about y: its length is along z
    controller.select_box(Box((x, y, z), (9.0, 1.0, 1.0), quarter), "set")
    assert torch.equal(controller.selected, rows(1))
    controller.select_box(Box((x, y, z), (9.0, 1.0, 1.0)), "set")
    assert torch.equal(controller.selected, rows(0, 1, 2))


def test_flood_and_color(controller: SegmentController) -> None:
    camera = to_camera(view())
    controller.select_like(camera, *pixel_of(0), False, 20.0, "set", through=True)
    assert torch.equal(controller.selected, rows(0, 2))
    controller.select_like(camera, *pixel_of(0), True, 20.0, "set", through=True)
    assert torch.equal(controller.selected, rows(0))
    controller.select_like(camera, *pixel_of(0), True, 20.0, "set", through=False)
    in_front = controller.selected
    assert 0 < int(in_front.sum()) < 150
    assert bool((in_front <= rows(0)).all())
    assert controller.steps()[0] == "select by a flood"


def test_ranges(controller: SegmentController) -> None:
    with torch.no_grad():
        controller.model.gauss_params["opacities"][rows(1)] = -3.0
        controller.model.gauss_params["scales"][rows(2)] = -4.0
    controller = SegmentController(controller.model)
    controller.select_range("opacity", 0.0, 0.5, "set")
    assert torch.equal(controller.selected, rows(1))
    controller.select_range("size", 0.0, 0.05, "set")
    assert torch.equal(controller.selected, rows(2))
    found = controller.histogram("size")
    assert (found.low, found.high) == pytest.approx((math.exp(-4.0), math.exp(-2.6)), rel=1e-4)
    assert (sum(found.counts), found.counts[0], found.counts[-1]) == (450, 150, 300)
    controller.change("all")
    with pytest.raises(GsegError, match="smaller number first"):
        controller.select_range("size", 2.0, 1.0, "set")


def test_a_measured_length_makes_metres(controller: SegmentController) -> None:
    camera = to_camera(view())
    one, other = (controller.point_at(camera, *pixel_of(ball)) for ball in (0, 2))
    length = math.dist(one, other)
    assert length == pytest.approx(2.4, rel=0.15)  # the fronts of two balls whose centres are 2.4 apart
    assert one[2] == pytest.approx(0.35, abs=0.15)
    assert controller.metres is None
    controller.set_length(length, 4.8)
    assert controller.metres == pytest.approx(4.8 / length)
    assert "Undone: set the unit" in controller.undo()
    assert controller.metres is None
    with pytest.raises(GsegError, match="the same"):
        controller.set_length(0.0, 1.0)


def test_where_the_selection_is(controller: SegmentController) -> None:
    with pytest.raises(GsegError, match="Nothing is selected"):
        controller.extent()
    controller.select_group(3)
    extent = controller.extent()
    assert extent.pivot == pytest.approx(CENTRES[2].tolist(), abs=0.05)
    assert all(0.5 < edge < 0.75 for edge in extent.size)


def test_turns_are_told_as_they_are_asked_for() -> None:
    turn = (10.0, -20.0, 30.0)
    assert degrees_of(quaternion_of(turn)) == pytest.approx(turn)
    assert quaternion_of((90.0, 0.0, 0.0)) == pytest.approx((math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0))


@pytest.fixture
def tree(model: GagaModel) -> SegmentController:
    """Node 1 is a group of the objects 2 (balls 0 and 1, parts 3 and 4) and 5 (ball 2)."""
    model.tree_parents = torch.tensor([0, 0, 1, 2, 2, 1], dtype=torch.int32)
    model.tree_nodes = torch.tensor([3, 4, 5], dtype=torch.int32)[BALL]
    model.tree_evidence = torch.ones(6)
    model.tree_objects = torch.tensor([False, False, True, False, False, True])
    model.num_groups, model.has_scales = 5, True
    controller = SegmentController(model)
    controller.reprompt(scale=0.5)
    return controller


def test_wider_and_narrower(tree: SegmentController) -> None:
    camera = to_camera(view())
    assert tree.walks() == (False, False)
    with pytest.raises(GsegError, match="Click on an object first"):
        tree.walk(1)
    tree.click(camera, *pixel_of(1), anew=True)
    assert torch.equal(tree.selected, rows(0, 1))
    assert tree.walks() == (True, True)
    tree.walk(1)
    assert torch.equal(tree.selected, rows(0, 1, 2))
    assert tree.walks() == (True, False)
    with pytest.raises(GsegError, match="nothing wider"):
        tree.walk(1)
    tree.walk(-1)
    tree.walk(-1)
    assert torch.equal(tree.selected, rows(1))
    assert tree.picked().called == "part of group 2"
    with pytest.raises(GsegError, match="nothing narrower"):
        tree.walk(-1)
    # beside what was selected before the click
    tree.click(camera, *pixel_of(2), positive=True)
    tree.walk(1)
    assert torch.equal(tree.selected, rows(0, 1, 2))
    tree.walk(-1)
    assert torch.equal(tree.selected, rows(1, 2))
    assert tree.undo() == "Undone: select narrower."
    assert tree.walks() == (False, False)


def test_a_click_on_another_part_says_that_the_whole_is_too_much(tree: SegmentController) -> None:
    camera = to_camera(view())
    tree.click(camera, *pixel_of(0), anew=True)
    tree.click(camera, *pixel_of(1), positive=False)
    assert torch.equal(tree.selected, rows(0))
    tree.click(camera, *pixel_of(2), positive=True)
    assert torch.equal(tree.selected, rows(0, 2))
    tree.click(camera, *pixel_of(0), positive=False)
    assert torch.equal(tree.selected, rows(2))
    # what was selected before is taken away by the object
    tree.change("all")
    tree.click(camera, *pixel_of(1), positive=False)
    assert torch.equal(tree.selected, rows(2))


def test_there_is_no_way_without_a_tree(controller: SegmentController) -> None:
    assert controller.walks() is None
    with pytest.raises(GsegError, match="no parts"):
        controller.walk(1)


def test_the_selection_is_called_what_it_is(controller: SegmentController) -> None:
    controller.select_groups([1, 3])
    assert controller.picked().called == "2 objects"
    assert controller.picked().groups == (1, 3)
    mask = rows(0) & (torch.arange(len(BALL)) % 3 == 0)
    controller._session.select(mask)
    assert controller.picked().called == "part of group 1"
    controller._session.select(rows(0, 1, 2) & (torch.arange(len(BALL)) % 3 == 0))
    assert controller.picked().called == "150 Gaussians"
    assert controller.picked().groups == ()


def test_every_group_has_a_picture(controller: SegmentController) -> None:
    import base64
    import io

    from PIL import Image

    found = dict(controller.pictures(view()))
    assert sorted(found) == [1, 2, 3]
    head, _, code = found[2].partition(",")
    assert head == "data:image/jpeg;base64"
    pixels = torch.tensor(list(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB").getdata()))
    middle = pixels.reshape(52, 52, 3)[20:32, 20:32].float().mean(dim=(0, 1))
    assert float(middle[1]) > 1.5 * float(middle[0]), "ball 2 is green"
