"""Runs whose training has not come to its end."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from gseg_ns.cli.lift import Lift
from gseg_ns.data.said_scene import said_scene
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig, as_gseg_data
from gseg_ns.errors import GsegError
from gseg_ns.folders import is_held, sole_use
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.saga import saga
from gseg_ns.method_configs.unified_lift import unified_lift
from gseg_ns.models.trainer import _let_go
from gseg_ns.runs.progress import TrainingProgress, check_geometry, check_progress
from gseg_ns.runs.run import load_run


@pytest.mark.parametrize(("method", "after"), [(gaga, 30), (saga, 30), (unified_lift, 36), (gradiseg, 10)])
def test_a_run_without_groups_is_refused(
    method: Any,
    after: int,
    make_trainer: Callable[..., Any],
    step: Callable[..., Any],
    small_scene: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = make_trainer(method, small_scene)
    config = trainer.base_dir / "config.yml"
    for number in range(3):
        step(trainer, number)
    trainer.save_checkpoint(2)
    _let_go(trainer.base_dir)  # this process would be training
    with pytest.raises(GsegError, match=f"is at step 3 of 40, and has no groups before step {after + 1}") as refused:
        load_run(config)
    assert f"--load-dir {trainer.checkpoint_dir}" in str(refused.value)
    assert "--allow-unfinished" in str(refused.value)
    end = 30 if method in (gaga, saga) else 40
    with pytest.raises(
        GsegError, match=f"at step 3 of 40, and its geometry trains until step {end}. To go on: ns-train"
    ):
        Lift(small_scene, trainer.base_dir, output_dir=trainer.base_dir / "lifted").main()
    assert not (trainer.base_dir / "lifted").exists()
    check_geometry(config, allow_unfinished=True)
    run = load_run(config, allow_unfinished=True)
    assert run.progress == TrainingProgress(3, 40, after + 1, is_running=False)
    assert "is chance" in capsys.readouterr().out


def test_geometry_of_a_method_that_is_not_installed_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("!!python/object:no_such_plugin.Config\nmethod_name: other\n")
    check_geometry(tmp_path, allow_unfinished=False)


def test_a_run_that_ended_early_is_told(
    make_trainer: Callable[..., Any],
    step: Callable[..., Any],
    small_scene: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = make_trainer(gaga, small_scene, steps=8)
    for number in range(7):
        step(trainer, number)
    trainer.save_checkpoint(6)
    capsys.readouterr()
    load_run(trainer.base_dir / "config.yml")
    assert "It is being trained at this moment" in capsys.readouterr().out
    _let_go(trainer.base_dir)
    run = load_run(trainer.base_dir / "config.yml")
    told = capsys.readouterr().out
    assert "is at step 7 of 8: its groups are not what they will be. To go on: ns-train gaga" in told
    assert run.progress.has_groups
    step(trainer, 7)
    trainer.save_checkpoint(7)
    assert load_run(trainer.base_dir / "config.yml").progress.is_finished
    assert "at step" not in capsys.readouterr().out


def _going_on(config: Any, folder: Path) -> tuple[list[str], Any]:
    """The command that goes on with a run, and what ns-train understands of it."""
    with pytest.raises(GsegError) as refused:
        check_progress(TrainingProgress(3, 60, 46, is_running=False), folder / "config.yml", config, False)
    found = re.search(r"To go on: ns-train (.*)\. Or add", str(refused.value))
    assert found is not None
    command = shlex.split(found.group(1))
    assert command[0] == config.method_name
    usual = copy.deepcopy(gaga.config)
    again = tyro.cli(type(usual), default=usual, args=command[1:], config=(tyro.conf.FlagConversionOff,))
    assert again.load_dir == folder / config.relative_model_dir
    assert again.max_num_iterations == 60
    assert said_scene(again) == said_scene(config)
    return command, again


def _trained(scene: Path) -> Any:
    """A configuration as it is beside a run."""
    config = copy.deepcopy(gaga.config)
    config.pipeline.datamanager.data = scene
    config.set_timestamp()
    config.set_experiment_name()
    config.pipeline.model.num_iterations = 60
    config.pipeline.model.geometry_in_checkpoint = True
    return config


def test_how_to_go_on_names_what_the_training_was_given(tmp_path: Path) -> None:
    """As they are typed: ns-train understands the command and makes the same configuration of it."""
    config = _trained(tmp_path / "a scene")
    config.output_dir = tmp_path / "all runs"
    config.machine.seed = 7
    config.steps_per_save = 10
    config.pipeline.datamanager.masks_dir = Path("sam masks/object")
    config.pipeline.model.random_init = True
    config.pipeline.model.background_color = "white"
    config.optimizers["means"]["optimizer"].lr = 2e-4
    command, again = _going_on(config, tmp_path)
    assert again.pipeline.datamanager.masks_dir == config.pipeline.datamanager.masks_dir
    assert again.pipeline.model.background_color == "white"
    assert again.pipeline.model.random_init is True
    assert again.optimizers["means"]["optimizer"].lr == 2e-4
    assert (again.output_dir, again.machine.seed, again.steps_per_save) == (config.output_dir, 7, 10)
    assert len(command) == 1 + 2 * 10, "nothing that was not given"


@pytest.mark.parametrize(
    ("parser", "words"),
    [
        (GsegDataParserConfig(), []),
        (GsegDataParserConfig(eval_interval=4, eval_mode="all"), ["gseg-data", "--eval-mode", "--eval-interval"]),
        (NerfstudioDataParserConfig(), ["nerfstudio-data"]),
        (NerfstudioDataParserConfig(downscale_factor=2), ["nerfstudio-data", "--downscale-factor"]),
        (ColmapDataParserConfig(masks_path=Path("keep out")), ["colmap", "--masks-path"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("opened", [False, True])
def test_how_to_go_on_names_how_the_scene_was_read(
    parser: DataParserConfig, words: list[str], opened: bool, tmp_path: Path
) -> None:
    """The dataparser comes last; also where ours has taken the place of the one that was named."""
    config = _trained(tmp_path)
    config.pipeline.datamanager.dataparser = as_gseg_data(parser) if opened else parser
    command, again = _going_on(config, tmp_path)
    if not opened:
        said = command[command.index("--load-dir") + 2 :]
        assert [word for word in said if word.startswith("--") or said.index(word) == 0] == words
    assert as_gseg_data(again.pipeline.datamanager.dataparser) == as_gseg_data(parser)


def test_a_run_in_training_is_known(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with sole_use(tmp_path, "trains into"):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_what_nerfstudio_prints_is_beside_the_run(
    constructed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(constructed_run.parent, folder)
    load_run(folder / "config.yml")
    assert not capsys.readouterr().out.strip()
