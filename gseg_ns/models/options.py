"""Options that cannot work are refused before anything is read or trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from gseg_ns.errors import GsegError
from gseg_ns.models.schedule import AUTO

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

_BOUNDS: dict[str, tuple[float, float, str]] = {
    "sh_degree": (0, 3, "a degree from 0 to 3, which is what splat files hold"),
    "num_random": (4, math.inf, "at least 4"),
    "random_scale": (1e-6, math.inf, "a positive length"),
    "num_downscales": (0, 10, "a number of halvings, 0 to 10"),
    "ssim_lambda": (0, 1, "a share from 0 to 1"),
    "cull_alpha_thresh": (0, 0.999, "an opacity from 0 to below 1"),
    "identity_pixels": (0, math.inf, "at least 1, or 0 for all"),
    "num_pixels": (2, math.inf, "at least 2"),
    "num_codes": (1, 100_000, "at least 1, and no more than 100000"),
    "min_pixels": (0, math.inf, "at least 0"),
    "identity_weight": (0, math.inf, "at least 0"),
    "neighbour_weight": (0, math.inf, "at least 0"),
    "neighbour_every": (1, math.inf, "at least 1"),
    "neighbour_samples": (1, math.inf, "at least 1"),
    "neighbour_count": (1, 1000, "at least 1, and no more than 1000"),
    "la_knn_candidates": (1, 1000, "at least 1, and no more than 1000"),
    "hdbscan_min_size": (2, math.inf, "at least 2"),
    "default_scale": (0, 1, "a scale from 0 to 1"),
    "cache_gib": (0, math.inf, "at least 0"),
    "reset_alpha_every": (1, math.inf, "at least 1; a large number for never"),
    "n_split_samples": (1, 100, "at least 1"),
    "clutter_share": (0, 1, "a share from 0 to 1"),
    "igd_start": (0, 1, "a part of the run, 0 to 1"),
    "igd_stop": (0, 1, "a part of the run, 0 to 1"),
    "igd_shrink": (1e-3, math.inf, "more than 0"),
    "igd_growth": (0, math.inf, "at least 0"),
    "densify_stop": (0, 1, "a part of the run, 0 to 1"),
    "la_knn_start": (0, 1, "a part of the run, 0 to 1"),
    "position_decay": (0, 1, "a weight from 0 to 1"),
    "feature_start": (0, 1, "a part of the run, 0 to 1"),
    "codebook_start": (0, 1, "a part of the run, 0 to 1"),
    "least_won": (0, 1, "a part from 0 to 1"),
    "join_codes": (0, 1, "a part from 0 to 1, or None"),
}
"""Fields of a model's config -> least and most that can work, and what to give."""

_OR_AUTO: dict[str, float] = {
    "max_gaussians": 0,
    "warmup_length": 0,
    "refine_every": 1,
    "resolution_schedule": 1,
    "sh_degree_interval": 1,
    "stop_screen_size_at": 0,
    "stop_split_at": 0,
}
"""Counts that are chosen for the run when they are -1 -> the least that can work."""

_DATA_BOUNDS: dict[str, tuple[float, float, str]] = {
    "camera_res_scale_factor": (1e-3, 16, "a positive factor"),
    "mask_min_score": (-math.inf, math.inf, "a number"),
    "mask_min_visible": (0, 1, "a share from 0 to 1"),
    "fps_reset_every": (1, math.inf, "at least 1"),
}
"""The same of the datamanager's."""


def check_options(config: TrainerConfig) -> None:
    """Refuse options of a run that cannot work.

    Raises:
        GsegError: the option, what it is, and what it can be.
    """
    if config.max_num_iterations < 1:
        raise GsegError(f"--max-num-iterations is {config.max_num_iterations}: give at least 1")
    if config.machine.num_devices * config.machine.num_machines > 1:
        raise GsegError("A run trains on one device: leave out --machine.num-devices and --machine.num-machines")
    if config.machine.device_type == "cuda" and not torch.cuda.is_available():
        raise GsegError("There is no CUDA device that torch can use: give --machine.device-type cpu")
    model, data = config.pipeline.model, getattr(config.pipeline, "datamanager", None)
    for part, prefix, bounds in ((model, "model", _BOUNDS), (data, "datamanager", _DATA_BOUNDS)):
        for name, (least, most, wanted) in bounds.items():
            value = getattr(part, name, None)
            if isinstance(value, (int, float)) and not least <= value <= most:
                raise GsegError(f"--pipeline.{prefix}.{name.replace('_', '-')} is {value}: give {wanted}")
    if getattr(data, "cache_images", None) == "disk":
        raise GsegError(
            "--pipeline.datamanager.cache-images is disk, which full images have no reader for: give gpu or cpu"
        )
    cells = getattr(model, "grid_shape", (2,))
    if getattr(model, "use_bilateral_grid", False) and min(cells) < 2:
        raise GsegError(f"--pipeline.model.grid-shape is {cells}: give at least 2 cells in each direction")
    start, stop = getattr(model, "igd_start", 0), getattr(model, "igd_stop", 1)
    if getattr(model, "igd", False) and start > stop:
        raise GsegError(
            f"--pipeline.model.igd-start is {start}, after --pipeline.model.igd-stop {stop}: splitting would never "
            "begin. Swap them, or leave it out with --pipeline.model.igd False"
        )
    for name, least in _OR_AUTO.items():
        value = getattr(model, name, None)
        if isinstance(value, int) and value != AUTO and value < least:
            raise GsegError(
                f"--pipeline.model.{name.replace('_', '-')} is {value}: give at least {least:g}, or -1 for what fits "
                "the run"
            )


def notes(config: TrainerConfig) -> list[str]:
    """Options that are given and change nothing in this run, and why."""
    model = config.pipeline.model
    said = []
    mode = getattr(getattr(model, "camera_optimizer", None), "mode", "off")
    frozen = getattr(model, "geometry", None) is not None and getattr(model._target, "two_phases", False)
    if mode != "off" and frozen:
        said.append("--pipeline.model.camera-optimizer has nothing to train on: the geometry is given, and frozen.")
    return said
