from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import random_splats
from gseg_ns.cli.edit import Edit
from gseg_ns.editing.edit_list import load_edits
from gseg_ns.errors import GsegError
from gseg_ns.runs import run as runs
from gseg_ns.selection.store import Fingerprint
from gseg_ns.splats.ply import read_ply


def test_a_list_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applying it is a mistake in the name; adding to it begins it."""
    splats = random_splats.make()
    model = SimpleNamespace(splats=splats.clone, has_scales=False)
    monkeypatch.setattr(
        runs, "load_run", lambda path, **_: SimpleNamespace(model=model, config_path=path, folder=path.parent)
    )
    config, edits, scene = tmp_path / "config.yml", tmp_path / "mug.json", tmp_path / "scene.ply"
    with pytest.raises(GsegError, match=r"no edit list .*mug\.json"):
        Edit(load_config=config, edits=edits, output=scene).main()
    assert not scene.exists()
    Edit(load_config=config, output=scene).main()  # without edits beside config.yml the scene is as it is
    assert len(read_ply(scene)) == len(splats)
    Edit(load_config=config, edits=edits, do="show-all").main()
    assert len(load_edits(edits, Fingerprint.of(splats.means))) == 1
