"""What the tab says, without a browser."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gseg_ns.editing.operations import Duplicate, Swap
from gseg_ns.errors import GsegError
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.runs import edited_run
from gseg_ns.splats.ply import write_ply
from gseg_ns.viewer.acting import Acting
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.panel import SegmentPanel
from three_balls import build_model, rows, view


@pytest.fixture
def panel(tmp_path: Path) -> Any:
    """A tab without its buttons."""
    panel: Any = SegmentPanel(build_model(GagaModelConfig()))
    panel.controller = SegmentController(panel._model)
    panel._config = tmp_path / "config.yml"
    panel._acting = Acting(panel.controller, panel._config, lambda: panel._reach, panel._say)
    return panel


def test_names_stand_as_they_are(panel: Any) -> None:
    """The tab shows what is said as text, and marks what was not done."""
    panel._say("**Not done:** There is no selection '{a} <b> *c* d_e'. /x/y")
    assert panel._status.content == "Not done: There is no selection '{a} <b> *c* d_e'. /x/y"
    assert not panel._status.well


def test_a_swap_means_what_is_selected_when_the_other_run_is_loaded(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = panel.controller
    selected: list[torch.Tensor] = []

    def take(source: str, folder: Path) -> Path:
        """Loads for seconds, in which another browser copies an object."""
        controller._session.edit(Duplicate(controller.packed(), (0.0, 1.0, 0.0)))
        selected.append(controller.selected)
        write_ply(folder / "object.ply", controller._session.splats.subset(rows(0)))
        return folder / "object.ply"

    monkeypatch.setattr(edited_run, "take_object", take)
    with pytest.raises(GsegError, match="Nothing is selected"):
        panel._acting.swap("config.yml#3")
    controller._session.select(rows(1))
    panel._acting.swap("config.yml#3")
    swap = controller._session.state.operations[-1]
    assert isinstance(swap, Swap)
    assert swap.other == str(tmp_path / "object.ply")
    assert torch.equal(swap.mask.unpack(), selected[0])
    assert swap.mask.length == len(rows(1)) + int(rows(1).sum())


def test_clicks_go_to_sam_where_a_checkpoint_is_named(panel: Any) -> None:
    asked: list[Any] = []
    panel.controller = SimpleNamespace(
        click=lambda camera, *arguments: arguments,
        mark=lambda camera, x, y, positive, answer, mode, carry: (
            f"{x:.0f} {y:.0f} {positive} {mode} {carry} {answer('picture', 'points')}"
        ),
    )
    assert panel._click(view(), 48.0, 16.0, "add") == (48.0, 16.0, True, False, False)
    assert panel._click(view(), 48.0, 16.0, "set") == (48.0, 16.0, True, True, False)
    assert panel._click(view(), 48.0, 16.0, "remove") == (48.0, 16.0, False, False, False)
    assert panel._click(view(), 48.0, 16.0, "intersect") == (48.0, 16.0, True, False, True)
    panel._track = SimpleNamespace(value="")
    panel._acting = Acting(panel.controller, panel._config, lambda: panel._reach, panel._say)
    panel._acting._sam = SimpleNamespace(mask=lambda *arguments: asked.append(arguments) or "mask")
    assert panel._mark("sam.pth", view(), 48.0, 16.0, "add") == "48 16 True add None mask"
    asked.clear()
    assert panel._mark("sam.pth", view(), 48.0, 16.0, "remove") == "48 16 False remove None mask"
    assert asked == [(panel._config.parent / "sam.pth", "picture", "points")]
    assert "Asking SAM" in panel._status.content


def test_what_nobody_foresaw_is_told(panel: Any, caplog: pytest.LogCaptureFixture) -> None:
    panel.viewer = SimpleNamespace(_trigger_rerender=lambda: None)
    panel._tools = SimpleNamespace(follow=lambda: None)
    panel._refresh = lambda: None

    def fails() -> str:
        raise RuntimeError("out of memory")

    panel._do(fails)
    assert panel._status.content.startswith("Not done: something went wrong")
    assert "out of memory" in caplog.text
    panel._say("Looking at it from all around …")
    with ThreadPoolExecutor(1) as slow:
        panel._submit(slow, fails)
    assert panel._status.content.startswith("Not done: something went wrong")
    assert not panel._status.well
