from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.render_state_machine import RenderStateMachine

from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Duplicate, Hide, Isolate, Recolor, Remove, Swap
from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.gaga import GagaModel, GagaModelConfig
from gseg_ns.runs.edited_model import with_gaussians
from gseg_ns.runs.prompting import MarkedView
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.selection import Mode
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply
from gseg_ns.viewer import drawing
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.drawing import Drawing
from gseg_ns.viewer.panel import SegmentPanel
from three_balls import BALL, PER_BALL, FakeSam, build_model, pixel_of, plant, rows, view


def make_model() -> GagaModel:
    """Groups 1, 2, 3."""
    model = build_model(GagaModelConfig())
    model.classifier.resize(4)
    with torch.no_grad():
        model.gauss_params["identity"].copy_(torch.nn.functional.one_hot(BALL, 16).float())
        weight = torch.zeros_like(model.classifier.weight)
        weight.view(weight.shape[0], -1)[1:4, :3] = 5 * torch.eye(3)
        model.classifier.weight.copy_(weight)
        model.classifier.bias.zero_()
    model.num_groups, model.step = 3, 30_000
    return model


@pytest.fixture
def model() -> GagaModel:
    return make_model()


@pytest.fixture
def controller(model: GagaModel) -> SegmentController:
    return SegmentController(model)


def test_the_fixture_is_what_it_says(model: GagaModel) -> None:
    assert model.gaussian_groups().tolist() == [1] * PER_BALL + [2] * PER_BALL + [3] * PER_BALL


def test_click_plus_and_minus_and_undo(controller: SegmentController) -> None:
    camera = to_camera(view())
    said = controller.click(camera, *pixel_of(1), positive=True)
    assert "group 2" in said
    assert "150 Gaussians" in said
    assert torch.equal(controller.selected, rows(1))
    controller.click(camera, *pixel_of(2), positive=True)
    assert torch.equal(controller.selected, rows(1, 2))
    controller.click(camera, *pixel_of(1), positive=False)
    assert torch.equal(controller.selected, rows(2))
    controller.undo()
    assert torch.equal(controller.selected, rows(1, 2))
    controller.undo()
    assert torch.equal(controller.selected, rows(1))
    controller.redo()
    assert torch.equal(controller.selected, rows(1, 2))
    # what was taken away can be added again within one prompt
    controller.click(camera, *pixel_of(2), positive=False)
    controller.click(camera, *pixel_of(2), positive=True)
    assert torch.equal(controller.selected, rows(1, 2))
    assert "450 Gaussians selected" in controller.summary()


def test_what_is_recolored_is_seen_to_be_though_it_is_selected(controller: SegmentController) -> None:
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    shown = []
    for color in ((0.0, 0.9, 0.0), (0.0, 0.0, 0.9)):
        controller.edit_selection(lambda mask, color=color: Recolor(mask, color, keep_shading=False))  # type: ignore[misc]
        outputs = controller.outputs(view(), None)
        shown.append(outputs["rgb"][outputs["selection"][..., 0] > 0.9].mean(dim=0))
    assert (shown[0] - shown[1]).abs().max() > 0.4


@pytest.mark.parametrize(("x", "y"), [(48.0, 2.0), (-3.0, 10.0), (400.0, 10.0)])
def test_clicks_on_nothing_change_nothing(controller: SegmentController, x: float, y: float) -> None:
    with pytest.raises(GsegError, match=r"nothing at|outside"):
        controller.click(to_camera(view()), x, y, positive=True)
    assert not controller.selected.any()
    assert "nothing to undo" in controller.undo()


def test_rectangle_takes_what_is_seen(controller: SegmentController) -> None:
    camera = to_camera(view())
    x, _ = pixel_of(0)
    controller.drag(camera, (x + 12, 50), (x - 12, 10), "set", visible_only=False)
    assert torch.equal(controller.selected, rows(0))
    controller.drag(camera, (x - 12, 10), (x + 12, 50), "set", visible_only=True)
    front = controller.selected
    assert 0 < int(front.sum()) < PER_BALL
    assert bool((front <= rows(0)).all())
    assert float(controller.model.means.detach()[front][:, 2].mean()) > 0  # towards the camera


def test_a_copy_is_clicked_apart_from_its_original(controller: SegmentController) -> None:
    camera = to_camera(view())
    controller.click(camera, *pixel_of(0), positive=True)
    controller.edit(Duplicate(controller.packed(), (0.0, 1.0, 0.0)))
    copy = controller.selected
    assert int(copy.sum()) == PER_BALL
    controller.change("none")
    controller.click(camera, *pixel_of(0), positive=True)
    assert torch.equal(controller.selected[: 3 * PER_BALL], rows(0))
    assert not controller.selected[3 * PER_BALL :].any()
    controller.change("none")
    x, y = pixel_of(0)
    controller.click(camera, x, y - 20, positive=True)
    assert torch.equal(controller.selected, copy)


def test_grow_shrink_clean(controller: SegmentController) -> None:
    with pytest.raises(GsegError, match="Nothing is selected"):
        controller.change("grow")
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    controller.change("shrink")
    assert bool((controller.selected <= rows(1)).all())
    controller.change("none")
    half = rows(1) & (controller.model.means[:, 0] < 0)
    with controller._held() as session:
        session.select(half)
    controller.change("grow")
    assert int(controller.selected.sum()) > int(half.sum())
    assert bool((controller.selected <= rows(1)).all())
    with controller._held() as session:
        session.select(rows(1) | (torch.arange(450) == 5))
    controller.change("clean")
    assert not controller.selected[5]


def test_outputs_show_selection_and_edits_and_leave_the_model_alone(
    model: GagaModel, controller: SegmentController
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    plain = controller.outputs(view(), None)
    assert not plain["selection"].any()
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    shown = controller.outputs(view(), None)
    assert set(shown) == set(plain)
    x, y = (int(v) for v in pixel_of(1))
    assert shown["selection"][y, x, 0] > 0.9
    assert shown["selection"][y, int(pixel_of(2)[0]), 0] < 0.01
    assert not torch.allclose(shown["rgb"][y, x], plain["rgb"][y, x])

    controller.edit(Isolate(controller.packed()))
    isolated = controller.outputs(view(), None)
    assert set(isolated) == set(plain)
    assert isolated["accumulation"][y, int(pixel_of(0)[0]), 0] < 0.01
    controller.undo()
    controller.edit(Remove(controller.packed()))
    removed = controller.outputs(view(), None)
    assert removed["accumulation"][y, x, 0] < 0.01
    assert torch.allclose(removed["rgb"][y, : x // 2], plain["rgb"][y, : x // 2], atol=1e-5)
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, before[name]), name


def test_outputs_that_nobody_looks_at_are_not_computed(controller: SegmentController) -> None:
    full = controller.outputs(view(), None)
    quick = controller.outputs(view(), None, {"rgb"})
    assert {k: v.shape for k, v in quick.items()} == {k: v.shape for k, v in full.items()}
    assert torch.equal(quick["rgb"], full["rgb"])
    assert not quick["features"].any()
    assert torch.equal(controller.outputs(view(), None, {"groups"})["groups"], full["groups"])


def test_a_picture_in_motion_has_a_part_of_the_gaussians_and_shows_the_same(
    model: GagaModel, controller: SegmentController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "QUICK", 150)
    drawn: list[int] = []
    render = GagaModel.render
    monkeypatch.setattr(
        GagaModel, "render", lambda self, camera: (drawn.append(self.num_points), render(self, camera))[1]
    )
    controller.click(to_camera(view()), *pixel_of(1), positive=True)

    def both() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return controller.outputs(view(), None), controller.outputs(view(), None, quick=True)

    exact, quick = both()
    assert drawn == [3 * PER_BALL, PER_BALL]
    assert set(quick) == set(exact)
    x, y = (int(v) for v in pixel_of(1))
    assert quick["selection"][y, x, 0] > 0.9
    assert quick["selection"][y, int(pixel_of(2)[0]), 0] < 0.1
    for name in ("accumulation", "rgb", "selection"):
        assert float((quick[name] - exact[name]).abs().mean()) < 0.1, name
    # Of an edited scene, too, and never in place of the exact picture.
    controller.edit(Remove(controller.packed()))
    exact, quick = both()
    assert drawn[2:] == [2 * PER_BALL, PER_BALL]
    again, quick = both()
    assert torch.equal(again["rgb"], exact["rgb"])
    assert len(drawn) == 4
    assert quick["accumulation"][y, x, 0] < 0.01
    assert float((quick["accumulation"] - exact["accumulation"]).abs().mean()) < 0.1


@pytest.mark.parametrize("edited", [False, True])
def test_copies_follow_features_that_are_trained(
    model: GagaModel, controller: SegmentController, monkeypatch: pytest.MonkeyPatch, edited: bool
) -> None:
    monkeypatch.setattr(drawing, "QUICK", 150)
    if edited:
        controller.click(to_camera(view()), *pixel_of(1), positive=True)
        controller.edit(Remove(controller.packed()))
    before = [controller.outputs(view(), None, ("groups",), quick=quick)["groups"] for quick in (False, True)]
    with torch.no_grad():
        model.gauss_params["identity"].copy_(torch.nn.functional.one_hot((BALL + 1) % 3, 16).float())
    model.step += 1
    after = [controller.outputs(view(), None, ("groups",), quick=quick)["groups"] for quick in (False, True)]
    x, y = (int(v) for v in pixel_of(0))
    assert torch.equal(before[0][y, x], before[1][y, x])
    assert torch.equal(after[0][y, x], after[1][y, x])
    assert not torch.equal(before[0][y, x], after[0][y, x])


def test_given_labels_take_away_what_was_fitted_to_others(model: GagaModel) -> None:
    model.voted_labels, model.strengths = BALL.int() + 1, torch.linspace(0.5, 2.0, len(BALL))
    fitted, labels = model.strengths.clone(), BALL + 1
    labels[:100] = 4
    model.take_labels(labels)
    assert torch.equal(model.strengths, torch.where(torch.arange(len(BALL)) < 100, 1.0, fitted))


def test_what_was_clicked_at_another_scale_stays(model: GagaModel, controller: SegmentController) -> None:
    plant(model)
    model.voted_labels = BALL.int() + 1
    camera = to_camera(view())
    controller.reprompt(scale=0.5)
    controller.click(camera, *pixel_of(0))
    assert torch.equal(controller.selected, rows(0))
    controller.reprompt(scale=0.0)
    assert controller.walks() == (True, True)
    controller.click(camera, *pixel_of(2))
    assert torch.equal(controller.selected, rows(0, 2))
    controller.reprompt(scale=1.0)
    controller.click(camera, *pixel_of(2), positive=False)
    assert torch.equal(controller.selected, rows(0))
    controller.click(camera, *pixel_of(1))
    assert torch.equal(controller.selected, rows(0, 1))


def test_a_change_of_the_highlight_draws_the_view_no_second_time(
    model: GagaModel, controller: SegmentController, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Cameras] = []
    render = GagaModel.render
    monkeypatch.setattr(GagaModel, "render", lambda self, camera: (drawn.append(camera), render(self, camera))[1])
    small = view()
    small.rescale_output_resolution(0.5)
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: controller.click(to_camera(view()), *pixel_of(1), positive=True),
        lambda: controller.click(to_camera(view()), *pixel_of(2), positive=True),
        lambda: controller.change("invert"),
        lambda: controller.change("none"),
        lambda: controller.change("all"),
    ]
    for change in changes:
        change()
        for camera in (view(), copy.deepcopy(small)):
            shown = controller.outputs(camera, None)
            kept, controller._drawing = controller._drawing, Drawing(model)
            afresh = controller.outputs(camera, None)
            controller._drawing = kept
            assert all(torch.equal(shown[name], afresh[name]) for name in afresh)
    assert len(drawn) == 2 + 2 * len(changes)  # the two kept, and each afresh
    # Whatever else a picture depends on draws it anew.
    count = len(drawn)
    controller.outputs(view(), OrientedBox.from_params((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (9.0, 9.0, 9.0)))
    model.set_background(torch.tensor([0.2, 0.3, 0.4]))
    assert float(controller.outputs(view(), None)["rgb"][0, 0, 0]) == pytest.approx(0.2, abs=1e-3)
    model.step += 1
    controller.outputs(view(), None)
    controller.edit(Isolate(controller.packed()))
    controller.outputs(view(), None)
    with torch.no_grad():
        model.gauss_params["means"] += 0.01
    controller.outputs(view(), None)
    assert len(drawn) == count + 5


def test_a_crop_box_and_a_selection(controller: SegmentController) -> None:
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    box = OrientedBox.from_params((1.2, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert not controller.outputs(view(), box)["selection"].any()
    nowhere = OrientedBox.from_params((50.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert not controller.outputs(view(), nowhere)["selection"].any()
    controller.edit(Remove(controller.packed()))
    assert not controller.outputs(view(), nowhere)["selection"].any()
    everything = OrientedBox.from_params((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (9.0, 9.0, 9.0))
    assert controller.outputs(view(), everything)["accumulation"].max() > 0.9


def test_everything_removed_can_be_drawn(controller: SegmentController) -> None:
    controller.change("all")
    controller.edit(Remove(controller.packed()))
    assert controller.outputs(view(), None)["accumulation"].max() == 0
    with pytest.raises(GsegError, match="nothing at"):
        controller.click(to_camera(view()), *pixel_of(1), positive=True)


def test_groups_are_listed_named_and_hidden(controller: SegmentController) -> None:
    assert [(g.id, g.count, g.hidden) for g in controller.groups()] == [(i, PER_BALL, False) for i in (1, 2, 3)]
    controller.label(2, "mug")
    controller.select_group(2)
    assert torch.equal(controller.selected, rows(1))
    controller.edit(Isolate(controller.packed()))
    groups = {g.id: g for g in controller.groups()}
    assert groups[2].name == "mug"
    assert groups[1].hidden
    assert not groups[2].hidden


def test_training_under_the_session(model: GagaModel, controller: SegmentController) -> None:
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    controller.edit(Recolor(controller.packed(), (1.0, 0.0, 0.0)))
    with torch.no_grad():
        model.gauss_params["means"] += 0.01  # a step of the optimizer
    controller.outputs(view(), None)
    assert torch.equal(controller.selected, rows(1))
    assert torch.equal(controller._session.scene.splats.means, model.means)
    with torch.no_grad():
        for name, value in model.gauss_params.items():
            model.gauss_params[name] = torch.nn.Parameter(value[:-7])
    controller.outputs(view(), None)
    assert not controller.selected.any()
    assert "start anew" in controller.notice


def test_export(controller: SegmentController, model: GagaModel, tmp_path: Path) -> None:
    path = tmp_path / "mug.ply"
    with pytest.raises(GsegError, match="nothing was written"):
        controller.export_ply(path)
    assert not path.exists()
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    controller.export_ply(path)
    written = read_ply(path)
    expected = model.splats().subset(rows(1))
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(written, name), getattr(expected, name)), name
    with pytest.raises(GsegError, match="there already"):
        controller.export_ply(path)
    controller.export_ply(path, overwrite=True)


def test_save_load_and_recall(controller: SegmentController, model: GagaModel, tmp_path: Path) -> None:
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    controller.keep("mug")
    controller.label(3, "ball")
    controller.edit(Remove(controller.packed()))
    controller.save(tmp_path)
    other = SegmentController(model)
    assert "Restored" in other.load(tmp_path)
    assert other.names == ["mug"]
    assert {group.id: group.name for group in other.groups()} == {1: "", 3: "ball"}
    assert other.outputs(view(), None)["accumulation"][32, 48, 0] < 0.01
    other.change("none")
    other.recall("mug")
    assert torch.equal(other.selected, rows(1))
    assert SegmentController(model).load(tmp_path / "none") == ""


def test_selections_of_copies_that_are_no_more(controller: SegmentController, model: GagaModel, tmp_path: Path) -> None:
    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    controller.edit(Duplicate(controller.packed(), (0.0, 1.0, 0.0)))
    controller.keep("copy")
    controller.save(tmp_path)
    other = SegmentController(model)
    other.load(tmp_path)
    assert torch.equal(other.selected, controller.selected)
    (tmp_path / "edits.json").unlink()
    third = SegmentController(model)
    assert "**Left out:** copy" in third.load(tmp_path)
    assert "is kept as selections.npz.bak" in third.save(tmp_path)


def test_a_damaged_file_is_told_and_kept(controller: SegmentController, model: GagaModel, tmp_path: Path) -> None:
    controller.label(3, "ball")
    controller.save(tmp_path)
    (tmp_path / "edits.json").write_text("{")
    other = SegmentController(model)
    said = other.load(tmp_path)
    assert said.startswith(f"Restored selections, names of groups of {tmp_path}. **Not loaded:**")
    assert "edits.json" in said
    assert {group.id: group.name for group in other.groups()} == {1: "", 2: "", 3: "ball"}
    assert "is kept as edits.json.bak" in other.save(tmp_path)
    assert (tmp_path / "edits.json.bak").read_text() == "{"
    assert "kept as" not in other.save(tmp_path)


def test_clicks_that_sam_answers(controller: SegmentController) -> None:
    """All points on a view are one prompt, which meets what was selected before it as the mode says."""
    sam = FakeSam()

    def click(ball: int, positive: bool = True, mode: Mode = "set", camera: Cameras | None = None) -> str:
        return controller.mark(view() if camera is None else camera, *pixel_of(ball), positive, sam, mode)

    with pytest.raises(GsegError, match="Begin with a click"):
        click(0, positive=False)
    controller.select_group(3)
    assert "SAM, 1 point: 150 Gaussians selected" in click(0)
    assert torch.equal(controller.selected, rows(0))
    assert "SAM, 2 points: 300" in click(1)
    assert torch.equal(controller.selected, rows(0, 1))
    click(0, positive=False)
    assert torch.equal(controller.selected, rows(1))
    pictures = [picture for picture, _ in sam.asked]
    assert all(picture is pictures[0] for picture in pictures)
    assert (pictures[0].dtype, pictures[0].shape) == (torch.uint8, (64, 96, 3))
    torch.testing.assert_close(sam.asked[-1][1].positive, torch.tensor([pixel_of(0), pixel_of(1)]))
    torch.testing.assert_close(sam.asked[-1][1].negative, torch.tensor([pixel_of(0)]))

    # from elsewhere a click begins anew, and meets what is there
    moved = view()
    moved.camera_to_worlds[:, 2, 3] += 0.1
    with pytest.raises(GsegError, match="Begin with"):
        click(0, positive=False, camera=moved)
    click(2, mode="add", camera=moved)
    assert torch.equal(controller.selected, rows(1, 2))
    click(1, mode="remove", camera=moved)
    assert not controller.selected.any()
    # the mode is about what was there before the points, and undo takes points back one by one
    assert controller.undo() == "Undone: select what SAM answers."
    assert torch.equal(controller.selected, rows(1, 2))
    click(2, mode="remove", camera=moved)
    assert len(sam.asked[-1][1].positive) == 1, "undo ends a prompt"
    assert torch.equal(controller.selected, rows(1))
    # a plain click begins a plain prompt beside it, and the other way round
    controller.click(to_camera(moved), *pixel_of(2), positive=True)
    controller.click(to_camera(moved), *pixel_of(1), positive=False)
    assert torch.equal(controller.selected, rows(2))
    click(0, mode="add", camera=moved)
    assert torch.equal(controller.selected, rows(0, 2))
    click(1, positive=False, mode="remove", camera=moved)
    assert torch.equal(controller.selected, rows(0, 2)), "what is not wanted says nothing of what was there before"


def test_a_tracker_says_what_a_mask_means(controller: SegmentController, model: GagaModel) -> None:
    """Whatever the groups are; and a failing one changes nothing."""
    sam, asked = FakeSam(), []

    def carry(marked: MarkedView, splats: Splats) -> torch.Tensor:
        assert splats.means.data_ptr() != model.means.data_ptr(), "training would change them"
        assert controller._lock.acquire(blocking=False), "asked without the lock"  # type: ignore[attr-defined]
        controller._lock.release()  # type: ignore[attr-defined]
        assert marked.mask is not None
        asked.append(int(marked.mask.sum()))
        return rows(2) if len(asked) == 1 else rows(1, 2)

    assert "Tracked, 1 point: 150" in controller.mark(view(), *pixel_of(0), True, sam, carry=carry)
    assert torch.equal(controller.selected, rows(2))
    controller.mark(view(), *pixel_of(1), True, sam, carry=carry)
    assert torch.equal(controller.selected, rows(1, 2))
    assert asked[1] > asked[0] > 0
    assert controller.undo() == "Undone: select what SAM answers."
    assert torch.equal(controller.selected, rows(2))

    def fails(marked: MarkedView, splats: Splats) -> torch.Tensor:
        raise GsegError("agree on nothing")

    with pytest.raises(GsegError, match="agree on nothing"):
        controller.mark(view(), *pixel_of(1), True, sam, carry=fails)
    assert torch.equal(controller.selected, rows(2))


def test_sam_sees_the_run_without_edits_and_selects_what_is_drawn(controller: SegmentController) -> None:
    sam = FakeSam()
    controller.mark(view(), *pixel_of(0), True, sam)
    controller.edit(Duplicate(controller.packed(), (0.0, 5.0, 0.0)))
    controller.select_group(1, "intersect")
    for kind, ball in ((Hide, 1), (Remove, 2)):
        controller.mark(view(), *pixel_of(ball), True, sam)
        controller.edit(kind(controller.packed()))
    assert torch.equal(sam.asked[0][0], sam.asked[-1][0])
    controller.change("none")
    for ball in range(3):
        controller.mark(view(), *pixel_of(ball), True, sam)
    assert torch.equal(controller.selected, torch.cat([rows(0), torch.ones(PER_BALL, dtype=torch.bool)]))
    assert sam.asked[-1][0] is sam.asked[-3][0]


def test_failing_answers_of_sam_change_nothing(controller: SegmentController, model: GagaModel) -> None:
    sam = FakeSam()
    controller.mark(view(), *pixel_of(0), True, sam)

    def fails(picture: torch.Tensor, points: Prompt) -> torch.Tensor:
        assert controller._lock.acquire(blocking=False), "SAM is asked without the lock"  # type: ignore[attr-defined]
        controller._lock.release()  # type: ignore[attr-defined]
        raise GsegError("The checkpoint sam.pth does not exist.")

    def nothing(picture: torch.Tensor, points: Prompt) -> torch.Tensor:
        return torch.zeros(picture.shape[:2], dtype=torch.bool)

    def trains(picture: torch.Tensor, points: Prompt) -> torch.Tensor:
        for name, parameter in model.gauss_params.items():
            model.gauss_params[name] = torch.nn.Parameter(parameter[1:])
        return sam(picture, points)

    for answer, message in ((fails, "sam.pth"), (nothing, "SAM finds nothing")):
        with pytest.raises(GsegError, match=message):
            controller.mark(view(), *pixel_of(2), True, answer)
        assert torch.equal(controller.selected, rows(0))
    controller.mark(view(), *pixel_of(1), True, sam)
    assert torch.equal(controller.selected, rows(0, 1)), "the points that failed are not in the prompt"
    with pytest.raises(GsegError, match="number of Gaussians"):
        controller.mark(view(), *pixel_of(2), True, trains)


def test_swap_by_name(controller: SegmentController) -> None:
    camera = to_camera(view())
    controller.click(camera, *pixel_of(2), positive=True)
    controller.keep("right")
    controller.change("none")
    controller.click(camera, *pixel_of(0), positive=True)
    controller.edit(Swap(controller.packed(), controller.named_mask("right")))
    x, y = (int(v) for v in pixel_of(0))
    assert controller.outputs(view(), None)["accumulation"][y, x, 0] > 0.9
    assert {g.id: g.count for g in controller.groups()} == {2: PER_BALL, 3: 2 * PER_BALL}


def test_an_interrupted_render_leaves_everything_as_it_was(model: GagaModel, controller: SegmentController) -> None:
    """The viewer's renders are cut short by an exception that a trace function raises at some line."""
    import sys

    controller.click(to_camera(view()), *pixel_of(1), positive=True)
    controller.edit(Remove(controller.packed()))
    expected = SegmentController.outputs(controller, view(), None)["rgb"]
    state = controller._session.state

    class Interrupted(Exception):
        pass

    for stop in range(5, 400, 37):
        controller._drawing._shown = None
        seen = [0]

        def trace(frame, event, arg, seen=seen, stop=stop):
            if event == "line":
                seen[0] += 1
                if seen[0] == stop:
                    raise Interrupted
            return trace

        sys.settrace(trace)
        try:
            controller.outputs(view(), None)
        except Interrupted:
            pass
        finally:
            sys.settrace(None)
        assert controller._session.state is state
        assert torch.allclose(controller.outputs(view(), None)["rgb"], expected)


def test_clicks_and_renders_from_many_threads(controller: SegmentController) -> None:
    camera = to_camera(view())
    errors: list[BaseException] = []

    def clicking(ball: int) -> None:
        try:
            for _ in range(8):
                controller.click(camera, *pixel_of(ball), positive=True)
                controller.undo()
        except BaseException as error:
            errors.append(error)

    def drawing() -> None:
        try:
            for _ in range(8):
                with controller._lock:
                    controller.outputs(view(), None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=clicking, args=(b,)) for b in range(3)] + [threading.Thread(target=drawing)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_only_the_viewers_renders_show_edits(model: GagaModel) -> None:
    assert gaga.config.method_name == "gaga"  # whose package gives models their tab
    assert SegmentationModel.make_panel is SegmentPanel, "runs have no tab"
    model.panel = SegmentPanel(model)
    assert not model.panel.is_drawing()
    model.panel.controller = SegmentController(model)
    model.panel.controller.click(to_camera(view()), *pixel_of(1), positive=True)
    assert "selection" not in model.get_outputs_for_camera(view())
    control = SimpleNamespace(output_render="rgb", split=False, split_output_render="rgb")
    model.panel.viewer = SimpleNamespace(control_panel=control)
    seen: dict[str, torch.Tensor] = {}
    machine = RenderStateMachine(SimpleNamespace(), 10.0, SimpleNamespace())  # type: ignore[arg-type]
    machine.run = lambda: seen.update(model.get_outputs_for_camera(view()))  # type: ignore[method-assign]
    machine.start()
    machine.join()
    assert seen["selection"].max() > 0.9


@pytest.mark.parametrize("degree", [0, 2])
def test_a_model_with_its_own_gaussians_is_the_same_model(degree: int) -> None:
    model = make_model()
    if degree == 0:
        model.config.sh_degree = 0
        model.gauss_params["features_rest"] = torch.nn.Parameter(model.gauss_params["features_rest"][:, :0])
    other = with_gaussians(model, model.splats(), torch.arange(model.num_points))
    assert isinstance(other, SegmentationModel)
    a, b = model.get_outputs_for_camera(view()), other.get_outputs_for_camera(view())
    for name in ("rgb", "depth", "accumulation", "groups"):
        assert torch.allclose(a[name], b[name], atol=1e-5), name
    assert torch.equal(model.gaussian_groups(), other.gaussian_groups())


def test_each_object_is_cleaned_by_itself(controller: SegmentController) -> None:
    """A selection of two objects has two pieces, and neither is an outlier of the other."""
    for ball in (0, 2):
        controller.click(to_camera(view()), *pixel_of(ball), positive=True)
    for what in ("clean", "largest"):
        controller.change(what)
        assert torch.equal(controller.selected, rows(0, 2)), what
