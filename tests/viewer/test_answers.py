"""What is said, saved and shown of what browsers ask for, without a browser."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from constructed_run import set_identities
from fake_front import FakeFront, finish
from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Duplicate, Hide, Swap
from gseg_ns.errors import GsegError
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.runs import edited_run
from gseg_ns.splats.ply import write_ply
from gseg_ns.viewer.answers import Answers
from gseg_ns.viewer.controller import SegmentController
from three_balls import BALL, build_model, pixel_of, rows, view


@pytest.fixture
def front() -> FakeFront:
    return FakeFront()


@pytest.fixture
def answers(tmp_path: Path, front: FakeFront) -> Answers:
    model = build_model(GagaModelConfig())
    with torch.no_grad():
        set_identities(model, BALL + 1)
    return Answers(SegmentController(model), tmp_path / "config.yml", front)


def test_names_stand_as_they_are(answers: Answers, front: FakeFront) -> None:
    """What is said is shown as text, and marks what was not done."""
    answers.say("**Not done:** There is no selection '{a} <b> *c* d_e'. /x/y")
    assert front.shown["said"] == answers.said.content == "Not done: There is no selection '{a} <b> *c* d_e'. /x/y"
    assert not answers.said.well
    assert not front.told
    answers.say("Done.", 3)
    assert front.told == [(3, "Done.", True)]


def test_pictures_and_rows_go_with_their_scale(
    answers: Answers, front: FakeFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At another scale the same numbers are other objects."""
    controller, front.cameras = answers.controller, ["a view"]
    monkeypatch.setattr(controller, "pictured", lambda: ("geometry", controller.scale))
    monkeypatch.setattr(controller, "pictures", lambda cameras: iter([(1, f"at {controller.scale}")]))
    controller.scale = 0.5
    answers.refresh()
    finish(answers)
    assert front.shown["pictures"] == {1: "at 0.5"}
    assert len(front.shown["objects"]) == 3
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(front, "show", lambda **state: shown.append(state))
    controller.scale = 0.25
    answers.refresh()
    finish(answers)
    assert shown[0]["pictures"] == {}
    assert shown[-1] == {"pictures": {1: "at 0.25"}}
    shown.clear()
    with monkeypatch.context() as unknown:
        unknown.setattr(type(controller), "lists", property(lambda self: False))
        answers.refresh()
        finish(answers)
        assert (shown[0]["objects"], shown[0]["pictures"], shown[0]["listed"]) == ([], {}, False)
        with pytest.raises(GsegError, match="not listed yet"):
            answers.acting.act("eye", [1], "set")
    assert len(shown) == 1


def test_all_that_is_asked_for_is_shown(answers: Answers, front: FakeFront) -> None:
    """A session without a viewer: the answers, and what a page shows of them."""
    answers.begin()
    camera = to_camera(view())
    answers.ask(lambda: answers.acting.click(camera, *pixel_of(1), "set"), 0)
    finish(answers)
    assert front.shown["selected"] == [2]
    assert front.shown["called"] == "group 2"
    assert front.told[-1][1].startswith("Selected group 2")
    for mode, ball, meant in (("add", 0, (0, 1)), ("remove", 1, (0,)), ("intersect", 0, (0,))):
        answers.ask(lambda mode=mode, ball=ball: answers.acting.click(camera, *pixel_of(ball), mode), 0)  # type: ignore[misc]
        finish(answers)
        assert torch.equal(answers.controller.selected, rows(*meant)), mode
    # asked for before the first answer: each press counts
    answers.ask(lambda: answers.acting.act("pick", [1, "set"], "set"), 0)
    for ball in (1, 1, 2, 3, 2):
        answers.ask(lambda ball=ball: answers.acting.act("pick", [ball, "toggle"], "set"), 0)  # type: ignore[misc]
    finish(answers)
    assert front.shown["selected"] == [1, 3]
    for name, values in (
        ("pick", [1, "set"]),
        ("pick", [3, ""]),
        ("picks", ["set", 1, 2]),
        ("name", [1, "mug"]),
        ("hide", []),
    ):
        answers.ask(lambda name=name, values=values: answers.acting.act(name, values, "add"), 0)  # type: ignore[misc]
    finish(answers)
    assert front.shown["steps"][0] == "hide 2 objects"
    assert {row["id"]: (row["name"], row["hidden"]) for row in front.shown["objects"]} == {
        1: ("mug", True), 2: ("", True), 3: ("", False)
    }  # fmt: skip
    assert front.shown["hides"]
    answers.ask(lambda: answers.acting.act("undo", [], "set"), 0)
    answers.ask(lambda: answers.acting.act("what", [], "set"), 0)
    finish(answers)
    assert "Undone: hide 2 objects." in [text for _, text, _ in front.told]
    assert "does not know" in front.shown["said"]
    assert not front.shown["well"]
    assert answers.saved()
    assert "names of groups" in SegmentController(answers.controller.model).load(answers.folder)


def test_what_takes_long_holds_nobody_up_and_ends_in_turn(answers: Answers, front: FakeFront) -> None:
    """Others go on meanwhile; what follows an answer happens in one thread alone."""
    begun, go = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go.wait(60)
        return "slow"

    answers.later(slow, 0)
    assert begun.wait(60)
    done = threading.Event()
    answers.ask(lambda: "quick", 0)
    answers.queue(done.set)
    assert done.wait(60)
    assert [text for _, text, _ in front.told] == ["quick"]
    go.set()
    finish(answers)
    assert [text for _, text, _ in front.told] == ["quick", "slow"]
    assert len(front.threads) == 1


def test_the_list_comes_when_it_is_asked_for(answers: Answers, front: FakeFront) -> None:
    answers.list_objects(0)
    finish(answers)
    assert front.shown["said"] == "3 objects."
    answers.controller.label(2, "mug")
    answers.refresh()
    assert [row["name"] for row in front.shown["objects"] if row["id"] == 2] == ["mug"]


def test_a_swap_means_what_is_selected_when_the_other_run_is_loaded(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = answers.controller
    selected: list[torch.Tensor] = []

    def take(source: str, folder: Path) -> Path:
        """Loads for seconds, in which another browser copies an object."""
        controller._session.edit(Duplicate(controller.packed(), (0.0, 1.0, 0.0)))
        selected.append(controller.selected)
        write_ply(folder / "object.ply", controller._session.splats.subset(rows(0)))
        return folder / "object.ply"

    monkeypatch.setattr(edited_run, "take_object", take)
    with pytest.raises(GsegError, match="Nothing is selected"):
        answers.acting.swap("config.yml#3")
    controller._session.select(rows(1))
    answers.acting.swap("config.yml#3")
    swap = controller._session.state.operations[-1]
    assert isinstance(swap, Swap)
    assert swap.other == str(tmp_path / "object.ply")
    assert torch.equal(swap.mask.unpack(), selected[0])
    assert swap.mask.length == len(rows(1)) + int(rows(1).sum())


def test_clicks_go_to_sam_where_a_checkpoint_is_named(answers: Answers, tmp_path: Path) -> None:
    asked: list[Any] = []
    acting: Any = answers.acting
    answers.controller.mark = lambda camera, x, y, positive, answer, mode, carry, embed: (  # type: ignore[assignment, method-assign, misc]
        f"{x:.0f} {y:.0f} {positive} {mode} {carry} {answer('picture', 'points')}"
    )

    def mask(*arguments: Any) -> str:
        asked.append(arguments)
        return "mask"

    acting._sam = SimpleNamespace(mask=mask)
    assert acting.mark("sam.pth", "", view(), 48.0, 16.0, "add") == "48 16 True add None mask"
    asked.clear()
    assert acting.mark("sam.pth", "", view(), 48.0, 16.0, "remove") == "48 16 False remove None mask"
    assert asked == [(tmp_path / "sam.pth", "picture", "points")]
    assert "Asking SAM" in answers.said.content


def test_what_nobody_foresaw_is_told(answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> str:
        raise RuntimeError("out of memory")

    answers.ask(fails)
    finish(answers)
    assert answers.said.content.startswith("Not done: Something went wrong")
    assert "out of memory" in caplog.text
    for asking in (answers.later, answers.queue):
        answers.say("Looking at it from all around …")
        asking(fails)
        finish(answers)
        assert answers.said.content.startswith("Not done: Something went wrong")
        assert not answers.said.well


def test_who_trains_has_no_pictures(answers: Answers, front: FakeFront) -> None:
    """Pictures need the processor that something else needs more."""
    answers.refresh()
    assert "pictures" not in front.shown
    front.cameras = view()
    answers.controller._session.edit(Hide(answers.controller.packed(rows(0))))
    answers.refresh()
    finish(answers)
    assert set(front.shown["pictures"]) <= {1, 2, 3}
    assert front.shown["pictures"]
