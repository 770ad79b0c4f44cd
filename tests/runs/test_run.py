"""config.yml: loading one builds Python objects, so a file from elsewhere must not get to choose which."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.configs.method_configs import all_methods

from gseg_ns.errors import GsegError
from gseg_ns.method_configs.saga import saga
from gseg_ns.runs.run import load_run
from gseg_ns.runs.safe_config import read_config

OURS = ("gaga", "gradiseg", "saga", "saga-v1", "unified-lift")

MARKER = "/tmp/never"
"""Stands for the file that a payload makes."""

PAYLOADS = {
    "a function of another package": "!!python/object/apply:os.mkdir ['/tmp/never']",
    "a builtin": '!!python/object/apply:builtins.eval [\'__import__("os").mkdir("/tmp/never")\']',
    "a builtin by its short name": '!!python/object/apply:eval [\'__import__("os").mkdir("/tmp/never")\']',
    "torch": "!!python/object/apply:torch.save [1, '/tmp/never']",
    "a tag with escapes": "!!python/object/apply:%6Fs.mkdir ['/tmp/never']",
    "a verbatim tag": "!<tag:yaml.org,2002:python/object/apply:os.mkdir> ['/tmp/never']",
    "a tag of a handle": "!e!apply:os.mkdir ['/tmp/never']",
    "new": "!!python/object/new:os.mkdir ['/tmp/never']",
    "keywords": "!!python/object/apply:os.mkdir {kwds: {path: '/tmp/never'}}",
    "a function of Nerfstudio": "!!python/object/apply:nerfstudio.utils.scripts.run_command ['mkdir /tmp/never']",
    "a class that a module of Nerfstudio has imported": (
        "!!python/object/apply:nerfstudio.data.datamanagers.full_images_datamanager.ThreadPoolExecutor []"
    ),
    "a function that needs no arguments": "!!python/object:nerfstudio.scripts.train.entrypoint {}",
    "a class of ours that is no configuration": "!!python/object/apply:gseg_ns.files.atomic_path ['/tmp/never']",
    "a path with a state": "!!python/object/apply:pathlib.PosixPath {args: [a], state: {b: c}}",
    "a module": "!!python/module:antigravity ''",
    "a name": "!!python/name:os.system ''",
    "a name of an imported module": "!!python/name:nerfstudio.utils.scripts.subprocess ''",
    "a key": "{!!python/object/apply:os.mkdir ['/tmp/never']: 1}",
    "within a tuple": "!!python/tuple [!!python/object/apply:os.mkdir ['/tmp/never']]",
    "a tag of its own": "!env HOME",
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_nothing_of_a_foreign_config_is_run(payload: str, tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "config.yml"
    dumped = yaml.dump(all_methods["gaga"]).replace("method_name: gaga", f"method_name: {payload}")
    path.write_text("%TAG !e! tag:yaml.org,2002:python/object/\n---\n" + dumped.replace(MARKER, str(made)))
    with pytest.raises(GsegError, match="not loaded"):
        read_config(path)
    assert not made.exists()


@pytest.mark.parametrize("name", [*OURS, "splatfacto", "splatfacto-big"])
def test_configs_of_methods_load(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    config: Any = copy.deepcopy(all_methods[name])
    config.data = tmp_path / "dätä"
    path.write_text(yaml.dump(config), encoding="utf-8")
    assert read_config(path) == config


def test_files_that_are_no_config(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    with pytest.raises(GsegError, match="does not exist"):
        read_config(path)
    with pytest.raises(GsegError, match=r"Cannot read .*: Is a directory"):
        read_config(tmp_path)
    for text in ("", "a: 1", "&a [*a]", yaml.dump(all_methods["gaga"].viewer)):
        path.write_text(text)
        with pytest.raises(GsegError, match=r"is not a config\.yml"):
            read_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GsegError, match=r"is damaged or not a config\.yml"):
        read_config(path)
    for text in ("a: [", "[" * 5000, "a: *b"):
        path.write_text(text)
        with pytest.raises(GsegError, match=r"is damaged or not a config\.yml"):
            read_config(path)
    # a path of another system
    other = "WindowsPath" if os.name == "posix" else "PosixPath"
    path.write_text(yaml.dump(all_methods["gaga"]).replace(type(tmp_path).__name__, other))
    with pytest.raises(GsegError, match=r"is damaged or not a config\.yml"):
        read_config(path)


@pytest.mark.parametrize(
    ("line", "other"),
    [("steps_per_save: 2000", "steps_per_save: many"), ("use_grad_scaler: false", "use_grad_scaler: '0'")],
)
def test_values_of_a_config_are_of_their_kinds(tmp_path: Path, line: str, other: str) -> None:
    path = tmp_path / "config.yml"
    text = yaml.dump(all_methods["gaga"])
    assert line in text
    path.write_text(text.replace(line, other))
    with pytest.raises(GsegError, match=r"which it cannot be"):
        read_config(path)


def test_a_run_that_was_resumed_is_loaded_as_it_ended(make_trainer: Callable[..., Any], small_scene: Path) -> None:
    trainer = make_trainer(saga, small_scene)
    trainer.config.load_dir, trainer.config.load_step = Path("where it went on from"), 7
    trainer.config.save_config()
    trainer.save_checkpoint(11)
    run = load_run(trainer.base_dir / "config.yml", allow_unfinished=True)
    assert run.step == 11
    assert torch.equal(run.model.means, trainer.pipeline.model.means)
