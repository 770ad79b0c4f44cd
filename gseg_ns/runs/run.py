"""A trained run, and how it is loaded, with one clear message for whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gseg_ns.errors import GsegError
from gseg_ns.reading import reading
from gseg_ns.runs.safe_config import read_config

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.base import SegmentationModel


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


def load_run(config_path: Path) -> Run:
    """Load a run of one of our methods.

    Raises:
        GsegError: no such run, a run of another method, its data is gone, or its checkpoint is damaged.
    """
    config = read_config(config_path)
    import torch

    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig
    from gseg_ns.models.checkpoints import read_latest

    if not isinstance(config.pipeline.model, SegmentationModelConfig):
        raise GsegError(
            f"{config_path} is a run of {config.method_name}, which has no groups. Train one of ours on its geometry: "
            f"ns-train gaga --data {config.data} --pipeline.model.geometry {config_path}"
        )
    checkpoint_path, checkpoint = read_latest(config_path.parent)
    # As Nerfstudio's `eval_setup`, which would read both files once more, unchecked, and look for the checkpoint where
    # the run was written; the run may have moved.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with reading(config_path, "the config.yml of a run that can be loaded"):
        pipeline = config.pipeline.setup(device=device, test_mode="test")
        pipeline.eval()
    with reading(checkpoint_path, f"a checkpoint of this run of {config.method_name}"):
        step = int(checkpoint["step"])
        pipeline.load_pipeline(checkpoint["pipeline"], step)
    assert isinstance(pipeline.model, SegmentationModel)
    assert isinstance(pipeline.datamanager, MaskDatamanager)
    return Run(config_path, config, pipeline.model, pipeline.datamanager, step)
