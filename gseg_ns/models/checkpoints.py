"""Checkpoints: which one is read, how, and what a model keeps in it beside parameters and buffers."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from nerfstudio.models.splatfacto import SplatfactoModel
from torch import Tensor

from gseg_ns.compat import allow_checkpoint_scalars
from gseg_ns.errors import GsegError


def latest_checkpoint(run: Path) -> Path:
    """Find the newest checkpoint of a run.

    Raises:
        GsegError: there is none.
    """
    checkpoints = sorted((run / "nerfstudio_models").glob("step-*.ckpt"))
    if not checkpoints:
        raise GsegError(f"{run} is not a Nerfstudio run: it has no nerfstudio_models/step-*.ckpt")
    return checkpoints[-1]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code.

    Raises:
        GsegError: the file is damaged or holds more than tensors and plain values.
    """
    allow_checkpoint_scalars()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise GsegError(
            f"{path} cannot be read ({str(error).splitlines()[0]}). If the run was stopped while writing it, remove "
            "it: an earlier checkpoint is used then."
        ) from error


class ResumableModel(SplatfactoModel):
    """Splatfacto whose checkpoints hold all that a resumed run needs, and load whatever their number of Gaussians."""

    feature_dims: dict[str, int] = {}  # noqa: RUF012  overridden, never mutated
    """Name -> number of channels of the extra per-Gaussian parameters; each needs an optimizer of that name."""

    def get_extra_state(self) -> dict[str, Any]:
        """What a resumed run needs beyond parameters and buffers, as tensors and plain values: nothing to unpickle."""
        return {"step": self.step, "strategy": dict(self.strategy_state), "rng": torch.get_rng_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` saved."""
        self.step = int(state["step"])
        self.strategy_state = {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in state["strategy"].items()
        }
        torch.set_rng_state(state["rng"].cpu())

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """Give parameters and buffers of variable size the shapes that they have in `state`."""

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
