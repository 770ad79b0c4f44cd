"""Runs that an earlier version wrote: the checkpoints and config.yml of 54e2ff1, made small."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from gseg_ns.cli.export import Export
from gseg_ns.runs import load_run, read_config

RUNS = Path(__file__).parents[1] / "support" / "runs_of_54e2ff1"


@pytest.fixture(params=["gaga", "saga"])
def old_run(request: pytest.FixtureRequest, small_scene: Path, tmp_path: Path) -> Path:
    """config.yml of an old run, on the scene where it is now."""
    folder = tmp_path / "small" / request.param / "run"
    shutil.copytree(RUNS / request.param, folder)
    config = folder / "config.yml"
    parts = "".join(f"- {part}\n" for part in small_scene.parts)
    config.write_text(config.read_text().replace("- /\n- tmp\n- oldscene\n- small\n", parts))
    return config


@pytest.mark.parametrize("method", ["gaga", "saga"])
def test_what_old_configs_name_is_still_there(method: str) -> None:
    text = (RUNS / method / "config.yml").read_text()
    names = set(re.findall(r"!!python/(?:object|name):(gseg_ns[\w.]+)", text))
    assert len(names) > 8
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(import_module(module), attribute), type)


def test_old_runs_load_and_answer(old_run: Path, tmp_path: Path) -> None:
    assert read_config(old_run).max_num_iterations == 40
    run = load_run(old_run)
    assert run.step == 39
    assert run.model.num_points == len(run.model.gaussian_groups()) > 50
    assert torch.isfinite(run.model.picture(next(run.views("test")).camera)).all()
    Export(old_run, tmp_path / "objects", min_gaussians=1).main()
    assert (tmp_path / "objects" / "scene.ply").is_file()
