"""What stands alone as a model that answers: a folder NAME.gseg, or a PLY with an integer label a splat.

Neither a config.yml of Nerfstudio nor photographs are needed. A PLY becomes a model of `gaga` that answers by its
labels, and so does a result of a method that is not installed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gseg_ns import gpu, terminal
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.files import slug
from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.gaga import GagaModel
from gseg_ns.models.parameters import to_parameters
from gseg_ns.models.registry import method_config, segmentation_methods
from gseg_ns.reading import integer, reading, text
from gseg_ns.runs.labels import (
    LABELLED_PLY,
    NOTES,
    extra_state,
    labels_of_ply,
    labels_of_result,
    names_beside,
)
from gseg_ns.runs.result_folder import (
    CAMERAS,
    MANIFEST,
    MODEL,
    SPLATS,
    is_option,
    read_result,
    read_tensors,
)
from gseg_ns.runs.scene import find_scene
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply

_OTHER_SPLATS = (".spz", ".splat", ".ksplat", ".sog", ".glb", ".gltf", ".usd", ".usda", ".usdc", ".usdz")


@dataclass
class Opened:
    """What was opened, as a run of Nerfstudio would be."""

    path: Path
    """The manifest, or the PLY."""
    folder: Path
    """Where what people save with it lies."""
    config: Any
    """A TrainerConfig that it could have been made with."""
    pipeline: Any
    step: int

    @property
    def model(self) -> SegmentationModel:
        """The model."""
        model = self.pipeline.model
        assert isinstance(model, SegmentationModel)
        return model

    @property
    def datamanager(self) -> MaskDatamanager:
        """Its views, where it has cameras."""
        manager = self.pipeline.datamanager
        assert isinstance(manager, MaskDatamanager)
        return manager


def open_folder(path: Path) -> Opened:
    """Open a result.

    Args:
        path: the folder, or its manifest.json.

    Raises:
        GsegError: see `read_result`; or its files do not fit together.
    """
    result = read_result(path)
    about, manifest = result.about, result.folder / MANIFEST
    splats = read_ply(result.path(SPLATS))
    splats = replace(splats, extra={})
    with reading(manifest, "the manifest of a result", "Make it again."):
        method = text(about["method"], "its method")
        known = method in segmentation_methods()
        steps, planned = (integer(about[name], 0, what=f"its {name}") for name in ("steps", "planned_steps"))
        options = about["options"] if known else {}
        state = extra_state(about["state"])
    cameras = result.path(CAMERAS) if CAMERAS in result.files else None
    labels, sure = labels_of_result(result, len(splats))
    if not known:
        if method != LABELLED_PLY:
            terminal.warn(
                f"{method}, which {result.folder} was made with, is not installed: its labels are used alone."
            )
        opened = _labelled(manifest, result.folder, splats, labels, sure, cameras)
        opened.config.method_name = method
        assert isinstance(opened.model, GagaModel)
        opened.model.group_words = dict(state["words"])
        return opened
    config = copy.deepcopy(method_config(method))
    config.max_num_iterations = config.pipeline.model.num_iterations = planned
    with reading(manifest, "the manifest of a result", "Make it again."):
        _set_options(config.pipeline.model, options)
    config.experiment_name = slug(result.folder.stem) or "result"
    pipeline = _pipeline(config, result.folder, splats, cameras, manifest)
    with reading(result.path(MODEL), "the model of a result", "Make it again."):
        tensors = read_tensors(result.path(MODEL))
        _load(pipeline.model, splats, tensors, {**state, "step": max(steps - 1, 0)})
    return Opened(manifest, result.folder, config, pipeline, max(steps - 1, 0))


def open_ply(path: Path, scene: Path | None = None, plain: bool = False) -> Opened:
    """Open a labelled PLY, as `gseg lift`, `gseg export` and other programs write it.

    Names are those of an objects.json beside it, where there is one of `gseg export`.

    Args:
        path: the PLY.
        scene: one in its coordinates, whose views are asked; None: it has none.
        plain: also open a PLY without labels, in which nothing is of any object.

    Raises:
        GsegError: it is damaged, or has no labels; or there is no such scene.
    """
    splats, found, sure = labels_of_ply(path, plain)
    words = names_beside(path)
    folder = path.with_name(path.name + NOTES)
    if scene is not None:
        find_scene(path, Path(), scene)
    opened = _labelled(path, folder, splats, found, sure, scene)
    opened.config.method_name = LABELLED_PLY
    assert isinstance(opened.model, GagaModel)
    opened.model.group_words = words
    return opened


def opened_beside(config_path: Path) -> Opened | None:
    """The result or PLY that a path is of, where it names no run of Nerfstudio.

    Args:
        config_path: a manifest, a PLY, or the config.yml that would lie beside what people save with one of them.

    Raises:
        GsegError: see `open_folder` and `open_ply`.
    """
    if config_path.suffix.lower() == ".ply":
        return _as_run(open_ply(config_path))
    if config_path.name != MANIFEST and config_path.is_file():
        return None
    folder = config_path.parent
    if (folder / MANIFEST).is_file():
        return _as_run(open_folder(folder))
    ply = folder.with_name(folder.name.removesuffix(NOTES))
    return _as_run(open_ply(ply)) if folder.name.endswith(".ply" + NOTES) and ply.is_file() else None


def _as_run(opened: Opened) -> Opened:
    """The same, of the method whose model it is."""
    if opened.config.method_name not in segmentation_methods():
        opened.config.method_name = "gaga"
    return opened


def refuse_other_splats(path: Path) -> None:
    """Say what to do with splats in formats that hold no labels, or are not read.

    Raises:
        GsegError: it is one.
    """
    if path.is_file() and path.suffix.lower() in _OTHER_SPLATS:
        raise GsegError(f"{path} holds no labels that are read: give a .gseg folder, a labelled PLY, or a config.yml")


def _labelled(
    path: Path, folder: Path, splats: Splats, labels: Tensor, sure: Tensor | None, cameras: Path | None
) -> Opened:
    """A model that answers by labels alone."""
    config = copy.deepcopy(method_config("gaga"))
    config.experiment_name = slug(folder.name.removesuffix(NOTES).rpartition(".")[0]) or "result"
    # At degree 0 Splatfacto keeps colors in a form that cuts them off.
    config.pipeline.model.sh_degree = max(splats.sh_degree, 1)
    config.pipeline.model.labels, config.pipeline.model.background_color = "vote", "black"
    pipeline = _pipeline(config, folder, splats, cameras, path)
    model, step = pipeline.model, config.max_num_iterations - 1
    assert isinstance(model, GagaModel)
    with reading(path, "splats with labels"):
        features = {f"gauss_params.{name}": torch.zeros(len(splats), dim) for name, dim in model.feature_dims.items()}
        groups = int(labels.max()) if len(labels) else 0
        classes = {name: value for name, value in model.state_dict().items() if name.startswith("classifier.")}
        extra = {"step": step, "words": {}, "num_groups": groups}
        extra = {**extra, "strategy": {}, "chance": None, "lookups": {}, "neighbours": None}
        _load(model, splats, {**features, **classes}, extra)
        model.take_labels(labels, sure)
    return Opened(path, folder, config, pipeline, step)


def _pipeline(config: Any, folder: Path, splats: Splats, cameras: Path | None, path: Path) -> Any:
    """A pipeline whose model has no Gaussians of its own yet.

    Args:
        config: of the method.
        folder: what it is opened from.
        splats: its Gaussians, for how they are drawn and how many they are.
        cameras: a transforms.json; None: there are none.
        path: for messages.
    """
    model = config.pipeline.model
    model.geometry_in_checkpoint, model.random_init, model.num_random = True, True, 16
    model.rasterize_mode = splats.rasterize_mode
    config.recipe_settled = True
    data = config.pipeline.datamanager
    scene = cameras if cameras is not None else folder / "cameras"
    config.data = data.data = scene
    data.dataparser = replace(
        data.dataparser,
        data=scene,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        load_3D_points=False,
        has_cameras=cameras is not None,
    )
    gpu.refuse_on_cpu(len(splats))
    device = torch.device("cpu" if gpu.best_device() == "cpu" or gpu.fault() else "cuda")
    with terminal.quietly(None), reading(path, "a result"):
        pipeline = config.pipeline.setup(device=device, test_mode="test")
        pipeline.eval()
    return pipeline


def _load(model: SegmentationModel, splats: Splats, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
    geometry = to_parameters(splats, int(model.config.sh_degree))
    state = {**{f"gauss_params.{name}": value for name, value in geometry.items()}, **tensors}
    for name in model.feature_dims:
        found = state[f"gauss_params.{name}"]
        if found.ndim != 2 or len(found) != len(splats):
            raise ValueError(f"{name} of shape {tuple(found.shape)} for {len(splats)} Gaussians")
    for name in model.gaussian_buffers:
        if name in state and len(state[name]) not in (0, len(splats)):
            raise ValueError(f"{name} of {len(state[name])} rows for {len(splats)} Gaussians")
    unknown = sorted(set(state) - set(model.state_dict()))
    if unknown:
        raise ValueError(f"it has {unknown[0]}, which the method does not know")
    model.step = int(extra["step"])
    model.load_state_dict({**state, "_extra_state": dict(extra)}, strict=False)
    model.step = int(extra["step"])


def _set_options(config: Any, options: Any) -> None:
    """Set options of a model by their dotted names, each of the kind that it is.

    Raises:
        ValueError: there is no such option, or its value is of another kind.
    """
    if not isinstance(options, dict):
        raise ValueError("options that are no table")
    for dotted, value in options.items():
        *parts, last = str(dotted).split(".")
        target = config
        for part in parts:
            target = _field(target, part)
        usual = _field(target, last)
        if not is_option(dotted, value, usual):
            raise ValueError(f"{dotted} cannot be {value!r:.40}")
        # Some parts of a configuration are frozen.
        object.__setattr__(target, last, value)


def _field(target: Any, name: str) -> Any:
    if not is_dataclass(target) or name not in {entry.name for entry in fields(target)} or name.startswith("_"):
        raise ValueError(f"there is no option {name!r:.40}")
    value = getattr(target, name)
    if is_dataclass(value) and not isinstance(value, type):
        value = copy.deepcopy(value)
        object.__setattr__(target, name, value)  # a default is everybody's
    return value
