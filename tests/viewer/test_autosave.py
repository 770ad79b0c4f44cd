"""What is done in the tab is on disk when the next thing is done."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forked import in_child
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.viewer.autosave import Autosave
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.panel import SegmentPanel
from three_balls import build_model


@pytest.fixture
def panel(tmp_path: Path) -> Any:
    """A tab without its buttons, which saves to a folder."""
    panel: Any = SegmentPanel(build_model(GagaModelConfig()))
    panel.controller = SegmentController(panel._model)
    panel._config = tmp_path / "config.yml"
    panel.viewer = SimpleNamespace(trainer=None, _trigger_rerender=lambda: None)
    panel._refresh = lambda: None
    panel._tools = SimpleNamespace(follow=lambda: None)
    panel._seen_state = panel.controller.state()
    return panel


def test_a_kill_loses_the_last_action_at_most(panel: Any, tmp_path: Path) -> None:
    def work() -> None:
        """Name a group again and again, as a browser would ask for it."""
        panel._autosave = Autosave(lambda: panel.controller.save(tmp_path), print)
        for number in range(1, 100_000):
            panel._do(lambda number=number: panel.controller.label(1, f"name {number}"))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()

    seen = []
    for kill_after in (0.4, 0.55, 0.9, 2.0):
        ended = in_child(work, kill_after=kill_after)
        assert ended.status == -9, ended.said
        if len(ended.said.split()) < 2:  # a busy machine had not begun
            continue
        done = int(ended.said.split()[-1])
        again = SegmentController(panel._model)
        said = again.load(tmp_path)
        assert said.startswith("Restored selections, edits, names of groups of"), said
        assert "\n" not in said
        (found,) = re.findall(r"name (\d+)", dict(again.state().labels)[1, None])
        assert done - 1 <= int(found) <= done + 1
        seen.append(int(found))
    assert seen, "too few to tell"


def test_what_cannot_be_saved_is_told(panel: Any, tmp_path: Path) -> None:
    told: list[str] = []

    def fail() -> None:
        raise OSError("the disk is full")

    autosave = Autosave(fail, told.append)
    autosave.changed()
    autosave.wait()
    assert told == ["the disk is full"]


def test_nothing_is_saved_while_the_geometry_trains(panel: Any) -> None:
    saved: list[None] = []
    panel._autosave = Autosave(lambda: saved.append(None), print)
    panel.viewer.trainer, panel.viewer.train_btn_state = object(), "training"
    panel._model.step = 0
    panel._do(lambda: panel.controller.label(1, "mug"))
    panel._autosave.wait()
    assert not saved
    panel.viewer.train_btn_state = "completed"
    panel._do(lambda: panel.controller.label(1, "cup"))
    panel._autosave.wait()
    assert saved == [None]
