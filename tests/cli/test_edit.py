from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import random_splats
from gseg_ns.cli.edit import Edit
from gseg_ns.editing.edit_list import load_edits
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP
from gseg_ns.runs import run as runs
from gseg_ns.runs.run import load_run
from gseg_ns.runs.text_search import Proposal, TextSearch
from gseg_ns.selection.store import GROUP_NAMES_FILE, Fingerprint, load_group_names, save_group_names
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


def test_groups_are_named_by_a_list_of_words(
    constructed_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(constructed_run)
    sizes = dict(enumerate(run.model.gaussian_groups().bincount().tolist()))
    first, second, third = sorted((g for g in sizes if g and sizes[g]), key=lambda group: -sizes[group])[:3]
    names = run.folder / GROUP_NAMES_FILE
    save_group_names(names, {(first, None): "the floor"}, Fingerprint.of(run.model.means))

    def propose(search: TextSearch, words: list[str], clip: str) -> dict[int, Proposal]:
        assert (words, clip) == (["ball", "floor"], CLIP)
        return {
            first: Proposal("floor", 0.1), second: Proposal("ball", 0.04), third: Proposal("ball", 0.001),
            9999: Proposal("ball", 1.0),
        }  # fmt: skip

    monkeypatch.setattr(TextSearch, "propose", propose)
    Edit(load_config=constructed_run, name_by=["ball", "floor"]).main()
    said = capsys.readouterr().out
    assert f"group {second}: ball (0.040 ahead" in said
    assert f"group {third}: ball 2 (a guess)" in said
    found = load_group_names(names, Fingerprint.of(run.model.means))
    assert found == {(first, None): "the floor", (second, None): "ball", (third, None): "ball 2"}
    Edit(load_config=constructed_run, name_by=["ball", "floor"]).main()  # names stay
    assert load_group_names(names, Fingerprint.of(run.model.means)) == found
    names.unlink()
