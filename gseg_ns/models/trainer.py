"""Nerfstudio's trainer with what a two-phase method needs: one length for all milestones, and a resume that resumes."""

from __future__ import annotations

import atexit
import copy
import dataclasses
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, Literal, NoReturn, cast

import torch
import yaml
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import profiler
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.misc import step_check
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from gseg_ns import compat, gpu, terminal
from gseg_ns.data.said_scene import said_scene
from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path, flush, temporary_beside
from gseg_ns.folders import sole_use
from gseg_ns.lifting.association import NO_GROUPS
from gseg_ns.models.adam import SharedAdam, SharedOptimizers
from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig
from gseg_ns.models.checkpoints import checkpoint_errors, checkpoints, read_newest
from gseg_ns.models.drawing import keep_drawing
from gseg_ns.models.options import check_options, notes
from gseg_ns.models.recipes import settle
from gseg_ns.models.registry import segmentation_methods
from gseg_ns.models.schedule import PAPER_GEOMETRY_STEPS, rate_factors


@dataclass
class SegmentationTrainerConfig(TrainerConfig):
    """As Nerfstudio's, but `max_num_iterations` is the length of the whole run, also of a resumed one."""

    _target: type = field(default_factory=lambda: SegmentationTrainer)
    verbose: bool = False
    """Let everything that Nerfstudio prints through to the terminal, and not to train.log beside config.yml. Also:
    GSEG_VERBOSE=1"""

    def __post_init__(self) -> None:
        """Take `--data` for what it is an alias of, as `ns-train` would, which prints that it does."""
        if self.data is not None:
            self.pipeline.datamanager.data, self.data = self.data, None

    def print_to_terminal(self) -> None:
        """Say what is trained; the configuration itself is in config.yml. From here on prints go to the log."""
        self.data = self.data or self.pipeline.datamanager.data  # the viewer keeps camera paths there
        if not be_quiet(self):
            super().print_to_terminal()
            return
        folder = self.get_base_dir()
        terminal.say(f"{self.method_name} on {said_scene(self)}")
        terminal.say(f"  settings, checkpoints, {LOG}: {folder}")

    def save_config(self) -> None:
        """Write config.yml; the model's config carries the length of the run, which its milestones follow.

        It is the first that is written into the run's folder, so that a second training into it ends here, and so does
        one whose options cannot work.
        """
        self.set_run_length()
        path = self.get_base_dir() / "config.yml"
        with user_errors():
            self.settle_recipe()
            check_options(self)
            _hold(self.get_base_dir())
            CONSOLE.log(f"Saving config to: {path}")
            with atomic_path(path, durable=True) as temporary:
                temporary.write_text(yaml.dump(self._as_trained()), encoding="utf8")

    def _as_trained(self) -> SegmentationTrainerConfig:
        """As commands on the run want it: they load a checkpoint, which holds the geometry."""
        trained = copy.deepcopy(self)
        cast(SegmentationModelConfig, trained.pipeline.model).geometry_in_checkpoint = True
        return trained

    def settle_recipe(self) -> None:
        """Give the options the values of the recipe that was asked for, and tell them."""
        changed = settle(self)
        if changed:
            values = ", ".join(f"{option.removeprefix('pipeline.model.')} {value}" for option, value in changed.items())
            model = cast(SegmentationModelConfig, self.pipeline.model)
            terminal.say(f"Recipe {model.recipe} of {self.method_name}: {values}")

    def set_run_length(self) -> None:
        """Copy `max_num_iterations` to the model's config."""
        model = self.pipeline.model
        assert isinstance(model, SegmentationModelConfig)
        model.num_iterations = self.max_num_iterations


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a `GsegError`, and what the system says of files, into a message and exit status 1."""
    try:
        yield
    except GsegError as error:
        _end(str(error), error)
    except OSError as error:
        _end(f"{error}. Check free space and permissions.", error)


def _end(message: str, error: Exception) -> NoReturn:
    _quiet.close()
    terminal.ERRORS.print(f"[bold red]Error:[/] {escape(message)}")
    raise SystemExit(1) from error


LOG = "train.log"
"""Beside config.yml: what is printed in a training."""

_quiet = ExitStack()


def be_quiet(config: SegmentationTrainerConfig) -> bool:
    """Let prints of this process go to the run's log, unless the user wants to see them. May be called again.

    Returns:
        whether they do.
    """
    if not terminal.is_quiet():
        _quiet.enter_context(terminal.quietly(config.get_base_dir() / LOG, config.verbose, "a"))
        _quiet.callback(_log_timings, config)
        atexit.register(_quiet.close)
    return terminal.is_quiet()


def _log_timings(config: SegmentationTrainerConfig) -> None:
    """Let Nerfstudio print its timings while prints still go to the log: it does when the training has ended."""
    if terminal.is_quiet():
        profiler.flush_profiler(config.logging)
        profiler.PROFILER.clear()


_held: dict[Path, AbstractContextManager[None]] = {}
"""Folders that this process trains into."""


def _hold(folder: Path) -> None:
    """Let no other process train into a folder until this one has finished, or is dead."""
    if folder not in _held:
        holding = sole_use(folder, "trains into")
        holding.__enter__()
        _held[folder] = holding


def _let_go(folder: Path) -> None:
    holding = _held.pop(folder, None)
    if holding is not None:
        holding.__exit__(None, None, None)


def update_in_one_pass(optimizers: Optimizers) -> Optimizers:
    """Let Adam update each parameter in one pass over memory: the same update.

    Otherwise Adam passes over all parameters and their moments once for each of its operations. torch before 2.4 cannot
    do that on the CPU; there nothing changes.
    """
    for optimizer in optimizers.optimizers.values():
        if type(optimizer) in (torch.optim.Adam, SharedAdam):
            try:
                torch.optim.Adam(optimizer.param_groups[0]["params"], fused=True)
            except RuntimeError:
                continue
            for group in optimizer.param_groups:
                group["fused"] = True
    return optimizers


def write_whole(parsed: DataparserOutputs) -> None:
    """Let the frame of a scene be written beside and moved: it is written anew when a run goes on."""

    def save_dataparser_transform(path: Path) -> None:
        with atomic_path(path, durable=True) as temporary:
            DataparserOutputs.save_dataparser_transform(parsed, temporary)

    parsed.save_dataparser_transform = save_dataparser_transform  # type: ignore[method-assign]


@contextmanager
def _telling_of_the_log() -> Iterator[None]:
    """Where something fails that is not the user's fault, say where the prints before it are."""
    try:
        yield
    except (GsegError, OSError, KeyboardInterrupt):
        raise
    except BaseException as error:
        path = terminal.log_path()
        if path is not None and path.is_file() and getattr(error, "code", True):
            terminal.ERRORS.print(f"What was printed before this: {path}", markup=False)
        raise


@contextmanager
def _logged_in_lines(config: SegmentationTrainerConfig) -> Iterator[None]:
    """Within this block, Nerfstudio's table of losses is made for a file, where a cursor does not move up."""
    logging = config.logging
    if terminal.is_quiet():
        config.logging = copy.deepcopy(logging)
        config.logging.local_writer.max_log_size = 0
    try:
        yield
    finally:
        config.logging = logging


def _count_groups(model: SegmentationModel) -> int:
    return int((model.gaussian_groups().unique() > 0).sum())


_INTERRUPTED = 130
"""Exit status after Ctrl+C, as shells have it: 128 and the number of SIGINT."""

_LINES = 10
"""Lines about the progress of a training where there is no terminal."""


@dataclass
class _WithoutMoments:
    """An optimizer as a checkpoint holds it that has not made a step."""

    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """What can be loaded into an optimizer of the same parameters."""
        groups = self.optimizer.state_dict()["param_groups"]
        return {"state": {}, "param_groups": groups}


class SegmentationTrainer(Trainer):
    """Nerfstudio's `Trainer`."""

    config: SegmentationTrainerConfig
    _told_phase: str = ""
    """Of which the time that is left is told."""

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Build everything; the model is told how long the run is."""
        with user_errors(), compat.no_questions():
            self.config.settle_recipe()
            check_options(self.config)
            for note in notes(self.config):
                terminal.warn(note)
            self.config.set_run_length()
            resumed = self.config.load_dir is not None or self.config.load_checkpoint is not None
            cast(SegmentationModelConfig, self.config.pipeline.model).geometry_in_checkpoint = resumed
            if str(self.device).startswith("cuda") and gpu.fault() is not None:
                self.device = self.config.machine.device_type = "cpu"
            if (told := gpu.unused()) is not None:
                terminal.warn(told)
            with _telling_of_the_log(), _logged_in_lines(self.config):
                super().setup(test_mode)
            self._tell_of_the_viewer()
            model = self.pipeline.model
            assert isinstance(model, SegmentationModel)
            if keep_drawing(self.config.pipeline.model, model):
                self.config.save_config()
            model.go_on()

    def setup_optimizers(self) -> Optimizers:
        """Build the optimizers; learning-rate decay is stretched over the geometry phase of this run, and the rates of
        the geometry rise where it is short (`rate_factors`), but for those that were given.

        The schedulers' `max_steps` are meant for the paper's 30 000 steps.
        """
        model = self.pipeline.model
        assert isinstance(model, SegmentationModel)
        configs = copy.deepcopy(self.config.optimizers)
        usual = segmentation_methods().get(self.config.method_name or "")
        factors = rate_factors(model.config, model.geometry_steps)
        for name, group in configs.items():
            optimizer, scheduler = group["optimizer"], group.get("scheduler")
            asked = {} if usual is None else usual.optimizers.get(name, {})
            # A rate that was given stays: one is chosen for a length of training.
            given = any(
                getattr(group.get(part), rate, None) != getattr(asked.get(part), rate, None)
                for part, rate in (("optimizer", "lr"), ("scheduler", "lr_final"))
                if asked
            )
            factor = 1.0 if given else factors.get(name, 1.0)
            optimizer.lr *= factor
            if optimizer._target is torch.optim.Adam:
                optimizer._target = SharedAdam
            if getattr(scheduler, "lr_final", None) is not None:
                scheduler.lr_final *= factor
            if scheduler is not None and hasattr(scheduler, "max_steps"):
                steps = scheduler.max_steps * model.geometry_steps / PAPER_GEOMETRY_STEPS
                scheduler.max_steps = max(round(steps), 1)
        return update_in_one_pass(SharedOptimizers(configs, self.pipeline.get_param_groups()))

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """As upstream, but written beside and moved: a kill or a full disk leaves no half checkpoint as the newest."""
        path = self.checkpoint_dir / f"step-{step:09d}.ckpt"
        # Not in the folder of checkpoints: Nerfstudio takes the name of every file there for a step.
        with checkpoint_errors(path), temporary_beside(self.base_dir / "checkpoint") as staging:
            other = copy.copy(self)
            other.checkpoint_dir = staging
            other.optimizers = self._optimizers_to_save(step)
            Trainer.save_checkpoint(other, step)
            flush(staging / path.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            (staging / path.name).replace(path)
            flush(path.parent)
        if self.config.save_only_latest_checkpoint:
            for former in checkpoints(self.checkpoint_dir):
                if former != path:
                    former.unlink(missing_ok=True)

    def _optimizers_to_save(self, step: int) -> Optimizers:
        """The optimizers, without the moments that no later step needs: two thirds of a checkpoint."""
        model = self.pipeline.model
        assert isinstance(model, SegmentationModel)
        saved = copy.copy(self.optimizers)
        done = model.without_moments(step)
        saved.optimizers = {
            name: cast(torch.optim.Optimizer, _WithoutMoments(optimizer)) if name in done else optimizer
            for name, optimizer in self.optimizers.optimizers.items()
        }
        return saved

    def _load_checkpoint(self) -> None:
        """As upstream; a damaged newest checkpoint of `load_dir` is told, and the one before is taken."""
        config = self.config
        if config.load_dir is None and config.load_checkpoint is None:
            super()._load_checkpoint()
            return
        if config.load_dir is None:
            found = [cast(Path, config.load_checkpoint)]
        elif config.load_step is not None:
            found = [config.load_dir / f"step-{config.load_step:09d}.ckpt"]
        else:
            found = checkpoints(config.load_dir)
            if not found:
                raise GsegError(f"{config.load_dir} holds no step-*.ckpt: give the nerfstudio_models folder of a run")
        path, _ = read_newest(found)
        self.config = dataclasses.replace(config, load_dir=None, load_checkpoint=path)
        try:
            super()._load_checkpoint()
        except (RuntimeError, KeyError, ValueError, AssertionError) as error:
            raise GsegError(
                f"The checkpoint {path} cannot be loaded ({error}): it is of another method, or of other options."
            ) from error
        finally:
            self.config = config

    def train_iteration(self, step: int) -> Any:
        """As upstream, and tell how far the training is. Metrics are only taken in steps whose metrics are logged."""
        done, model = step + 1, cast(SegmentationModel, self.pipeline.model)
        model.metrics_are_read = step_check(step, self.config.logging.steps_per_log, run_at_zero=True)
        try:
            found = super().train_iteration(step)
        finally:
            model.metrics_are_read = True
        if terminal.is_quiet():
            self._tell(done, found[0])
        return found

    def _tell(self, done: int, loss: torch.Tensor) -> None:
        model = cast(SegmentationModel, self.pipeline.model)
        phase = "features" if model.in_feature_phase else "geometry" if model.two_phases else "training"
        if phase != self._told_phase:
            self._told_phase = phase
            self._told.time_from(done)
        if self._told.is_due(done):  # to know the loss is to wait for a GPU
            self._told.update(f"{phase}: step", done, f"loss {float(loss):.4f}")

    def _after_train(self) -> None:
        """As upstream, and say what came of it and what to do next, before a viewer stays open."""
        model = cast(SegmentationModel, self.pipeline.model)
        config = self.base_dir / "config.yml"
        terminal.LINE.clear()
        if terminal.is_quiet():
            steps = self.step + 1 - self._start_step
            took = terminal.duration(time.monotonic() - self._started_at)
            found = "" if model.prompts_by_feature else f", {_count_groups(model)} groups"
            terminal.say(f"Trained {steps} steps in {took}: {model.num_points} Gaussians{found}")
        # Said when it was found, and again where it is seen: hours of training may lie between.
        if model.found_nothing:
            terminal.warn(NO_GROUPS)
        if terminal.is_quiet():
            terminal.say(f"  look and click:    gseg view {quote(str(config))}")
            terminal.say(f"  objects as files:  gseg export --load-config {quote(str(config))} --output-dir objects")
            if self.viewer_state is not None and not self.config.viewer.quit_on_train_completion:
                terminal.say("The viewer stays open; Ctrl+C ends it.")
        super()._after_train()

    def _tell_of_the_viewer(self) -> None:
        """Say where the viewer is."""
        if terminal.is_quiet() and self.viewer_state is not None:
            for line in getattr(self.viewer_state, "viewer_info", []):
                terminal.say(line)

    def train(self) -> None:
        """Train until step `max_num_iterations`. Upstream trains that many steps more after a resume."""
        total = self.config.max_num_iterations
        try:
            with user_errors():
                if self._start_step >= total:
                    raise GsegError(f"The run already has its {total} steps: give more with --max-num-iterations")
                self.config.max_num_iterations = total - self._start_step
                write_whole(cast(Any, self.pipeline.datamanager).train_dataparser_outputs)
                self._told = terminal.Progress(total, lines=_LINES)
                self._told.start_at(self._start_step)
                self._started_at = time.monotonic()
                with _telling_of_the_log():
                    super().train()
        except KeyboardInterrupt:
            saved = checkpoints(self.checkpoint_dir)
            terminal.say(
                f"Stopped in step {self.step} of {total}."
                + (f" To go on from {saved[0].name}, add --load-dir {self.checkpoint_dir}" if saved else "")
            )
            if terminal.is_quiet():
                raise SystemExit(_INTERRUPTED) from None  # Nerfstudio prints the stack of a KeyboardInterrupt
            raise
        finally:
            self.config.max_num_iterations = total
            _let_go(self.base_dir)
            _quiet.close()  # a process may have other things to do
