from __future__ import annotations

from pathlib import Path

import pytest
import tyro

from gseg_ns.cli.demo import Demo


def test_demo_writes_a_scene_where_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = "scene --objects 2 --views 8 --width 48 --height 36 --seed 4 --mask-errors hard"
    tyro.cli(Demo, args=arguments.split()).main()
    assert (tmp_path / "scene" / "transforms.json").is_file()
    assert len(list((tmp_path / "scene" / "masks").glob("*.json"))) == 8
    assert "2 objects, 7 training and 1 test views" in capsys.readouterr().out


def test_every_option_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(Demo, args=["--help"])
    text = capsys.readouterr().out
    for words in ("Photographs; every 8th is held out", "Another seed is another room", "How bad the masks are"):
        assert words in text
