"""How far the training of a run is: what is unfinished is told, and what has no groups yet is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from shlex import quote
from types import NoneType
from typing import TYPE_CHECKING, Any, get_type_hints

from gseg_ns import terminal
from gseg_ns.data.said_scene import said_scene
from gseg_ns.errors import GsegError
from gseg_ns.folders import is_held

if TYPE_CHECKING:
    from gseg_ns.models.base import SegmentationModel


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is."""

    steps: int
    """That the checkpoint has."""
    planned: int
    """Of the whole run."""
    groups_after: int
    """Steps after which there are groups."""
    is_running: bool
    """Whether a process trains the run now."""

    @property
    def has_groups(self) -> bool:
        """Whether the groups of the checkpoint are more than chance."""
        return self.steps >= self.groups_after

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        return self.steps >= self.planned


def training_progress(config_path: Path, model: SegmentationModel, step: int) -> TrainingProgress:
    """How far the training of a loaded run is.

    Args:
        config_path: its config.yml.
        model: its model.
        step: the last one that its checkpoint has.
    """
    planned = model.config.num_iterations
    # Options may name the last step as the one at which groups come; there is a step after which there are some.
    after = min(model.groups_start + 1, planned)
    return TrainingProgress(step + 1, planned, after, is_held(config_path.parent))


def check_progress(progress: TrainingProgress, config_path: Path, config: Any, allow_unfinished: bool) -> None:
    """Warn of a run whose training has not come to its end, and refuse one without groups.

    Args:
        progress: of the run.
        config_path: its config.yml.
        config: its TrainerConfig.
        allow_unfinished: whether it is used all the same.

    Raises:
        GsegError: there are no groups yet.
    """
    if progress.is_finished:
        return
    go_on = _go_on(config_path, config, progress.planned)
    at = f"{config_path} is at step {progress.steps} of {progress.planned}"
    if progress.has_groups:
        terminal.warn(f"{at}: its groups are not what they will be. {go_on}.")
    elif allow_unfinished:
        terminal.warn(f"{at}, and has no groups before step {progress.groups_after}: what answers is chance.")
    else:
        raise GsegError(
            f"{at}, and has no groups before step {progress.groups_after}. {go_on}. Or add --allow-unfinished to use "
            "it as it is."
        )


def check_geometry(geometry: Path, allow_unfinished: bool) -> None:
    """Refuse the geometry of a run of ours that is still to be trained.

    Args:
        geometry: a run, its folder or its config.yml; a splat file passes, and so does a run of another method.
        allow_unfinished: whether it is used all the same.

    Raises:
        GsegError: the training of the geometry has not come to its end.
    """
    from gseg_ns.models.base import SegmentationModelConfig
    from gseg_ns.models.checkpoints import checkpoints
    from gseg_ns.models.schedule import steps_of_geometry
    from gseg_ns.models.trained_geometry import is_splat_file
    from gseg_ns.runs.safe_config import read_config

    path = geometry / "config.yml" if geometry.is_dir() else geometry
    if allow_unfinished or is_splat_file(geometry) or not path.is_file():
        return
    try:
        config: Any = read_config(path)
    except GsegError:  # another method's, whose geometry is read without making a configuration of it
        return
    found = checkpoints(path.parent / config.relative_model_dir)
    if not found or not isinstance(config.pipeline.model, SegmentationModelConfig):
        return
    model = config.pipeline.model
    steps, end = int(found[0].stem[5:]) + 1, steps_of_geometry(model, getattr(model._target, "two_phases", False))
    if steps < end:
        raise GsegError(
            f"{path} is at step {steps} of {model.num_iterations}, and its geometry trains until step {end}. "
            f"{_go_on(path, config, model.num_iterations)}. Or add --allow-unfinished to use it as it is."
        )


def _go_on(config_path: Path, config: Any, planned: int) -> str:
    """How a training comes to its end, as a sentence without its stop."""
    if is_held(config_path.parent):
        return "It is being trained at this moment"
    options, of_dataparser = _given(config)
    checkpoints = config_path.parent / config.relative_model_dir
    words = [
        *("ns-train", config.method_name, "--data", quote(str(said_scene(config))), *options),
        *("--max-num-iterations", str(planned), "--load-dir", quote(str(checkpoints)), *of_dataparser),
    ]
    return f"To go on: {' '.join(words)}"


_NAMED_OTHERWISE = {
    "": {
        *("data", "method_name", "timestamp", "max_num_iterations", "prompt"),
        *("load_dir", "load_step", "load_config", "load_checkpoint"),
    },
    ".pipeline.datamanager": {"data", "dataparser"},
}
"""Part of a configuration -> the scene, the length of the run and its checkpoint, which are said apart: what goes on is
a new run."""


def _given(config: Any) -> tuple[list[str], list[str]]:
    """The options of ns-train that a run was given, as a shell takes them, and after them those of its dataparser.

    The latter come last, after its name, since they have no prefix.
    """
    from nerfstudio.configs.dataparser_configs import all_dataparsers

    from gseg_ns.models.registry import segmentation_methods

    method = segmentation_methods().get(config.method_name)
    if method is None:
        return [], []
    usual = copy.copy(method)
    usual.pipeline = copy.deepcopy(method.pipeline)
    usual.pipeline.datamanager.data = said_scene(config)
    usual.set_experiment_name()  # after the scene, unless it is given
    parser = config.pipeline.datamanager.dataparser
    name, other = next((item for item in all_dataparsers.items() if type(item[1]) is type(parser)), ("", None))
    of_parser = list(_differing(parser, other, ""))
    if of_parser or type(parser) is not type(method.pipeline.datamanager.dataparser):
        of_parser.insert(0, name)
    return list(_differing(config, usual, "")), of_parser


def _differing(given: Any, usual: Any, name: str) -> Iterator[str]:
    """What options have other values than usual.

    Args:
        given: a configuration, or a part of one.
        usual: the same as it is without any options.
        name: of the part, as `.pipeline.model`.
    """
    if isinstance(given, dict) and isinstance(usual, dict):
        parts = [(key, given[key], usual[key]) for key in given if key in usual]
    elif is_dataclass(given) and not isinstance(given, type) and type(given) is type(usual):
        kinds = get_type_hints(type(given), include_extras=True)
        # What is suppressed is no option; the scene and its dataparser are named otherwise.
        names = [field.name for field in fields(given) if "Suppress" not in str(kinds.get(field.name))]
        # A config of an older version lacks what came since.
        parts = [
            (key, getattr(given, key, getattr(usual, key)), getattr(usual, key))
            for key in names
            if key not in _NAMED_OTHERWISE.get(name, ())
        ]
    else:
        values = given if isinstance(given, tuple | list) else (given,)
        if given != usual and all(isinstance(value, str | int | float | Path | NoneType) for value in values):
            yield " ".join([f"--{name[1:]}".replace("_", "-"), *(quote(str(value)) for value in values)])
        return
    for key, value, other in parts:
        yield from _differing(value, other, f"{name}.{key}")
