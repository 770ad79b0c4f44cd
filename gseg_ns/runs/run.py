"""A trained run, and how it is loaded, with one clear message for whatever is wrong with it.

`load_run` decides what a path that a user gives is: a run of Nerfstudio, a result that stands alone, or a labelled PLY.
All three are asked the same questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from gseg_ns.data.said_scene import said_scene
from gseg_ns.errors import GsegError
from gseg_ns.reading import reading
from gseg_ns.runs.progress import TrainingProgress, check_progress, training_progress
from gseg_ns.runs.result_folder import MANIFEST, is_result
from gseg_ns.runs.safe_config import read_config
from gseg_ns.runs.scene import find_scene, where_it_was_looked_for

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.data.datamanager import MaskDatamanager, Split
    from gseg_ns.data.ground_truth import Pixels
    from gseg_ns.data.photographs import Photograph
    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.models.trained_geometry import Similarity

SPLITS: tuple[Split, ...] = ("train", "test")

LOG = "gseg.log"
"""Beside config.yml: what Nerfstudio prints when the run is loaded, the last time."""


@dataclass(frozen=True)
class View:
    """A view of a run: the undistorted picture that it trains on or is tested with."""

    name: str
    """Path of the image below the folder of photographs, without suffix: what files of this view are called."""
    camera: Cameras
    """[1]"""
    read: Callable[[], Tensor]
    """Gives the picture; refuses where there is none."""
    photograph: Photograph
    """What the view was made of."""

    @property
    def image(self) -> Tensor:
        """[H, W, 3 or 4] uint8

        Raises:
            GsegError: of a result, which has no photographs.
        """
        return self.read()

    def __iter__(self) -> Iterator[Any]:
        """Name, camera and image, which are what a view was before it knew its photograph: scripts unpack it."""
        return iter((self.name, self.camera, self.image))


@dataclass
class Run:
    """A trained run."""

    config_path: Path
    config: Any
    """The run's TrainerConfig."""
    model: SegmentationModel
    datamanager: MaskDatamanager
    step: int
    pipeline: Any = None
    """Model and datamanager, as Nerfstudio's viewer takes them."""
    notes: Path | None = None
    """Where what people save with it lies; None: beside config.yml."""
    alone: bool = False
    """Whether it is no run of Nerfstudio, but a result or a labelled PLY, which has no photographs."""

    @property
    def folder(self) -> Path:
        """Where selections, edits, names and scores of it are saved."""
        return self.config_path.parent if self.notes is None else self.notes

    @property
    def progress(self) -> TrainingProgress:
        """How far its training is."""
        return training_progress(self.config_path, self.model, self.step)

    def require_scene(self) -> None:
        """Refuse what needs photographs or cameras where there are none.

        Raises:
            GsegError: the scene is gone.
        """
        if self.datamanager.absent is not None and self.alone:
            raise GsegError(f"{self.source} has no cameras: it was made without a scene, so that it has no views")
        if self.datamanager.absent is not None:
            raise GsegError(where_it_was_looked_for(self.config_path, said_scene(self.config)))

    def frame(self) -> Similarity | None:
        """From the coordinates of the capture to the run's, as it was trained."""
        from gseg_ns.models.trained_geometry import run_frame

        saved = run_frame(self.folder)
        if saved is not None or self.datamanager.absent is not None:
            return saved
        outputs = self.datamanager.train_dataparser_outputs
        return outputs.dataparser_transform, outputs.dataparser_scale

    @property
    def source(self) -> Path:
        """What a user calls it: config.yml, the folder of a result, or the PLY."""
        return self.config_path.parent if self.config_path.name == MANIFEST else self.config_path

    def views(self, split: Split) -> Iterator[View]:
        """The views of a split in order."""
        self.require_scene()
        if not self.alone:  # reads the photographs, and undistorts the cameras
            _ = self.datamanager.cached_train if split == "train" else self.datamanager.cached_eval
        yield from self.cameras(split)

    def cameras(self, split: Split) -> Iterator[View]:
        """The views of a split in order, whose photographs may be gone."""
        self.require_scene()
        data = self.datamanager
        for view, name in enumerate(data.names(split)):
            camera = data.camera(view, split)
            read = partial(self._picture, split, view)
            yield View(name, camera.to(self.model.device), read, data.photograph(view, split))

    def _picture(self, split: Split, view: int) -> Tensor:
        if self.alone:
            raise GsegError(f"{self.source} has no photographs: what needs them needs the run that it was made of")
        data = self.datamanager
        return (data.cached_train if split == "train" else data.cached_eval)[view]["image"]

    def labels_on_photograph(self, view: View, scale: float | None = None) -> Tensor:
        """Group ids of a view on the photograph's pixels, int64 [h, w]; 0 where the view shows nothing.

        What ground truth on the photograph's pixels is compared with: the lens moves no label of that.

        Args:
            view: of this run.
            scale: of methods with scales, in [0, 1]; None: the method's default.
        """

        def labels(camera: Cameras) -> dict[str, Tensor]:
            return {"labels": self.model.label_image(camera, scale)}

        return view.photograph.draw(view.camera, labels)["labels"]

    def view(self, name: str) -> View:
        """The view of an image of the run, training or test.

        Args:
            name: file name or path of the image, or the last parts of it, with or without suffix.

        Raises:
            GsegError: no image is called that, or several are.
        """
        self.require_scene()
        wanted = Path(name)
        views = [view for split in SPLITS for view in self.cameras(split)]
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

    def truth(
        self, folder: Path, split: Split, required: bool = True, pixels: Pixels = "view"
    ) -> list[tuple[View, Tensor]]:
        """The views of a split that have ground truth, in order, with it: see `gseg_ns.data.ground_truth`."""
        from gseg_ns.data.ground_truth import ground_truth

        self.require_scene()
        maps = ground_truth(self.datamanager, folder, split, required, pixels)
        return [(view, maps[number]) for number, view in enumerate(self.views(split)) if number in maps]


def load_run(config_path: Path, data: Path | None = None, allow_unfinished: bool = False) -> Run:
    """Load a run of one of our methods, a result that stands alone, or a labelled PLY.

    Its scene may be gone: see `Run.require_scene`.

    Args:
        config_path: the run's config.yml, or the folder that it is in; a folder NAME.gseg; or a PLY with labels.
        data: its scene; None: where config.yml says, or beside the run. Of a PLY: one in its coordinates.
        allow_unfinished: whether a run is loaded that has no groups yet, whose answers are chance; or a PLY without
            labels, whose groups are none.

    Raises:
        GsegError: no such run, a run of another method, or its checkpoint is damaged; it has no groups yet; or `data`
            is no scene.
    """
    alone = _open_alone(config_path, data, allow_unfinished)
    if alone is not None:
        check_progress(alone.progress, alone.source, alone.config, allow_unfinished)
        return alone
    if config_path.is_dir():
        config_path = config_path / "config.yml"
    config = read_config(config_path)
    import torch

    from gseg_ns import gpu, terminal
    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig
    from gseg_ns.models.checkpoints import read_latest
    from gseg_ns.models.registry import segmentation_methods

    segmentation_methods()  # loads the plugins of Nerfstudio, ours too: then a model has its tab, and a parser its name
    if not isinstance(config.pipeline.model, SegmentationModelConfig):
        raise GsegError(
            f"{config_path} is a run of {config.method_name}, which has no groups. Train one of ours on its geometry: "
            f"ns-train gaga --data {quote(str(said_scene(config)))} --pipeline.model.geometry {quote(str(config_path))}"
        )
    said = said_scene(config)
    scene = find_scene(config_path, said, data)
    if scene is not None and scene != said:
        terminal.say(f"The scene is read from {scene}; {config_path.name} says {said}.")
        config.data = config.pipeline.datamanager.data = scene
    checkpoint_path, checkpoint = read_latest(config_path.parent)
    # As Nerfstudio's `eval_setup`, which would read both files once more, unchecked, and look for the checkpoint where
    # the run was written; the run may have moved.
    config.pipeline.model.geometry_in_checkpoint = True
    device = torch.device("cpu" if gpu.best_device() == "cpu" or gpu.fault() else "cuda")
    if (told := gpu.unused()) is not None:
        terminal.warn(told)
    log = terminal.quietly(config_path.parent / LOG)
    with log, reading(config_path, "the config.yml of a run that can be loaded"):
        pipeline = config.pipeline.setup(device=device, test_mode="test")
        pipeline.eval()
    with reading(checkpoint_path, f"a checkpoint of this run of {config.method_name}"):
        gpu.refuse_on_cpu(len(checkpoint["pipeline"]["_model.gauss_params.means"]))
        step = int(checkpoint["step"])
        pipeline.load_pipeline(checkpoint["pipeline"], step)
    assert isinstance(pipeline.model, SegmentationModel)
    assert isinstance(pipeline.datamanager, MaskDatamanager)
    pipeline.datamanager.log = config_path.parent / LOG
    progress = training_progress(config_path, pipeline.model, step)
    check_progress(progress, config_path, config, allow_unfinished)
    return Run(config_path, config, pipeline.model, pipeline.datamanager, step, pipeline)


def _open_alone(path: Path, data: Path | None, plain: bool) -> Run | None:
    """What a path means that is no run of Nerfstudio; None where it is one, or nothing at all."""
    result = is_result(path)
    if not result and not (path.is_file() and path.suffix.lower() != ".yml"):
        return None
    from gseg_ns.runs.unpacking import open_folder, open_ply, refuse_other_splats

    if not result:
        refuse_other_splats(path)
        if path.suffix.lower() != ".ply":
            return None
    if result and data is not None:
        raise GsegError(f"--data goes with a run of Nerfstudio, or a PLY: {path} has what it needs in it")
    opened = open_folder(path) if result else open_ply(path, data, plain)
    return Run(
        opened.path, opened.config, opened.model, opened.datamanager, opened.step, opened.pipeline, opened.folder, True
    )
