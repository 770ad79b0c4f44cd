"""How far the training of a run is: what is unfinished is told, and what has no groups yet is refused."""

from __future__ import annotations

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
    data = said_scene(config)
    checkpoints = config_path.parent / config.relative_model_dir
    go_on = (
        "It is being trained at this moment"
        if progress.is_running
        else f"To go on: {' '.join(['ns-train', config.method_name, '--data', quote(str(data)), *_given(config)])} "
        f"--max-num-iterations {progress.planned} --load-dir {quote(str(checkpoints))}"
    )
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


def _given(config: Any) -> Iterator[str]:
    """The options of ns-train that a run was given for masks, model and learning, as a shell takes them.

    Those of a dataparser are not among them: they come after its name.
    """
    from gseg_ns.models.registry import segmentation_methods

    usual = segmentation_methods().get(config.method_name)
    if usual is not None:
        yield from _differing(config.pipeline, usual.pipeline, "--pipeline")
        yield from _differing(config.optimizers, usual.optimizers, "--optimizers")


def _differing(given: Any, usual: Any, name: str) -> Iterator[str]:
    """What options below a name have other values than usual."""
    if isinstance(given, dict) and isinstance(usual, dict):
        parts = [(key, given[key], usual[key]) for key in given if key in usual]
    elif is_dataclass(given) and type(given) is type(usual):
        kinds = get_type_hints(type(given), include_extras=True)
        # What is suppressed is no option; the scene and its dataparser are named otherwise.
        names = [field.name for field in fields(given) if "Suppress" not in str(kinds.get(field.name))]
        # A config of an older version lacks what came since.
        parts = [
            (key, getattr(given, key, getattr(usual, key)), getattr(usual, key))
            for key in names
            if key not in ("data", "dataparser")
        ]
    else:
        values = given if isinstance(given, tuple | list) else (given,)
        if given != usual and all(isinstance(value, str | int | float | Path | NoneType) for value in values):
            yield " ".join([name.replace("_", "-"), *(quote(str(value)) for value in values)])
        return
    for key, value, other in parts:
        yield from _differing(value, other, f"{name}.{key}")
