"""What a removed object leaves behind is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from gseg_ns.cli.edit import Edit
from gseg_ns.editing.operations import begin
from gseg_ns.errors import GsegError
from gseg_ns.runs.holes import find_holes
from gseg_ns.runs.run import load_run


def test_holes_are_counted_and_told(constructed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(constructed_run)
    splats, groups = run.model.splats(), run.model.gaussian_groups()
    scene, ball = begin(splats), groups == 1
    whole = find_holes(run, scene, ball)
    assert whole is not None
    assert whole.part < 0.9
    assert whole.views > 2
    # Where there is nothing else, all of it is a hole.
    scene.hidden[:] = ~ball
    assert find_holes(run, scene, ball) == (1.0, whole.views)
    # What is not drawn leaves none, and without views nothing is known.
    assert find_holes(run, scene, groups == 2) is None
    gone = SimpleNamespace(model=run.model, datamanager=SimpleNamespace(absent="its scene is gone"))
    assert find_holes(gone, scene, ball) is None  # type: ignore[arg-type]

    edits = tmp_path / "edits.json"
    others = [group for group in groups.unique().tolist() if group > 1]
    Edit(load_config=constructed_run, edits=edits, do="hide", groups=others).main()
    assert "holes" not in capsys.readouterr().out
    Edit(load_config=constructed_run, edits=edits, do="remove", groups=[1]).main()
    said = " ".join(capsys.readouterr().out.split())
    assert f"It leaves holes: 100% of the pixels that showed it in {whole.views} training views" in said


def test_an_edit_is_saved_whose_holes_cannot_be_told(
    constructed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise GsegError("photo.png is gone")

    monkeypatch.setattr("gseg_ns.runs.holes.find_holes", refuse)
    edits = tmp_path / "edits.json"
    Edit(load_config=constructed_run, edits=edits, do="remove", groups=[1]).main()
    assert edits.is_file()
    assert "holes is not known: photo.png is gone" in " ".join(capsys.readouterr().out.split())
