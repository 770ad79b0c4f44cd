"""Checkpoints: which one is read, how, and what a model keeps in it beside parameters and buffers."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.compat import allow_checkpoint_scalars
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.models.chance import chance_state, restore_chance
from gseg_ns.models.splatfacto import SplatfactoModel
from gseg_ns.reading import check_stored, check_tensors, reading

_STEP = re.compile(r"step-\d+\.ckpt")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a `nerfstudio_models` folder, newest first."""
    numbers = {path: _STEP.fullmatch(path.name) for path in folder.glob("step-*.ckpt")}
    return sorted((path for path, match in numbers.items() if match), key=lambda path: int(path.stem[5:]), reverse=True)


def latest_checkpoint(run: Path) -> Path:
    """Find the newest checkpoint of a run that is whole.

    Raises:
        GsegError: there is none.
    """
    return read_latest(run)[0]


def read_latest(run: Path, folder: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Read the newest checkpoint of a run; a damaged one is told, and the one before is taken.

    Args:
        run: its folder.
        folder: of its checkpoints; `nerfstudio_models` in it unless given.

    Returns:
        Its path and what `read_checkpoint` says.

    Raises:
        GsegError: there is none, or all are damaged.
    """
    folder = run / "nerfstudio_models" if folder is None else folder
    found = checkpoints(folder)
    if not found:
        raise GsegError(f"{run} is not a Nerfstudio run: it has no {folder.name}/step-*.ckpt")
    return read_newest(found)


def read_newest(found: Sequence[Path]) -> tuple[Path, dict[str, Any]]:
    """As `read_latest`, of checkpoints that are listed newest first.

    Raises:
        GsegError: all are damaged.
    """
    *others, oldest = found
    for path in others:
        try:
            return path, read_checkpoint(path)
        except GsegError as error:
            terminal.warn(f"{error} The one before is taken.")
    return oldest, read_checkpoint(oldest)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code.

    Raises:
        GsegError: the file is damaged or holds more than tensors and plain values.
    """
    allow_checkpoint_scalars()
    with reading(path, "a checkpoint"):
        # torch does not compare checksums, and would take a flipped bit for a weight.
        with zipfile.ZipFile(path) as archive:
            check_stored(archive)
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError("its checksums differ")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("it says no step")
        check_tensors(state)
        return state


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: whole, or not at all.

    Raises:
        GsegError: it cannot be written, e.g. because the disk is full.
    """
    # Given a file's name, torch writes that into it, and the temporary one is of no interest.
    with checkpoint_errors(path), atomic_path(path, durable=True) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


@contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Where torch writes a checkpoint: it says RuntimeError of a full disk.

    Raises:
        GsegError: instead of it.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise GsegError(f"Cannot write {path}. Check free space and permissions ({reason}).") from error


class ResumableModel(SplatfactoModel):
    """Splatfacto whose checkpoints hold all that a resumed run needs, and load whatever their number of Gaussians."""

    feature_dims: dict[str, int] = {}  # noqa: RUF012  overridden, never mutated
    """Name -> number of channels of the extra per-Gaussian parameters; each needs an optimizer of that name."""
    gaussian_buffers: tuple[str, ...] = ()
    """Names of buffers with a row a Gaussian: what was found in the Gaussians as they are."""
    _datamanager: MaskDatamanager | None = None
    _saved_chance: dict[str, Any] | None = None

    def get_extra_state(self) -> dict[str, Any]:
        """What a resumed run needs beyond parameters and buffers, as tensors and plain values: nothing to unpickle."""
        # What densification counts, for each Gaussian, it counts no more once the geometry is frozen.
        final = self.geometry_is_final(self.step)
        strategy = {k: None if final and isinstance(v, Tensor) else v for k, v in self.strategy_state.items()}
        return {
            "step": self.step,
            "strategy": strategy,
            "chance": chance_state(self._datamanager),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` saved."""
        self.step = int(state["step"])
        self.strategy_state = {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in state["strategy"].items()
        }
        # Older checkpoints have the numbers of torch alone.
        self._saved_chance = state["chance"] if "chance" in state else {"torch": state["rng"]}

    def geometry_is_final(self, step: int) -> bool:
        """Whether no step after this one changes the geometry."""
        return False

    @property
    def has_findings(self) -> bool:
        """Whether anything was found in the Gaussians, see `gaussian_buffers`."""
        return any(len(getattr(self, name)) for name in self.gaussian_buffers)

    def forget_findings(self) -> None:
        """Forget what was found in the Gaussians, and what follows from it: they are to change."""
        for name in self.gaussian_buffers:
            setattr(self, name, getattr(self, name)[:0])

    def go_on(self) -> None:
        """Let chance go on where the checkpoint that was loaded, if one was, left it: the last thing before training.

        Loading alone does not do it, since others load models in the middle of their own work.
        """
        if self._saved_chance is not None:
            restore_chance(self._saved_chance, self._datamanager)
        self._saved_chance = None

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """Give parameters and buffers of variable size the shapes that they have in `state`.

        Corrections of cameras are as many as there were photographs in training; since then some may have gone.
        """
        name = "camera_optimizer.pose_adjustment"
        if name in state and hasattr(self.camera_optimizer, "pose_adjustment"):
            adjustment = self.camera_optimizer.pose_adjustment
            if adjustment.shape != state[name].shape:
                adjustment.data = adjustment.new_zeros(state[name].shape)
                self.camera_optimizer.num_cameras = len(adjustment)

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint of this method, whatever its number of Gaussians.

        Upstream replaces the parameters, so that optimizers built before keep training the old ones
        (https://github.com/nerfstudio-project/nerfstudio/issues/3554). Here the parameters keep their identity.

        Raises:
            GsegError: the checkpoint is of another method.
        """
        missing = [name for name in self.feature_dims if f"gauss_params.{name}" not in dict]
        if missing:
            raise GsegError(
                f"The checkpoint has no {', '.join(missing)}: it is of another method. "
                "To start from its geometry, give --pipeline.model.geometry instead of --load-dir."
            )
        before = {name: parameter for name, parameter in self.gauss_params.items()}
        self.resize_for(dict)
        try:
            super().load_state_dict(dict, **kwargs)
        finally:  # Nerfstudio tries again, less strictly, where something is missing
            for name, parameter in before.items():
                parameter.data = self.gauss_params[name].data
                self.gauss_params[name] = parameter
