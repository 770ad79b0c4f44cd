"""Options that cannot work are refused before anything is read or trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch

from gseg_ns.errors import GsegError
from gseg_ns.models.schedule import AUTO

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

_ANY = -math.inf, math.inf, "a number"
_SHARE = 0, 1, "a share from 0 to 1"
_PART = 0, 1, "a part of the run, 0 to 1"
_COUNT = 1, math.inf, "at least 1"
_POSITIVE = 1e-12, math.inf, "more than 0"
_COSINE = -1, 1, "a cosine, -1 to 1"
_SEED = 0, 2**32 - 1, "a number from 0 to 4294967295"
_PORT = 1, 65535, "a port, 1 to 65535"

Bounds = tuple[float, float, str]

_BOUNDS: dict[str, Bounds] = {
    "max_num_iterations": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "logging.steps_per_log": _COUNT,
    "logging.max_buffer_size": _COUNT,
    "machine.seed": _SEED,
    "machine.num_devices": _COUNT,
    "machine.num_machines": _COUNT,
    "viewer.websocket_port": _PORT,
    "viewer.websocket_port_default": _PORT,
    "viewer.num_rays_per_chunk": _COUNT,
    "viewer.max_num_display_images": (-1, math.inf, "a number, or -1 for all"),
    "viewer.jpeg_quality": (0, 100, "a quality from 0 to 100"),
    "viewer.camera_frustum_scale": _POSITIVE,
    "optimizer.eps": (1e-30, 1, "more than 0"),
    "optimizer.max_norm": _POSITIVE,
    "scheduler.max_steps": _COUNT,
    # Data.
    "dataparser.scale_factor": _POSITIVE,
    "dataparser.scene_scale": _POSITIVE,
    "dataparser.downscale_factor": _COUNT,
    "dataparser.train_split_fraction": (1e-6, 1, "a part, up to 1"),
    "dataparser.eval_interval": (2, math.inf, "at least 2"),
    "dataparser.max_2D_matches_per_3D_point": _ANY,
    "camera_res_scale_factor": (1e-3, 16, "a positive factor"),
    "eval_num_images_to_sample_from": _ANY,
    "eval_num_times_to_repeat_images": _ANY,
    "max_thread_workers": _COUNT,
    "train_cameras_sampling_seed": _SEED,
    "mask_min_score": _ANY,
    "mask_min_visible": _SHARE,
    "fps_reset_every": _COUNT,
    # Splatfacto.
    "sh_degree": (0, 3, "a degree from 0 to 3, which is what splat files hold"),
    "num_random": (4, math.inf, "at least 4"),
    "random_scale": (1e-6, math.inf, "a positive length"),
    "num_downscales": (0, 10, "a number of halvings, 0 to 10"),
    "ssim_lambda": _SHARE,
    "cull_alpha_thresh": (0, 0.999, "an opacity from 0 to below 1"),
    "reset_alpha_every": (1, math.inf, "at least 1; a large number for never"),
    "n_split_samples": (1, 100, "at least 1"),
    "max_gauss_ratio": (1, math.inf, "at least 1"),
    "geometry_fraction": (1e-6, 1 - 1e-6, "a part of the run, between 0 and 1"),
    # Association.
    "consensus.regions": _COUNT,
    "memory_bank.grid": _COUNT,
    "memory_bank.front": (1e-6, 1, "a share above 0, at most 1"),
    "memory_bank.overlap": _SHARE,
    # Encodings.
    "identity_pixels": (0, math.inf, "at least 1, or 0 for all"),
    "neighbour_every": _COUNT,
    "neighbour_samples": _COUNT,
    "neighbour_count": (1, 1000, "at least 1, and no more than 1000"),
    "la_knn_candidates": (1, 1000, "at least 1, and no more than 1000"),
    "igd_start": _PART,
    "igd_stop": _PART,
    "igd_shrink": (1e-3, math.inf, "more than 0"),
    "identity_on_geometry": (0, 1, "a share from 0 (none) to 1 (all)"),
    "densify_stop": _PART,
    "la_knn_start": _PART,
    "position_decay": (0, 1, "a weight from 0 to 1"),
    # Affinities.
    "default_scale": (0, 1, "a scale from 0 to 1"),
    "clutter_share": _SHARE,
    "num_pixels": (2, math.inf, "at least 2"),
    "affinity.num_scales": (1, 31, "1 to 31"),
    "pairs.hard_negative": _COSINE,
    "pairs.hard_positive": _COSINE,
    "pairs.least_drawn": _SHARE,
    "clusters.share": (1e-6, 1, "a share above 0, at most 1"),
    "clusters.at_least": (0, math.inf, "at least 0"),
    "clusters.at_most": (2, math.inf, "at least 2"),
    "clusters.min_cluster_size": (2, math.inf, "at least 2"),
    "clusters.min_similarity": _COSINE,
    # Codes.
    "num_codes": (1, 100_000, "at least 1, and no more than 100000"),
    "hdbscan_min_size": (2, math.inf, "at least 2"),
    "feature_init": _POSITIVE,
    "feature_start": _PART,
    "codebook_start": _PART,
    "uncertainty_threshold": _SHARE,
    "least_won": (0, 1, "a part from 0 to 1"),
    "join_codes": (0, 1, "a part from 0 to 1, or None"),
}
"""Ends of the names of options -> least and most that can work, and what to give. Others are at least 0."""

_OR_AUTO: dict[str, float] = {
    "max_gaussians": 0,
    "warmup_length": 0,
    "refine_every": 1,
    "resolution_schedule": 1,
    "sh_degree_interval": 1,
    "stop_screen_size_at": 0,
    "stop_split_at": 0,
    "identity_start": 0,
}
"""Those that are chosen for the run when they are -1 -> the least that can work."""

_WITHOUT_EFFECT = {
    "pipeline.model.prompt": "a prompt makes no scene here: prompts are given to what is trained (gseg select)",
    "pipeline.model.enable_collider": "splats have no rays",
    "pipeline.model.collider_params": "splats have no rays",
    "pipeline.model.loss_coefficients": "splats have no coarse and fine losses",
    "pipeline.model.eval_num_rays_per_chunk": "splats have no rays",
    "pipeline.datamanager.eval_num_images_to_sample_from": "held-out views are taken in turn",
    "pipeline.datamanager.eval_num_times_to_repeat_images": "held-out views are taken in turn",
    "pipeline.datamanager.eval_image_indices": "held-out views are taken in turn",
}
"""Options of Nerfstudio that no splat reads -> why."""


def _numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int | float]]:
    """All numbers of a config with where they are; truth values are none."""
    if is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from _numbers(getattr(value, entry.name), (*path, entry.name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, (*path, str(name)))
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _numbers(inner, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _option(path: tuple[str, ...]) -> str:
    """What an option is called on the command line."""
    if "dataparser" in path:  # of a subcommand, whose options have no prefix
        path = path[path.index("dataparser") + 1 :]
    return "--" + ".".join(path).replace("_", "-")


def _bounds(path: tuple[str, ...]) -> Bounds:
    for first in range(len(path)):
        found = _BOUNDS.get(".".join(path[first:]))
        if found is not None:
            return found
    if path[0] == "gradient_accumulation_steps":
        return _BOUNDS[path[0]]
    return 0, math.inf, "at least 0"


def _check_numbers(config: TrainerConfig) -> None:
    """Refuse numbers that mean nothing: NaN and infinities anywhere, negative rates, sizes of 0, ..."""
    for path, value in _numbers(config):
        if path[-1] == "num_iterations":  # follows max_num_iterations
            continue
        option = _option(path)
        if not math.isfinite(value):
            raise GsegError(f"{option} is {value}: give a finite number")
        if path[-1] in _OR_AUTO:
            if value != AUTO and value < _OR_AUTO[path[-1]]:
                raise GsegError(f"{option} is {value}: give at least {_OR_AUTO[path[-1]]}, or -1 for what fits the run")
            continue
        least, most, wanted = _bounds(path)
        if not least <= value <= most:
            raise GsegError(f"{option} is {value:g}: give {wanted}")


def check_options(config: TrainerConfig) -> None:
    """Refuse options of a run that cannot work.

    Raises:
        GsegError: the option, what it is, and what it can be.
    """
    _check_numbers(config)
    if config.machine.num_devices * config.machine.num_machines > 1:
        raise GsegError("A run trains on one device: leave out --machine.num-devices and --machine.num-machines")
    if config.machine.device_type == "cuda" and not torch.cuda.is_available():
        raise GsegError("There is no CUDA device that torch can use: give --machine.device-type cpu")
    data = getattr(config.pipeline, "datamanager", None)
    if getattr(data, "cache_images", None) == "disk":
        raise GsegError(
            "--pipeline.datamanager.cache-images is disk, which full images have no reader for: give gpu or cpu"
        )
    model = config.pipeline.model
    cells = getattr(model, "grid_shape", (2,))
    if getattr(model, "use_bilateral_grid", False) and min(cells) < 2:
        raise GsegError(f"--pipeline.model.grid-shape is {cells}: give at least 2 cells in each direction")
    _check_phases(model, config.max_num_iterations)
    _check_method(model)


def _check_phases(model: Any, steps: int) -> None:
    """Refuse phases that would have no step, or that the run is too short for."""
    geometry = steps
    if getattr(model._target, "two_phases", False):
        geometry = 0 if model.geometry is not None else round(model.geometry_fraction * steps)
        if model.geometry is None and not 0 < geometry < steps:
            raise GsegError(
                f"--max-num-iterations is {steps} and --pipeline.model.geometry-fraction {model.geometry_fraction:g}: "
                f"that leaves {'no step for the features' if geometry else 'no step for the geometry'}. Give more "
                "steps, or another fraction"
            )
    halvings, every = model.num_downscales, model.resolution_schedule
    if every != AUTO and halvings * every >= geometry > 0:
        raise GsegError(
            f"--pipeline.model.resolution-schedule is {every}: with {halvings} halvings, photographs would not be "
            f"seen at their full resolution in {geometry} steps of geometry. Give less than {geometry / halvings:g}, "
            "or --pipeline.model.num-downscales 0"
        )


def _check_method(model: Any) -> None:
    """Refuse settings of a method that leave one of its parts nothing to do, or contradict each other."""

    def has(*names: str) -> bool:
        return all(hasattr(model, name) for name in names)

    if has("igd", "igd_start", "igd_stop") and model.igd:
        if model.igd_start >= model.igd_stop:
            raise GsegError(
                f"--pipeline.model.igd-start is {model.igd_start}, not before --pipeline.model.igd-stop "
                f"{model.igd_stop}: splitting would never begin. Swap them, or leave it out with --pipeline.model.igd "
                "False"
            )
        if model.identity_start >= model.igd_stop:
            raise GsegError(
                f"--pipeline.model.identity-start is {model.identity_start}, not before --pipeline.model.igd-stop "
                f"{model.igd_stop}: there would be no gradient of identities to split by. Begin earlier, or leave it "
                "out with --pipeline.model.igd False"
            )
    if has("identity_start") and model.identity_start >= 1:
        raise GsegError(
            f"--pipeline.model.identity-start is {model.identity_start}: give a part of the run before its end, 0 to "
            "below 1, or -1 for what fits the masks"
        )
    if has("la_knn", "la_knn_candidates") and model.la_knn and model.la_knn_candidates < model.neighbour_count:
        raise GsegError(
            f"--pipeline.model.la-knn-candidates is {model.la_knn_candidates}, fewer than the "
            f"--pipeline.model.neighbour-count of {model.neighbour_count} that are picked among them: give more"
        )
    if has("feature_start", "codebook_start"):
        for name in ("feature_start", "codebook_start"):
            if getattr(model, name) >= 1 and (name == "feature_start" or model.grouping == "codebook"):
                raise GsegError(
                    f"--pipeline.model.{name.replace('_', '-')} is {getattr(model, name)}, the end of the run: what "
                    "names the objects would never train. Give a part below 1"
                )
        if model.min_pixels >= model.num_pixels and not model.pixels_per_mask:
            raise GsegError(
                f"--pipeline.model.min-pixels is {model.min_pixels}, and --pipeline.model.num-pixels draws "
                f"{model.num_pixels}: no mask would be large enough for the contrast. Draw more, or ask for fewer"
            )
    if has("guidance_weight", "correspondence_weight") and model.guidance_weight == model.correspondence_weight == 0:
        raise GsegError(
            "--pipeline.model.guidance-weight and --pipeline.model.correspondence-weight are both 0: nothing would "
            "train the features. Give one of them"
        )
    if has("clusters") and model.clusters.at_most < model.clusters.at_least:
        raise GsegError(
            f"--pipeline.model.clusters.at-most is {model.clusters.at_most}, less than "
            f"--pipeline.model.clusters.at-least {model.clusters.at_least}: swap them"
        )
    if has("identity_weight") and model.identity_weight == 0 and getattr(model, "labels", "encodings") == "encodings":
        raise GsegError(
            "--pipeline.model.identity-weight is 0: no mask would train the encodings, which say what is in which "
            "group. Give more than 0"
        )


_ASKED_TOO = {("consensus", "tracks"), ("consensus", "auto")}
"""Settings that also count under another association."""


def notes(config: TrainerConfig) -> list[str]:
    """Options that are given and change nothing in this run, and why."""
    model: Any = config.pipeline.model
    data = getattr(config.pipeline, "datamanager", None)
    model_default, data_default = type(model)(), None if data is None else type(data)()
    said = []

    def given(name: str) -> bool:
        """Whether an option of the model differs from what it is by itself."""
        return hasattr(model, name) and getattr(model, name) != getattr(model_default, name)

    def nothing(name: str, why: str) -> None:
        said.append(f"--pipeline.model.{name.replace('_', '-')} changes nothing: {why}.")

    for option, why in _WITHOUT_EFFECT.items():
        _, part, name = option.split(".")
        owner, default = (model, model_default) if part == "model" else (data, data_default)
        if hasattr(owner, name) and getattr(owner, name) != getattr(default, name):
            said.append(f"{_option(tuple(option.split('.')))} changes nothing: {why}.")
    mode = getattr(getattr(model, "camera_optimizer", None), "mode", "off")
    two_phases = getattr(model._target, "two_phases", False)
    if mode != "off" and model.geometry is not None and two_phases:
        said.append("--pipeline.model.camera-optimizer has nothing to train on: the geometry is given, and frozen.")
    if given("geometry_frame") and model.geometry is None:
        nothing("geometry_frame", "it is about --pipeline.model.geometry, which is not given")
    for name in ("geometry_fraction", "scale_rates", "cull_out_of_pictures"):
        if given(name) and not two_phases and not (name == "scale_rates" and model._target.short_run_powers):
            nothing(name, f"{config.method_name} trains colors and groups together")
        elif given(name) and model.geometry is not None:
            nothing(name, "the geometry is given")
    said += _notes_of_masks(config, data, data_default)
    association = getattr(model, "association", None)
    if association is not None:
        for name, way in (("consensus", "consensus"), ("memory_bank", "memory-bank")):
            if given(name) and association != way and (name, association) not in _ASKED_TOO:
                nothing(name, f"--pipeline.model.association is {association}")
        consistent = getattr(data, "masks_are_consistent", False)
        if association == "tree" and getattr(data, "snap_masks", False) and not consistent:
            said.append(
                "--pipeline.datamanager.snap-masks changes no part, object or group: a tree grows from overlapping "
                "masks as they are. Only what is fitted to painted masks follows."
            )
    if given("strengths") and not model.use_strengths:
        nothing("strengths", "--pipeline.model.use-strengths is False")
    if given("default_scale") and not getattr(model, "scale_gate", False):
        nothing("default_scale", "features have one granularity here")
    if hasattr(model, "guidance_weight") and model.guidance_weight == 0:
        for name in ("embeddings_dir", "clutter_weight", "clutter_share"):
            if given(name):
                nothing(name, "it is part of the guidance, whose --pipeline.model.guidance-weight is 0")
    if given("hdbscan_min_size") and model.grouping != "hdbscan":
        nothing("hdbscan_min_size", f"--pipeline.model.grouping is {model.grouping}")
    if given("uncertainty_threshold") and not model.filter_noise:
        nothing("uncertainty_threshold", "--pipeline.model.filter-noise is False")
    if given("densify_stop") and model.stop_split_at != AUTO:
        nothing("densify_stop", "--pipeline.model.stop-split-at is given")
    if hasattr(model, "igd") and not model.igd:
        for name in ("igd_start", "igd_stop", "igd_growth", "igd_threshold", "igd_min_scale", "igd_shrink"):
            if given(name):
                nothing(name, "--pipeline.model.igd is False")
    if hasattr(model, "la_knn") and not model.la_knn:
        for name in ("la_knn_start", "la_knn_candidates", "la_knn_rank"):
            if given(name):
                nothing(name, "--pipeline.model.la-knn is False")
    return said


def _notes_of_masks(config: TrainerConfig, data: Any, default: Any) -> list[str]:
    """The same of how masks are read: overlapping masks are not painted where they are trained on as they are."""
    if data is None or not hasattr(config.pipeline.model, "clusters"):
        return []
    return [
        f"--pipeline.datamanager.{name.replace('_', '-')} changes nothing: {config.method_name} trains on overlapping "
        "masks, which it does not paint."
        for name in ("mask_order", "mask_min_score", "mask_min_visible", "snap_masks")
        if getattr(data, name, None) != getattr(default, name, None)
    ]
