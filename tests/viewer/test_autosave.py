"""What is done in the tab is on disk when the next thing is done."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fake_front import FakeFront
from forked import in_child
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.viewer.answers import Answers
from gseg_ns.viewer.autosave import Autosave
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.panel import SegmentPanel
from three_balls import build_model


@pytest.fixture
def front() -> FakeFront:
    return FakeFront()


@pytest.fixture
def answers(tmp_path: Path, front: FakeFront) -> Answers:
    """A session that is saved to a folder."""
    return Answers(SegmentController(build_model(GagaModelConfig())), tmp_path / "config.yml", front)


def test_a_kill_loses_the_last_action_at_most(answers: Answers, tmp_path: Path) -> None:
    def work() -> None:
        """Name a group again and again, as a browser would ask for it."""
        answers.begin()
        for number in range(1, 100_000):
            answers.do(lambda number=number: answers.controller.label(1, f"name {number}"))  # type: ignore[misc]
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()

    seen = []
    for kill_after in (0.4, 0.55, 0.9, 2.0):
        ended = in_child(work, kill_after=kill_after)
        assert ended.status == -9, ended.said
        if len(ended.said.split()) < 2:  # a busy machine had not begun
            continue
        done = int(ended.said.split()[-1])
        again = SegmentController(answers.controller.model)
        said = again.load(tmp_path)
        assert said.startswith("Restored selections, edits, names of groups of"), said
        assert "\n" not in said
        (found,) = re.findall(r"name (\d+)", dict(again.state().labels)[1, None])
        assert done - 1 <= int(found) <= done + 1
        seen.append(int(found))
    assert seen, "too few to tell"


def test_what_cannot_be_saved_is_told() -> None:
    told: list[str] = []

    def fail() -> None:
        raise OSError("the disk is full")

    autosave = Autosave(fail, told.append)
    autosave.changed()
    autosave.wait()
    assert told == ["the disk is full"]


def test_nothing_is_saved_while_the_geometry_trains(answers: Answers, front: FakeFront, tmp_path: Path) -> None:
    answers.begin()
    front.final = False
    answers.do(lambda: answers.controller.label(1, "mug"))
    assert answers.saved()
    assert not list(tmp_path.iterdir())
    front.final = True
    answers.do(lambda: answers.controller.label(1, "cup"))
    assert answers.saved()
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("trainer", "button", "features", "final"),
    [
        (None, "training", False, True),
        (object(), "training", False, False),
        (object(), "paused", True, True),
        (object(), "completed", False, True),
    ],
)
def test_when_gaussians_are_those_of_a_checkpoint(trainer: Any, button: str, features: bool, final: bool) -> None:
    panel: Any = SegmentPanel(SimpleNamespace(in_feature_phase=features))  # type: ignore[arg-type]
    panel.viewer = SimpleNamespace(trainer=trainer, train_btn_state=button)
    assert panel.is_final() == final
