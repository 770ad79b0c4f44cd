"""Nerfstudio's own commands and a config.yml from elsewhere."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.scripts import train
from nerfstudio.utils import eval_utils

from gseg_ns.models.base import SegmentationModel
from gseg_ns.runs.upstream_loading import TRUST

OTHERS = ("nerfacto", "neus", "semantic-nerfw")
"""What their configs name is named by none of ours: a function, and a class with a class in brackets."""


def hostile(folder: Path, made: Path) -> Path:
    path = folder / "config.yml"
    payload = f"!!python/object/apply:os.mkdir ['{made}']"
    path.write_text(yaml.dump(all_methods["splatfacto"]).replace("method_name: splatfacto", f"method_name: {payload}"))
    return path


def test_readers_of_upstream_check_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    path = hostile(tmp_path, made)
    with pytest.raises(SystemExit) as ended:
        eval_utils.eval_setup(path)
    assert ended.value.code == 1
    said = "".join(capsys.readouterr().err.split())
    assert str(path) in said
    assert "os.mkdir" in said
    assert not made.exists()
    config: Any = copy.deepcopy(all_methods["splatfacto"])
    config.load_config = path
    with pytest.raises(SystemExit):
        train.main(config)
    assert not made.exists()
    # who trusts a run can say so
    monkeypatch.setenv(TRUST, "1")
    with pytest.raises((AssertionError, KeyError, TypeError)):
        eval_utils.eval_setup(path)
    assert made.exists()


@pytest.mark.parametrize(
    "value", ["!!python/object/apply:pathlib.PosixPath [" + "[" * 300 + "]" * 301, "1" + "0" * 5000]
)
def test_what_cannot_be_built_is_one_message(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is harmless, and yet PyYAML stumbles over it."""
    path = tmp_path / "config.yml"
    path.write_text(
        yaml.dump(all_methods["splatfacto"]).replace("max_num_iterations: 30000", f"max_num_iterations: {value}")
    )
    with pytest.raises(SystemExit) as ended:
        eval_utils.eval_setup(path)
    assert ended.value.code == 1
    said = "".join(capsys.readouterr().err.split())
    assert said.count("Error:") == 1
    assert str(path) in said


@pytest.mark.parametrize("name", OTHERS)
def test_runs_of_other_methods_load_as_ever(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(yaml.dump(all_methods[name]), encoding="utf-8")
    seen: list[TrainerConfig] = []

    def stop(config: TrainerConfig) -> TrainerConfig:
        seen.append(config)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        eval_utils.eval_setup(path, update_config_callback=stop)
    assert seen[0] == all_methods[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experiment_name", "../../.."),
        ("experiment_name", "/tmp/x"),
        ("experiment_name", "a\nexport const x = 1"),
        ("method_name", ".."),
        ("timestamp", "a/../../../b"),
        ("timestamp", "C:\\x"),
        ("relative_model_dir", Path("../../models")),
        ("relative_model_dir", Path("/tmp/models")),
        ("output_dir", Path("out\nput")),
    ],
)
def test_names_are_no_paths(
    name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config: Any = copy.deepcopy(all_methods["gaga"])
    setattr(config, name, value)
    path = tmp_path / "config.yml"
    path.write_text(yaml.dump(config), encoding="utf-8")
    for call in (eval_utils.eval_setup, lambda path: train.main(TrainerConfig(load_config=path))):
        with pytest.raises(SystemExit):
            call(path)
        assert str(path) in "".join(capsys.readouterr().err.split())
    assert [file.name for file in tmp_path.iterdir()] == ["config.yml"]


@pytest.mark.parametrize("first", [True, False])
def test_whatever_is_imported_first(first: bool, tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = hostile(tmp_path, made)
    modules = ["nerfstudio.utils.eval_utils", "gseg_ns.method_configs.gaga"]
    order = ", ".join(modules if first else modules[::-1])
    code = f"import pathlib, {order}; nerfstudio.utils.eval_utils.eval_setup(pathlib.Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "os.mkdir" in done.stderr
    assert not made.exists()


@pytest.mark.parametrize("damage", ["half", "empty", "a flipped bit", "pickled"])
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_taken(
    damage: str, constructed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `ns-viewer`, `ns-render`, `ns-eval` and `ns-export`, which load it all by this function."""
    folder = tmp_path / "nerfstudio_models"
    shutil.copytree(constructed_run.parent / folder.name, folder)
    (former,) = folder.glob("step-*.ckpt")
    last = int(former.stem[5:])
    newest = folder / f"step-{last + 7:09d}.ckpt"
    content = bytearray(former.read_bytes())
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 4
    made = tmp_path / "made"
    pickled = pickle.dumps(SimpleNamespace(step=_Makes(made)))
    newest.write_bytes({"half": content[: len(content) // 2], "empty": b"", "pickled": pickled}.get(damage, content))
    (folder / "notes.txt").touch()
    loaded: list[Any] = []
    model = SegmentationModel.__new__(SegmentationModel)
    pipeline: Any = SimpleNamespace(model=model, load_pipeline=lambda *given: loaded.append(given))
    config: Any = SimpleNamespace(load_dir=folder, load_step=None, method_name="gaga")
    assert eval_utils.eval_load_checkpoint(config, pipeline) == (former, last)
    assert "Theonebeforeistaken." in "".join(capsys.readouterr().out.split())
    ((state, step),) = loaded
    assert step == last
    assert "_model.gauss_params.means" in state
    config.load_step = last + 7
    with pytest.raises(SystemExit) as ended:
        eval_utils.eval_load_checkpoint(config, pipeline)
    assert ended.value.code == 1
    assert newest.name in "".join(capsys.readouterr().err.split())
    config.load_step = 3  # of the run that it went on from
    assert eval_utils.eval_load_checkpoint(config, pipeline) == (former, last)
    former.unlink()
    with pytest.raises(SystemExit):
        eval_utils.eval_load_checkpoint(config, pipeline)
    assert not made.exists()


class _Makes:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)
