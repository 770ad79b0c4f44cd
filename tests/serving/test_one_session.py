"""The same session by the tab's controller and by the page's websocket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gseg_ns.data.cameras import of_nerfstudio
from gseg_ns.editing.operations import Transform
from gseg_ns.runs.labelled import open_labelled
from gseg_ns.runs.run import load_run
from gseg_ns.selection.outlines import Outline
from gseg_ns.selection.prompts import Prompt
from gseg_ns.viewer.acting import Acting
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.reach import Reach
from page_client import UPRIGHT, PageClient, camera_of_run, pixel_of, served, write_treed


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_treed(tmp_path_factory.mktemp("treed"))


@pytest.fixture(scope="module")
def tab(result: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentController, Acting]:
    """What the tab of Nerfstudio's viewer has, on the method's own model."""
    folder = tmp_path_factory.mktemp("tab")
    controller = SegmentController(load_run(result).model)
    return controller, Acting(controller, folder / "config.yml", lambda: Reach(folder), lambda text: None)


@pytest.fixture(scope="module")
def page(result: Path) -> Iterator[PageClient]:
    with served(result) as opened:
        yield PageClient(*opened)


def test_labels_answer_as_the_method_does(result: Path, tab: tuple[SegmentController, Acting]) -> None:
    """What is opened without Nerfstudio, beside what is opened with it."""
    found = open_labelled(result)
    assert found is not None
    model, whole = found.model, tab[0].model
    for scale in (None, 0.0, 0.5, 1.0):
        assert torch.equal(model.gaussian_groups(scale), whole.gaussian_groups(scale))
        assert model.group_names(scale) == whole.group_names(scale)
        rows, weights = torch.arange(40) - 1, torch.linspace(0.01, 0.1, 40)
        feature = torch.zeros(16)
        assert model.group_under(feature, rows, weights, scale) == whole.group_under(feature, rows, weights, scale)
    assert (model.has_scales, model.default_scale) == (whole.has_scales, whole.default_scale)
    assert torch.equal(model.splats().means, whole.splats().means)
    assert model.splats().rasterize_mode == whole.splats().rasterize_mode


def same(tab: SegmentController, page: PageClient) -> None:
    """Whether both are where the other is."""
    one, other = tab.state(), page.desk.controller.state()
    assert one.selection == other.selection
    assert one.named == other.named
    assert one.labels == other.labels
    assert [type(step) for step in one.operations] == [type(step) for step in other.operations]
    with tab._held() as here, page.desk.controller._held() as there:
        for name in ("means", "quats", "scales", "opacities"):
            torch.testing.assert_close(
                getattr(here.scene.splats, name), getattr(there.scene.splats, name), atol=1e-5, rtol=1e-5
            )
        assert torch.equal(here.scene.drawn, there.scene.drawn)
        assert (here.undoes, here.redoes) == (there.undoes, there.redoes)
    # And what browsers are told is that.
    assert torch.equal(torch.from_numpy(page.marks[0]), tab.selected)
    assert page.state["walks"] == (None if tab.walks() is None else list(tab.walks() or ()))


def test_a_session_is_the_same_through_both(
    tab: tuple[SegmentController, Acting], page: PageClient, result: Path
) -> None:
    controller, acting = tab
    camera = camera_of_run()
    left, right = pixel_of(11, (-0.1, 0.35, 0.1)), pixel_of(15)
    shift, turn = (0.3, 0.2, -0.1), (0.9659258, 0.0, 0.2588190, 0.0)

    # select, add
    controller.click(camera, left[0], left[1], True, anew=True)
    said = page.ask("click", at=left)
    assert said["well"], said
    same(controller, page)
    controller.click(camera, right[0], right[1], True)
    page.ask("click", at=right, mode="add")
    same(controller, page)
    assert int(controller.selected.sum()) == 600
    # take away, and a part and a whole
    controller.click(camera, right[0], right[1], False)
    page.ask("click", at=right, mode="remove")
    same(controller, page)
    controller.click(camera, left[0], left[1], True, anew=True)
    page.ask("click", at=left)
    counts = []
    for step in (-1, 1, 1):
        acting.act("walk", [step], "set")
        page.ask("walk", step)
        same(controller, page)
        counts.append(int(controller.selected.sum()))
    assert counts[0] < counts[1] == 300 < counts[2] == 600
    # by a line
    corners = [(right[0] - 45, right[1] - 45), (right[0] + 45, right[1] - 45), (right[0], right[1] + 45)]
    controller.select_drawn_over(camera, [Outline(corners)], "add")
    page.ask("outline", False, points=corners, mode="add")
    same(controller, page)
    # an object of the list; hide and name
    acting.act("pick", [8], "set")
    page.ask("pick", 8)
    acting.act("hide", [], "set")
    page.ask("hide")
    same(controller, page)
    acting.act("name", [8, "mug <i>"], "set")
    page.ask("name", 8, "mug <i>")
    same(controller, page)
    # move: the page says it in its own coordinates
    moved = tuple((UPRIGHT @ torch.tensor(shift, dtype=torch.float64)).tolist())
    axis = UPRIGHT @ torch.tensor(turn[1:], dtype=torch.float64)
    controller.edit_selection(lambda mask: Transform(mask, (turn[0], *axis.tolist()), moved, 1.5))
    page.ask("move", *shift, *turn, 1.5, False)
    same(controller, page)
    # undo, redo
    for name in ("undo", "undo", "redo", "redo", "undo"):
        acting.act(name, [], "set")
        page.ask(name)
        same(controller, page)
    # another scale, and what a click means there
    controller.reprompt(scale=0.0)
    controller.groups()
    page.ask("scale", 0.0)
    controller.click(camera, left[0], left[1], True, anew=True)
    page.ask("click", at=left)
    same(controller, page)
    assert [entry["count"] for entry in page.state["objects"]] == [group.count for group in controller.groups()]
    # export
    acting.act("picks", ["set", 3, 4, 8], "set")
    page.ask("picks", "set", 3, 4, 8)
    same(controller, page)
    acting.act("export", [], "set")
    assert page.ask("export")["said"].startswith("Wrote 3 files")
    one, other = (
        {file.name: file.read_bytes() for file in sorted((folder / "exports").iterdir())}
        for folder in (acting._reach().run, result)
    )
    assert len(one) == 3
    assert one == other


def test_masks_of_a_click_mean_the_same(tab: tuple[SegmentController, Acting], page: PageClient) -> None:
    """By a stand-in for SAM, which is asked about a picture that the method draws."""

    def mask(path: Path, picture: torch.Tensor, prompt: Prompt) -> torch.Tensor:
        height, width = picture.shape[:2]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        distance = (torch.stack([x, y], dim=-1)[:, :, None] - prompt.positive).norm(dim=-1)
        return (distance < 45).any(dim=-1)

    controller, acting = tab
    for one in (acting, page.desk._acting):
        vars(one)["_sam"] = SimpleNamespace(mask=mask, embedding=None)
    controller.change("none")
    page.ask("change", "none")
    for group, mode in ((14, "set"), (13, "add")):
        x, y = pixel_of(group)
        acting.mark("sam.pth", "", of_nerfstudio(camera_of_run()), x, y, mode)  # type: ignore[arg-type]
        assert page.ask("mark", "sam.pth", "", at=(x, y), mode=mode)["well"]
        same(controller, page)
    assert int(controller.selected.sum()) > 100


def test_what_needs_the_method_loads_it(page: PageClient, result: Path) -> None:
    """A run of what is selected."""
    page.ask("change", "all")
    answer: Any = page.ask("isolate run", "mug")
    assert answer["well"], answer
    assert list((result / "isolated").rglob("config.yml"))
