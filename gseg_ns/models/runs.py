"""Loading a run, with one clear message for whatever is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.engine.trainer import TrainerConfig
    from torch import Tensor

    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.base import SegmentationModel

_TRUSTED = ("nerfstudio.", "gseg_ns.", "pathlib.", "collections.", "torch.", "builtins.")
"""Packages whose objects a config.yml may name."""


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


def check_config(path: Path) -> None:
    """Refuse a config.yml that names objects of packages a run has no business with.

    Nerfstudio stores configs as YAML of Python objects, and loading one runs their constructors.

    Raises:
        GsegError: the file does not exist, is not text, or names such an object.
    """
    if not path.is_file():
        raise GsegError(f"{path} does not exist: give the config.yml that ns-train wrote, with --load-config")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GsegError(f"{path} is not a config.yml of Nerfstudio") from error
    for tag in re.findall(r"!!python/[\w/]+:([\w.]+)", text):
        if not tag.startswith(_TRUSTED):
            raise GsegError(f"{path} names {tag}, which no run of Nerfstudio contains: it is not loaded")
    if "!!python/object:" not in text:
        raise GsegError(f"{path} is not a config.yml of Nerfstudio")


def read_config(path: Path) -> TrainerConfig:
    """Read a run's `config.yml`, as far as it is trusted (`check_config`).

    Raises:
        GsegError: no such file, or not a Nerfstudio config.
    """
    check_config(path)
    import yaml
    from nerfstudio.engine.trainer import TrainerConfig

    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.Loader)
    except (yaml.YAMLError, AttributeError, TypeError) as error:
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
    from nerfstudio.utils.eval_utils import eval_setup

    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig
    from gseg_ns.models.geometry import latest_checkpoint, read_checkpoint

    if not isinstance(config.pipeline.model, SegmentationModelConfig):
        raise GsegError(
            f"{config_path} is a run of {config.method_name}, which has no groups. Train one of ours on its geometry: "
            f"ns-train gaga --data {config.data} --pipeline.model.geometry {config_path}"
        )
    read_checkpoint(latest_checkpoint(config_path.parent))

    def beside_config(config: Any) -> Any:
        # Nerfstudio looks where the run was written, relative to the working directory; the run may have moved.
        config.get_checkpoint_dir = lambda: config_path.parent / config.relative_model_dir
        return config

    loaded, pipeline, _, step = eval_setup(config_path, update_config_callback=beside_config)
    assert isinstance(pipeline.model, SegmentationModel)
    assert isinstance(pipeline.datamanager, MaskDatamanager)
    return Run(config_path, loaded, pipeline.model, pipeline.datamanager, step)
