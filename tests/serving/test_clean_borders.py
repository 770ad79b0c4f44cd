"""Objects that leave a session ending where the training views show that they do, from the page and from the tab."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.objects.fringes import FringeOptions
from gseg_ns.runs import load_run
from gseg_ns.runs.edited_run import EditedRun, saved_edits
from gseg_ns.serving.desk import Desk
from gseg_ns.serving.messages import Asked
from gseg_ns.serving.opening import open_desk
from gseg_ns.splats.ply import read_ply
from gseg_ns.viewer.widgets import Widgets


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gseg_ns.objects.fringes.FringeOptions", lambda: FringeOptions(steps=10, rounds=0))


def ask(desk: Desk, name: str, *values: object) -> str:
    answer = desk.do(Asked(1, name, list(values), "set"))
    assert answer["well"], answer
    return str(answer["said"])


@pytest.mark.usefixtures("quick")
def test_the_page_writes_what_the_command_writes(constructed_run: Path) -> None:
    desk, _ = open_desk(constructed_run)
    said: list[str] = []
    ask(desk, "pick", 4)
    ask(desk, "move", 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0, False)
    ask(desk, "export")
    answer = desk.begin(Asked(2, "export", [True], "set"), said.append)
    assert callable(answer), answer
    assert answer()["well"]
    assert any(line.startswith("Asking views: 1 of ") for line in said)
    assert any(line.startswith("Cleaning borders: 1 of 1") for line in said)
    desk.close()
    plain, cleaned = (read_ply(path) for path in sorted((desk.folder / "exports").iterdir(), key=len_of_name))

    run = load_run(constructed_run)
    edited = EditedRun(run, saved_edits(run))
    rows = edited.rows([4])
    assert edited.clean_borders(rows) == 1
    torch.testing.assert_close(plain.means, edited.scene.splats.means[rows])
    torch.testing.assert_close(cleaned.means, edited.alone.means[rows])
    torch.testing.assert_close(cleaned.opacities, edited.alone.opacities[rows])
    assert not torch.allclose(cleaned.opacities, plain.opacities)


def len_of_name(path: Path) -> int:
    return len(path.name)  # the second of a name has a number


def test_what_has_no_views_or_is_no_object_is_told(constructed_run: Path) -> None:
    desk = Desk(load_run(constructed_run).model, constructed_run.parent / "elsewhere")
    ask(desk, "pick", 4)
    answer = desk.do(Asked(1, "export", [True], "set"))
    assert (answer["well"], "here is no scene" in answer["said"]) == (False, True)
    assert desk.do(Asked(1, "export", ["yes"], "set"))["well"] is False
    with desk.controller._held() as session:
        everything = ~session.scene.removed
        session.select(everything & (torch.arange(len(everything)) % 7 == 0), "set", "some of all")
    with pytest.raises(GsegError, match="select one"):
        desk.controller.export_objects(desk.folder, lambda *_: pytest.fail("views are asked"))
    assert not desk.folder.exists() or not list(desk.folder.glob("*.ply"))
    desk.close()


@pytest.mark.usefixtures("quick")
def test_the_tab_cleans_when_nothing_trains(constructed_run: Path) -> None:
    run = load_run(constructed_run)
    said: list[str] = []
    answers = SimpleNamespace(trains=True, folder=constructed_run.parent, say=said.append)
    viewer = SimpleNamespace(pipeline=SimpleNamespace(datamanager=run.datamanager))
    widgets = SimpleNamespace(_answers=answers, _viewer=viewer, _model=run.model)
    widgets._run = lambda: Widgets._run(widgets)  # type: ignore[arg-type]
    with pytest.raises(GsegError, match="Something trains"):
        Widgets._clean(widgets, [4], None)  # type: ignore[arg-type]
    answers.trains = False
    cleaned = Widgets._clean(widgets, [4], None)  # type: ignore[arg-type]
    changed = (cleaned.opacities != run.model.splats().opacities).flatten()
    assert bool(changed.any())
    assert bool((run.model.gaussian_groups()[changed] == 4).all())
    assert said
