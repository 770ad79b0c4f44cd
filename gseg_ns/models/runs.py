"""Loading a run, with one clear message for whatever is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.engine.trainer import TrainerConfig
    from torch import Tensor

    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.base import SegmentationModel

_TAG = "tag:yaml.org,2002:"

_PLAIN = tuple(_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "python/tuple"))
"""Tags of plain values."""

_PATH = re.compile(r"pathlib\.(_local\.)?\w*Path")

_PACKAGES = ("nerfstudio", "gseg_ns", "torch.optim")
"""Packages whose classes a config.yml may name."""


@dataclass
class Run:
    """A trained run."""

    config_path: Path
    config: Any
    """The run's TrainerConfig."""
    model: SegmentationModel
    datamanager: MaskDatamanager
    step: int

    def views(self, split: Literal["train", "test"]) -> Iterator[tuple[str, Cameras, Tensor]]:
        """Yield the images of a split in order: name without suffix, camera [1], image [H, W, 3 or 4] uint8."""
        train = split == "train"
        cached = self.datamanager.cached_train if train else self.datamanager.cached_eval
        dataset = self.datamanager.train_dataset if train else self.datamanager.eval_dataset
        for view, path in enumerate(dataset.image_filenames):
            yield path.stem, dataset.cameras[view : view + 1].to(self.model.device), cached[view]["image"]


def check_config(path: Path) -> str:
    """Refuse a config.yml that has more in it than a run of Splatfacto or of one of our methods.

    Nerfstudio stores configs as YAML of Python objects, and loading one calls what the tags in it name. Such a run
    needs plain values, paths, configurations (dataclasses), members of enumerations, and names of classes.

    Returns:
        the text.

    Raises:
        GsegError: the file does not exist, cannot be read, is no config.yml, or has more in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.Loader)
    except FileNotFoundError as error:
        raise GsegError(f"{path} does not exist: give the config.yml that ns-train wrote") from error
    except UnicodeDecodeError as error:
        raise GsegError(f"{path} is not a config.yml of Nerfstudio") from error
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise GsegError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
    if root is None or not root.tag.startswith(_TAG + "python/object:"):
        raise GsegError(f"{path} is not a config.yml of Nerfstudio")
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not _is_harmless(node):
            raise GsegError(
                f"{path} has {node.tag.removeprefix(_TAG)} in line {node.start_mark.line + 1}, which no run of "
                "Splatfacto or of our methods has: it is not loaded"
            )
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [part for pair in node.value for part in pair]
    return text


def _is_harmless(node: yaml.Node) -> bool:
    """Whether building this node of a config.yml, not those within it, runs nothing but the making of a plain value."""
    if node.tag in _PLAIN:
        return True
    kind, _, name = node.tag.removeprefix(_TAG).partition(":")
    if kind == "python/object/apply" and node.id == "sequence":
        found = _class(name)
        return _PATH.fullmatch(name) is not None or (found is not None and issubclass(found, Enum))
    if kind == "python/object":
        return is_dataclass(_class(name))
    return kind == "python/name" and _class(name) is not None


def _class(name: str) -> type | None:
    """A class that one of the trusted packages defines."""
    module, _, attribute = name.rpartition(".")
    if not _is_trusted(module):
        return None
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return None
    # What a module has imported from elsewhere is not its own.
    return found if isinstance(found, type) and _is_trusted(found.__module__) else None


def _is_trusted(module: str) -> bool:
    return f"{module}.".startswith(tuple(f"{package}." for package in _PACKAGES))


def read_config(path: Path) -> TrainerConfig:
    """Read a run's `config.yml`, if it is harmless (`check_config`).

    Raises:
        GsegError: no such file, or not a Nerfstudio config.
    """
    from nerfstudio.engine.trainer import TrainerConfig

    text = check_config(path)
    try:
        config = yaml.load(text, Loader=yaml.Loader)
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, NotImplementedError) as error:
        raise GsegError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(config, TrainerConfig):
        raise GsegError(f"{path} is not a config.yml of Nerfstudio")
    return config


def load_run(config_path: Path) -> Run:
    """Load a run of one of our methods.

    Raises:
        GsegError: no such run, a run of another method, its data is gone, or its checkpoint is damaged.
    """
    config = read_config(config_path)
    import torch

    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig
    from gseg_ns.models.geometry import latest_checkpoint, read_checkpoint

    if not isinstance(config.pipeline.model, SegmentationModelConfig):
        raise GsegError(
            f"{config_path} is a run of {config.method_name}, which has no groups. Train one of ours on its geometry: "
            f"ns-train gaga --data {config.data} --pipeline.model.geometry {config_path}"
        )
    checkpoint = read_checkpoint(latest_checkpoint(config_path.parent))
    # As Nerfstudio's `eval_setup`, which would read both files once more, unchecked, and look for the checkpoint where
    # the run was written; the run may have moved.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = config.pipeline.setup(device=device, test_mode="test")
    pipeline.eval()
    step = int(checkpoint["step"])
    pipeline.load_pipeline(checkpoint["pipeline"], step)
    assert isinstance(pipeline.model, SegmentationModel)
    assert isinstance(pipeline.datamanager, MaskDatamanager)
    return Run(config_path, config, pipeline.model, pipeline.datamanager, step)
