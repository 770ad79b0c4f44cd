"""A trained run, and how it is loaded, with one clear message for whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gseg_ns.errors import GsegError
from gseg_ns.reading import reading
from gseg_ns.runs.safe_config import read_config

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.data.datamanager import MaskDatamanager, Split
    from gseg_ns.data.photographs import Photograph
    from gseg_ns.models.base import SegmentationModel

SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True)
class View:
    """A view of a run: the undistorted picture that it trains on or is tested with."""

    name: str
    """Path of the image below the folder of photographs, without suffix: what files of this view are called."""
    camera: Cameras
    """[1]"""
    image: Tensor
    """[H, W, 3 or 4] uint8"""
    photograph: Photograph
    """What the view was made of."""


@dataclass
class Run:
    """A trained run."""

    config_path: Path
    config: Any
    """The run's TrainerConfig."""
    model: SegmentationModel
    datamanager: MaskDatamanager
    step: int

    def views(self, split: Split) -> Iterator[View]:
        """The views of a split in order."""
        data = self.datamanager
        cached = data.cached_train if split == "train" else data.cached_eval
        dataset = data.train_dataset if split == "train" else data.eval_dataset
        for view, name in enumerate(data.names(split)):
            camera = dataset.cameras[view : view + 1].to(self.model.device)
            yield View(name, camera, cached[view]["image"], data.photograph(view, split))

    def view(self, name: str) -> View:
        """The view of an image of the run, training or test.

        Args:
            name: file name or path of the image, or the last parts of it, with or without suffix.

        Raises:
            GsegError: no image is called that, or several are.
        """
        wanted = Path(name)
        views = [view for split in SPLITS for view in self.views(split)]
        paths = {view.photograph.path: view for view in views}
        found = []
        for path, view in paths.items():
            tail = Path(*path.parts[-len(wanted.parts) :])
            if wanted in (tail, tail.with_suffix("")):
                found.append(view)
        if not found:
            known = ", ".join(view.name for view in views[:3])
            raise GsegError(f"The run has no view {name}: it has {known}, ... ({len(paths)} in all)")
        if len(found) > 1:
            names = ", ".join(view.name for view in found[:3])
            raise GsegError(f"{len(found)} images of the run are called {name} ({names}): give the folder too")
        return found[0]

    def truth(self, folder: Path, split: Split, required: bool = True) -> list[tuple[View, Tensor]]:
        """The views of a split that have ground truth, in order, with it: see `gseg_ns.data.ground_truth`."""
        from gseg_ns.data.ground_truth import ground_truth

        maps = ground_truth(self.datamanager, folder, split, required)
        return [(view, maps[number]) for number, view in enumerate(self.views(split)) if number in maps]


def load_run(config_path: Path) -> Run:
    """Load a run of one of our methods.

    Raises:
        GsegError: no such run, a run of another method, its data is gone, or its checkpoint is damaged.
    """
    config = read_config(config_path)
    import torch
    from nerfstudio.utils.rich_utils import CONSOLE
    from rich.markup import escape

    from gseg_ns import gpu
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
    config.pipeline.model.geometry_in_checkpoint = True
    device = torch.device("cpu" if gpu.best_device() == "cpu" or gpu.fault() else "cuda")
    if (told := gpu.unused()) is not None:
        CONSOLE.log(f"[yellow]{escape(told)}")
    with reading(config_path, "the config.yml of a run that can be loaded"):
        pipeline = config.pipeline.setup(device=device, test_mode="test")
        pipeline.eval()
    with reading(checkpoint_path, f"a checkpoint of this run of {config.method_name}"):
        gpu.refuse_on_cpu(len(checkpoint["pipeline"]["_model.gauss_params.means"]))
        step = int(checkpoint["step"])
        pipeline.load_pipeline(checkpoint["pipeline"], step)
    assert isinstance(pipeline.model, SegmentationModel)
    assert isinstance(pipeline.datamanager, MaskDatamanager)
    return Run(config_path, config, pipeline.model, pipeline.datamanager, step)
