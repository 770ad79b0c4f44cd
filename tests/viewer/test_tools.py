"""What tools do with what a page asks, before a scene that only remembers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.data.cameras import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.models.gaga import GagaModel, GagaModelConfig
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.tools import TOOLS, Browser, Tools
from three_balls import BALL, CENTRES, build_model, pixel_of, rows, view


class Scene:
    """A scene of one browser."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def _add(self, name: str, **fields: Any) -> Any:
        self.shown.append(name)
        fields = {"wxyz": np.array([1.0, 0.0, 0.0, 0.0]), "position": np.zeros(3), **fields}
        return SimpleNamespace(**fields, on_update=lambda moved: None, remove=lambda: self.shown.remove(name))

    def add_transform_controls(self, name: str, **fields: Any) -> Any:
        return self._add(name, **fields)

    def add_mesh_simple(self, name: str, vertices: Any, faces: Any, **fields: Any) -> Any:
        if name in self.shown:  # a node of the same name takes its place
            self.shown.remove(name)
        return self._add(name, **fields)

    def add_spline_catmull_rom(self, name: str, positions: Any, **fields: Any) -> Any:
        return self._add(name, **fields)

    def remove_pointer_callback(self) -> None:
        pass

    def on_pointer_event(self, event_type: str) -> Any:
        return lambda heard: heard


class Tab:
    """A tab with one browser."""

    def __init__(self, model: GagaModel) -> None:
        self.controller, self.browser, self.scene = SegmentController(model), Browser(), Scene()
        camera = SimpleNamespace(position=np.array([0.0, 0.0, 40.0]), look_at=np.zeros(3))
        self.client = SimpleNamespace(scene=self.scene, camera=camera)
        self.clients = {0: self.client}
        viewer: Any = SimpleNamespace(viser_server=SimpleNamespace(get_clients=lambda: self.clients))
        self.shown: dict[str, Any] = {}
        self.said = ""
        self.tools = Tools(
            viewer, self.controller, lambda client: self.browser, lambda act: act(), self.do,
            lambda client, **state: self.shown.update(state),
        )  # fmt: skip
        self.tools._camera = lambda handle: to_camera(view())  # type: ignore[method-assign]

    def do(self, action: Any, client: int | None) -> None:
        try:
            self.said = action()
        except GsegError as error:
            self.said = f"Not done: {error}"
        self.shown.update(said=self.said)
        self.tools.follow()

    def ask(self, name: str, *values: Any) -> None:
        assert self.tools.command(0, name, list(values))


@pytest.fixture
def tab() -> Tab:
    model = build_model(GagaModelConfig())
    model.num_groups, model.step = 3, 30_000
    model.voted_labels, model.voted_confidence = (BALL + 1).int(), torch.ones(len(BALL))
    return Tab(model)


def test_a_shape_begins_around_what_is_selected(tab: Tab) -> None:
    tab.controller.select_group(1)
    for tool in ("sphere", "box"):
        tab.tools.choose(0, tool)
        assert tab.scene.shown == ["/segment_handle", "/segment_handle/outline"]
        tab.ask("apply", "select")
        assert int((tab.controller.selected & rows(0)).sum()) > 120
        assert not bool((tab.controller.selected & ~rows(0)).any())
    tab.ask("shape", 9.0, 9.0, 9.0)
    tab.ask("apply", "select")
    assert torch.equal(tab.controller.selected, rows(0, 1, 2))
    tab.tools.choose(0, "click")
    assert tab.scene.shown == []


def test_a_shape_begins_where_the_picture_is(tab: Tab) -> None:
    tab.tools.choose(0, "sphere")
    assert tab.browser.handle is not None
    assert math.dist(tab.browser.handle.centre, CENTRES[1].tolist()) < 0.5


def test_a_hint_goes_with_its_tool(tab: Tab) -> None:
    """What was said of anything else stays."""
    tab.tools.choose(0, "click")
    assert "said" not in tab.shown
    for tool, hint in (("measure", "two points"), ("click", "Click on an object in the picture.")):
        tab.tools.choose(0, tool)
        assert hint in tab.shown["said"]
    tab.shown["said"] = "Undone."
    tab.tools.choose(0, "click")
    assert tab.shown["said"] == "Undone."


def test_what_came_of_a_rectangle_stays(tab: Tab) -> None:
    """It is put away after the drag, without a hint in place of the answer."""
    tab.tools.choose(0, "rectangle")
    event: Any = SimpleNamespace(client_id=0, screen_pos=((0.1, 0.1), (0.9, 0.9)))
    tab.tools._dragged(event, to_camera(view()))
    assert tab.browser.tool == tab.shown["tool"] == "click"
    assert tab.shown["said"].startswith("Rectangle: ")

    def refuse(*_: Any) -> str:
        raise GsegError("no view")

    tab.controller.drag = refuse  # type: ignore[assignment, method-assign]
    tab.tools.choose(0, "rectangle")
    tab.tools._dragged(event, to_camera(view()))
    assert tab.shown["said"] == "Not done: no view"


def test_moving_by_numbers(tab: Tab) -> None:
    tab.tools.choose(0, "move")
    tab.ask("apply", "move")
    assert "Nothing is selected" in tab.said
    tab.controller.select_group(3)
    tab.tools.follow()
    assert tab.shown["place"]["shift"] == [0, 0, 0]
    before = tab.controller.extent()
    tab.ask("place", 0.0, 0.5, 0.0, 0.0, 0.0, 90.0, 2.0)
    assert tab.shown["place"]["shift"] == pytest.approx([0, 0.5, 0])
    assert tab.shown["place"]["turn"] == pytest.approx((0, 0, 90), abs=1e-4)
    tab.ask("apply", "move")
    assert tab.said.startswith("Move group 3: done")
    after = tab.controller.extent()
    assert np.allclose(np.array(after.pivot) - before.pivot, (0, 0.5, 0), atol=1e-4)
    assert np.allclose(np.array(after.size), 2 * np.array(before.size)[[1, 0, 2]], rtol=0.02)
    # the handle is where the object is now, and asks for nothing
    assert tab.browser.handle is not None
    assert tab.browser.handle.centre == pytest.approx(after.pivot)
    assert tab.shown["place"]["shift"] == [0, 0, 0]
    tab.ask("place", 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    tab.ask("apply", "copy")
    assert len(tab.controller.selected) == 600


def test_lengths_are_in_the_unit_that_is_shown(tab: Tab) -> None:
    camera = to_camera(view())
    tab.tools.choose(0, "measure")
    tab.ask("length", 2.0)
    assert "two points first" in tab.said
    for ball in (0, 2):
        assert tab.tools.click(0, camera, *pixel_of(ball), "set")
    assert tab.scene.shown == ["/segment_line"]
    length = tab.shown["place"]["length"]
    tab.ask("length", 2 * length)
    assert tab.shown["unit"] == "m"
    assert tab.shown["place"]["length"] == pytest.approx(2 * length)
    tab.controller.select_group(3)
    tab.tools.choose(0, "move")
    assert tab.scene.shown == ["/segment_handle", "/segment_handle/outline"]
    before = tab.controller.extent()
    tab.ask("place", 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # one metre
    tab.ask("apply", "move")
    assert tab.controller.extent().pivot[0] - before.pivot[0] == pytest.approx(0.5, abs=1e-4)
    tab.do(tab.controller.undo, 0)
    tab.do(tab.controller.undo, 0)
    tab.do(tab.controller.undo, 0)
    assert tab.shown["unit"] == "units"


def test_ranges_and_colors(tab: Tab) -> None:
    tab.tools.choose(0, "range")
    place = tab.shown["place"]
    assert sum(place["counts"]) == 450
    tab.ask("range", place["low"] * 0.99, place["high"] * 1.01)
    assert torch.equal(tab.controller.selected, rows(0, 1, 2))
    tab.ask("ranged", "opacity")
    assert tab.shown["place"]["high"] == 1.0
    tab.tools.choose(0, "flood")
    tab.ask("tolerance", 1e9)
    assert tab.browser.tolerance == 100
    tab.browser.reach_other()
    assert tab.tools.click(0, to_camera(view()), *pixel_of(1), "set")
    selected = tab.controller.selected
    assert 75 < int(selected.sum()) == int((selected & rows(1)).sum())


def test_what_the_picture_hides(tab: Tab) -> None:
    """Tools in space take it and those on the picture do not, unless the browser says otherwise of their kind."""
    reaches: dict[str, Any] = {}
    for tool in TOOLS:
        tab.tools.choose(0, tool)
        reaches[tool] = tab.shown["through"]
    assert reaches == {
        "click": None, "rectangle": False, "sphere": True, "box": True, "flood": False, "color": False, "range": True,
        "measure": None, "move": None,
    }  # fmt: skip
    for tool, ask in (("sphere", ("apply", "select")), ("box", ("apply", "select")), ("range", ("range", 0.0, 9.0))):
        tab.controller.select_groups([1, 2, 3])
        tab.tools.choose(0, tool)
        counts = []
        for through in (True, False, True):
            assert tab.browser.reach is through
            tab.ask(*ask)
            counts.append(int(tab.controller.selected.sum()))
            tab.browser.reach_other()
        assert 0 < counts[1] < counts[0] == counts[2], tool
        tab.browser.reach_other()
    tab.tools.choose(0, "box")
    tab.browser.reach_other()
    tab.tools.choose(0, "range")
    assert tab.browser.reach is False
    tab.tools.choose(0, "color")
    assert tab.browser.reach is False
    tab.tools.choose(0, "measure")
    tab.browser.reach_other()
    assert tab.browser.through == {"picture": False, "space": False}


def test_a_page_that_is_closed_takes_nothing_of_what_its_view_does_not_show(tab: Tab) -> None:
    tab.tools.choose(0, "range")
    tab.browser.reach_other()
    tab.controller.select_group(2)
    before = tab.controller.selected.clone()
    tab.clients.clear()
    tab.ask("range", 0.0, 9.0)
    assert "The page has been closed" in tab.said
    assert torch.equal(tab.controller.selected, before)
