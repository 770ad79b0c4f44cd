"""Nerfstudio's trainer with what a two-phase method needs: one length for all milestones, and a resume that resumes."""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from gseg_ns.errors import GsegError
from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig
from gseg_ns.models.schedule import PAPER_GEOMETRY_STEPS


@dataclass
class SegmentationTrainerConfig(TrainerConfig):
    """As Nerfstudio's, but `max_num_iterations` is the length of the whole run, also of a resumed one."""

    _target: type = field(default_factory=lambda: SegmentationTrainer)

    def save_config(self) -> None:
        """Write config.yml; the model's config carries the length of the run, which its milestones follow."""
        self.set_run_length()
        super().save_config()

    def set_run_length(self) -> None:
        """Copy `max_num_iterations` to the model's config."""
        model = self.pipeline.model
        assert isinstance(model, SegmentationModelConfig)
        model.num_iterations = self.max_num_iterations


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a `GsegError` into its message and exit status 1."""
    try:
        yield
    except GsegError as error:
        CONSOLE.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False)
        raise SystemExit(1) from error


def update_in_one_pass(optimizers: Optimizers) -> Optimizers:
    """Let Adam update each parameter in one pass over memory: the same update.

    Otherwise Adam passes over all parameters and their moments once for each of its operations. torch before 2.4 cannot
    do that on the CPU; there nothing changes.
    """
    for optimizer in optimizers.optimizers.values():
        if type(optimizer) is torch.optim.Adam:
            try:
                torch.optim.Adam(optimizer.param_groups[0]["params"], fused=True)
            except RuntimeError:
                continue
            for group in optimizer.param_groups:
                group["fused"] = True
    return optimizers


class SegmentationTrainer(Trainer):
    """Nerfstudio's `Trainer`."""

    config: SegmentationTrainerConfig

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Build everything; the model is told how long the run is."""
        with user_errors():
            self.config.set_run_length()
            super().setup(test_mode)

    def setup_optimizers(self) -> Optimizers:
        """Build the optimizers; learning-rate decay is stretched over the geometry phase of this run.

        The schedulers' `max_steps` are meant for the paper's 30 000 steps.
        """
        model = self.pipeline.model
        assert isinstance(model, SegmentationModel)
        configs = copy.deepcopy(self.config.optimizers)
        for group in configs.values():
            scheduler = group.get("scheduler")
            if scheduler is not None and hasattr(scheduler, "max_steps"):
                steps = scheduler.max_steps * model.geometry_steps / PAPER_GEOMETRY_STEPS
                scheduler.max_steps = max(round(steps), 1)
        return update_in_one_pass(Optimizers(configs, self.pipeline.get_param_groups()))

    def _load_checkpoint(self) -> None:
        source = self.config.load_dir or self.config.load_checkpoint
        try:
            if self.config.load_dir is not None and not any(self.config.load_dir.glob("step-*.ckpt")):
                raise GsegError(
                    f"{self.config.load_dir} holds no step-*.ckpt: give the nerfstudio_models folder of a run"
                )
            super()._load_checkpoint()
        except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile, AssertionError) as error:
            raise GsegError(
                f"The checkpoint in {source} cannot be loaded ({error}). "
                "If it was cut short, remove it and resume from an earlier one with --load-step."
            ) from error

    def train(self) -> None:
        """Train until step `max_num_iterations`. Upstream trains that many steps more after a resume."""
        total = self.config.max_num_iterations
        try:
            with user_errors():
                if self._start_step >= total:
                    raise GsegError(f"The run already has its {total} steps: give more with --max-num-iterations")
                self.config.max_num_iterations = total - self._start_step
                super().train()
        finally:
            self.config.max_num_iterations = total
