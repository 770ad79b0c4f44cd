"""Objects that leave a session ending where the training views show that they do, from the page and from the tab."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.objects.fringes import Alone, FringeOptions
from gseg_ns.runs import load_run
from gseg_ns.runs.edited_run import EditedRun, saved_edits
from gseg_ns.runs.labelled import LabelledModel
from gseg_ns.serving.desk import Desk
from gseg_ns.serving.messages import Asked
from gseg_ns.serving.opening import open_desk
from gseg_ns.serving.server import PageDoor, PageServer
from gseg_ns.splats.ply import read_ply, write_ply
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
    written = answer()
    assert written["well"], written
    assert "Borders cleaned: 1 of 1." in written["said"]
    assert any(line.startswith("Asking views: 1 of ") for line in said)
    assert any(line.startswith("Cleaning borders: 1 of 1") for line in said)
    desk.close()
    plain, cleaned = (read_ply(path) for path in sorted((desk.folder / "exports").iterdir(), key=len_of_name))

    run = load_run(constructed_run)
    edited = EditedRun(run, saved_edits(run))
    rows = edited.rows([4])
    assert edited.clean_borders(rows) == 1
    torch.testing.assert_close(plain.means, edited.scene.splats.means[rows])
    alone = edited.alone.subset(rows).splats
    torch.testing.assert_close(cleaned.means, alone.means)
    torch.testing.assert_close(cleaned.opacities, alone.opacities)
    assert not torch.allclose(cleaned.opacities[: len(plain)], plain.opacities)


def len_of_name(path: Path) -> int:
    return len(path.name)  # the second of a name has a number


def test_what_has_no_views_or_is_no_object_is_told(constructed_run: Path) -> None:
    desk = Desk(load_run(constructed_run).model, constructed_run.parent / "elsewhere")
    ask(desk, "pick", 4)
    answer = desk.do(Asked(1, "export", [True], "set"))
    assert (answer["well"], "here is no scene" in answer["said"], "--data" in answer["said"]) == (False, True, True)
    assert desk._state["cleans"] is False
    assert desk.do(Asked(1, "export", ["yes"], "set"))["well"] is False
    with desk.controller._held() as session:
        everything = ~session.scene.removed
        session.select(everything & (torch.arange(len(everything)) % 7 == 0), "set", "some of all")
    with pytest.raises(GsegError, match="select one"):
        desk.controller.export_objects(desk.folder, lambda *_: pytest.fail("views are asked"))
    with desk.controller._held() as session:
        session.select((session.scene.source % 20 == 0) & (desk.controller._row_groups(session.scene) == 4), "set", "")
    assert desk.controller.picked().called == "part of group 4"
    with pytest.raises(GsegError, match="whole objects"):
        desk.controller.export_objects(desk.folder, lambda *_: pytest.fail("views are asked"))
    assert not desk.folder.exists() or not list(desk.folder.glob("*.ply"))
    desk.close()


def test_what_no_view_shows_is_not_written_as_cleaned(constructed_run: Path, tmp_path: Path) -> None:
    desk, _ = open_desk(constructed_run)
    assert desk._state["cleans"] is True
    ask(desk, "pick", 4)
    alone = Alone.of(desk.controller.model.splats())
    with pytest.raises(GsegError, match="No training view shows"):
        desk.controller.export_objects(tmp_path / "out", lambda *_: (alone, []))
    assert not (tmp_path / "out").exists()
    desk.close()


@pytest.mark.usefixtures("quick")
def test_an_end_of_the_program_ends_it(constructed_run: Path) -> None:
    desk, _ = open_desk(constructed_run)
    ask(desk, "pick", 4)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        pages.desk.end()

    pages = PageServer(desk, {}, PageDoor("127.0.0.1"))
    answer = desk.begin(Asked(2, "export", [True], "set"), say)
    assert callable(answer), answer
    found = answer()
    assert (found["well"], "was ended" in found["said"], len(said)) == (False, True, 1)
    pages.close()
    desk.close()


@pytest.mark.usefixtures("quick")
def test_what_is_given_its_scene_cleans(constructed_run: Path, ball_room: Path, tmp_path: Path) -> None:
    run = load_run(constructed_run)
    write_ply(tmp_path / "balls.ply", run.model.splats(), {"label": run.model.gaussian_groups().int()})
    bare, _ = open_desk(tmp_path / "balls.ply")
    assert bare._state["cleans"] is False
    desk, _ = open_desk(tmp_path / "balls.ply", ball_room)
    assert isinstance(desk.controller.model, LabelledModel)
    ask(desk, "pick", 4)
    assert "Borders cleaned: 1 of 1." in ask(desk, "export", True)
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
    cleaned, names = Widgets._clean(widgets, [4], None)  # type: ignore[arg-type]
    assert names == [4]
    before = run.model.splats()
    changed = cleaned.splats.opacities[: len(before)] != before.opacities
    assert bool(changed.any())
    assert bool((run.model.gaussian_groups()[changed] == 4).all())
    assert said
