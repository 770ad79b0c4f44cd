from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from gseg_ns.cli.render import Render
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.runs import run as runs
from gseg_ns.selection.store import GROUP_NAMES_FILE, Fingerprint, save_group_names
from three_balls import BALL, build_model, view


def test_turntables_of_names_that_look_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(GagaModelConfig())
    model.gaussian_groups = lambda scale=None: BALL + 1
    run = SimpleNamespace(
        model=model,
        config_path=tmp_path / "config.yml",
        source=tmp_path / "config.yml",
        folder=tmp_path,
        alone=False,
        views=lambda split: iter([SimpleNamespace(name="0", camera=view())]),
    )
    monkeypatch.setattr(runs, "load_run", lambda *_, **__: run)
    names = {(1, None): "a b", (2, None): "a-b", (3, None): "!!"}
    save_group_names(tmp_path / GROUP_NAMES_FILE, names, Fingerprint.of(model.means))

    def turn(frames: int, *objects: str) -> Path:
        Render(run.config_path, tmp_path / "out", turntable=objects, frames=frames, size=32).main()
        return tmp_path / "out" / "turntable"

    folder = turn(3, *names.values())
    assert {path.name for path in folder.iterdir()} == {
        "a-b", "a-b.mp4", "a-b-2", "a-b-2.mp4", "object", "object.mp4"
    }  # fmt: skip
    assert all(len(list(path.iterdir())) == 3 for path in folder.iterdir() if path.is_dir())
    # A shorter turn leaves nothing of the longer one, and what is not ours.
    (folder / "object" / "notes.png").write_text("")
    turn(2, "!!")
    assert {path.name for path in (folder / "object").iterdir()} == {"000.png", "001.png", "notes.png"}
    assert cv2.VideoCapture(str(folder / "object.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 2
