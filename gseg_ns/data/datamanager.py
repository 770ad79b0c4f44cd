"""Full images with their 2D masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers import full_images_datamanager
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from torch import Tensor

from gseg_ns import compat, terminal
from gseg_ns.data.photograph_dataset import PhotographDataset
from gseg_ns.data.photographs import Photograph, photograph_of, view_camera, view_colors, view_names
from gseg_ns.data.python_random import from_python_state, python_state
from gseg_ns.data.records import Records, numbered_by_tracks, read_records, refuse_numbering
from gseg_ns.data.training_regions import refuse_pictures, refuse_regions
from gseg_ns.errors import GsegError
from gseg_ns.masks import (
    LabelRuns,
    MaskFile,
    MaskFolder,
    MaskSet,
    PaintOrder,
    Said,
    cached_label_runs,
    load_masks,
)
from gseg_ns.masks.nesting import masks_nest
from gseg_ns.masks.orientation import MaskOfPhotograph, lie_upright
from gseg_ns.reading import reading
from gseg_ns.rendering import threads
from gseg_ns.rendering.snapping import snap_labels
from gseg_ns.transfer import upload

Split = Literal["train", "test"]

_LARGEST_KEPT = 1024
"""Ids that agree between views stay what they are up to this one; tables have a row an id."""
_READ_BY_US = "Leave the dataparser out of the command: gseg-data reads Nerfstudio's and COLMAP's folders as they are."


GPU_SHARE = 0.1
"""Part of a GPU's free memory that photographs and label maps may fill. Beyond it they stay in the host's, pinned: a
step copies those of its view, which takes a fraction of a millisecond."""

BYTES = {"uint8": 5, "float32": 14}
"""Of a pixel of a photograph and its label."""


@dataclass
class MaskDatamanagerConfig(FullImageDatamanagerConfig):
    """Full images with 2D masks."""

    _target: type = field(default_factory=lambda: MaskDatamanager)
    masks_dir: Path = Path("masks")
    """Folder of masks, relative to the scene: SA-1B JSON (overlapping, scored) or PNG label maps, named as the
    images."""
    mask_order: PaintOrder = "confidence"
    """Which of overlapping masks is on top in the label map: the most confident (Gaga), the largest (whole objects) or
    the smallest (parts)."""
    mask_min_score: float = 0.5
    """Masks with a lower score are left out of the label map (Gaga: 0.5)."""
    mask_min_visible: float = 0.1
    """Masks of which no more than this part stays visible in the label map are dropped (Gaga: 0.1)."""
    snap_masks: bool = False
    """Move borders of the label map to borders of color in the photograph, by a few pixels: better with ragged
    masks."""
    masks_are_consistent: bool = False
    """The ids of the label maps already agree between the views (tracked or ground truth): nothing is associated, and
    ids up to 1024 are the numbers of groups. The same as --pipeline.model.association given."""


class MaskDatamanager(FullImageDatamanager[PhotographDataset]):
    """Nerfstudio's `FullImageDatamanager` that also brings the label map of every training image.

    Label maps are in the batch under `labels` ([H, W] int32, 0 = unlabelled), never under `mask`, which Nerfstudio
    takes for a photometric mask. They follow the image through resizing and undistortion with nearest neighbours.
    Images without a mask file train colors only.
    """

    config: MaskDatamanagerConfig
    train_dataset: PhotographDataset
    eval_dataset: PhotographDataset
    our_parser: ClassVar[Callable[[DataParserConfig], DataParserConfig]] = staticmethod(lambda config: config)
    """Which dataparser reads a scene instead of the one that was named. Set by `gseg_ns.method_configs`."""
    log: Path | None = None
    """Where upstream's prints go that come when photographs are asked for; nowhere without one."""

    def __init__(
        self,
        config: MaskDatamanagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        if config.cache_images == "cpu" and not torch.cuda.is_available():
            # Nerfstudio pins "cpu" images, which needs a CUDA driver; "gpu" means the device in use, here the CPU.
            config.cache_images = "gpu"
        config.dataparser = type(self).our_parser(config.dataparser)
        if test_mode != "val" and hasattr(config.dataparser, "needs_photographs"):
            # What is trained can be looked at, edited and exported without what it was trained on.
            config.dataparser = replace(config.dataparser, needs_photographs=False)  # type: ignore[call-arg]
        self._mask_files: list[MaskFile | None] | None = None
        self._labels: dict[int, LabelRuns] = {}
        self._ids: dict[int, np.ndarray] = {}
        """View -> what its labels 0, 1, ... were in its file, or the tracks of its masks; 0: none."""
        self._said: dict[int, list[Said]] = {}
        """View -> what is known of its labels 1, 2, ...; of views whose masks say words, scores or tracks."""
        self._fitted: set[int] = set()
        """Views whose label map has been resized and undistorted."""
        self._nest: bool | None = None
        self._upright = False
        """The masks lie on upright copies of the photographs."""
        self.labels_in_batches = True
        """Whether batches of training bring label maps."""
        self._released = False
        scene = config.data or config.dataparser.data
        ours = hasattr(config.dataparser, "needs_photographs")
        about = f"a scene that {_name(config.dataparser)} reads", _READ_BY_US
        with compat.no_questions(), nullcontext() if ours else reading(scene, *about):
            super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        if config.cache_images == "gpu" and torch.device(device).type == "cuda":
            cameras = self.train_dataset.cameras
            size = BYTES[config.cache_images_type] * int((cameras.width * cameras.height).sum())
            free = torch.cuda.mem_get_info(device)[0]
            if size > GPU_SHARE * free:
                config.cache_images = "cpu"
                terminal.say(
                    f"Photographs and label maps would take {size / 2**30:.1f} of {free / 2**30:.1f} GiB that are free "
                    "on the GPU: they stay in the host's memory (--pipeline.datamanager.cache-images cpu)."
                )
        # Undistortion overwrites the datasets' cameras; what lies on the photographs needs them as they were.
        self._distorted_cameras = {
            "train": deepcopy(self.train_dataset.cameras),
            "test": deepcopy(self.eval_dataset.cameras),
        }

    @property
    def dataset_type(self) -> type[PhotographDataset]:  # type: ignore[override]
        """Upstream's is a cached property that looks at the type arguments."""
        return PhotographDataset

    @property
    def absent(self) -> str | None:
        """Why the scene is not there; None where it is."""
        return self.train_dataset.metadata.get("absent")

    @property
    def fixed_indices_eval_dataloader(self) -> list[tuple[Cameras, dict[str, Any]]]:
        """The held-out views with their cameras; none where photographs are gone.

        Nerfstudio's viewer asks for every property when it starts, also of a run without its scene.
        """
        if not all(path.is_file() for path in self.eval_dataset.image_filenames):
            return []
        return super().fixed_indices_eval_dataloader

    @property
    def masks_path(self) -> Path:
        """The mask folder."""
        return self._scene / self.config.masks_dir

    @property
    def _scene(self) -> Path:
        data = self.get_datapath()
        return data if data.is_dir() else data.parent

    def require_masks(self) -> None:
        """Find and read the masks of the training images, before any time is spent on training.

        Raises:
            GsegError: fewer than two training images; no mask folder, no mask for any training image, no mask with
                content, or a mask file that cannot be read.
        """
        if self._mask_files is not None:
            return
        images = self.train_dataset.image_filenames
        if len(images) < 2:
            raise GsegError(f"{self.get_datapath()} has {len(images)} training image: objects need at least 2 views")
        files = MaskFolder(self.masks_path).match(images)
        self._mask_files = files
        without = sum(file is None for file in files)
        if without:
            terminal.warn(
                f"{without} of {len(images)} training images have no mask in {self.masks_path}: they train colors only."
            )
        self._labels = self._read_labels({view: file for view, file in enumerate(files) if file is not None})
        config = self.config
        records = read_records(files, config.mask_order, config.mask_min_score, config.mask_min_visible)
        if self.config.masks_are_consistent:
            self._labels, records = numbered_by_tracks(self._labels, records)
            refuse_numbering(self._labels, files, records)
        refuse_pictures(self._labels, self._mask_name)
        self._place_masks()
        if not any(labels.labels.any() for labels in self._labels.values()):
            raise GsegError(f"All masks in {self.masks_path} are empty: make them again or lower --mask-min-score")
        own = self.train_dataset._dataparser_outputs.mask_filenames or []
        refuse_regions(self.masks_path, self._labels, own, self.config.masks_are_consistent)
        self._compress_labels(records)
        read = sum(int((labels.ids > 0).sum()) for labels in self._labels.values())
        terminal.say(f"Read {read} masks of {len(self._labels)} of {len(images)} training views: {self.masks_path}")

    def _read_labels(self, files: dict[int, MaskFile]) -> dict[int, LabelRuns]:
        """The label maps of views, painted in threads where that was not done before."""
        config = self.config
        bar, done = terminal.Progress(len(files)), count(1)
        found = cached_label_runs(
            list(files.values()),
            config.mask_order,
            config.mask_min_score,
            config.mask_min_visible,
            threads=threads.available_cores(),
            progress=lambda: bar.update("Reading masks", next(done)),
        )
        terminal.LINE.clear()
        return dict(zip(files, found, strict=True))

    def _place_masks(self) -> None:
        """See that every mask can be of its photograph, and on which pixels of it."""
        photographs = {view: self.photograph(view) for view in self._labels}
        sizes = {view: labels.size for view, labels in self._labels.items() if labels.labels.any()}
        self._upright = lie_upright(
            (
                MaskOfPhotograph(size, photographs[view].path, photographs[view].size, self._labels[view].image)
                for view, size in sizes.items()
            ),
            terminal.warn,
        )
        for view, size in sizes.items():
            photographs[view].check_mask(size, self._mask_name(view), self._upright)
        if self._upright:
            terminal.say("The masks lie on upright copies of the photographs, and are turned back by their EXIF tags.")
        resized = sum(
            size not in (photographs[view].size, photographs[view].size[::-1]) for view, size in sizes.items()
        )
        if resized:
            terminal.warn(f"{resized} masks differ in size from their image and are resized (nearest).")

    def _compress_labels(self, records: Records) -> None:
        """Number the labels 1..n: over all views where they are consistent and too large to stay, else in each view."""
        own = {view: labels.ids for view, labels in self._labels.items()}
        every = np.unique(np.concatenate(list(own.values())))
        consistent = self.config.masks_are_consistent
        if consistent and int(every.max(initial=0)) <= _LARGEST_KEPT:
            every = np.arange(int(every.max(initial=0)) + 1)
        for view, labels in self._labels.items():
            ids = every if consistent else own[view]
            ids = ids[ids > 0]
            table = np.zeros(int(ids.max(initial=0)) + 1, np.uint32)
            table[ids] = np.arange(1, len(ids) + 1)
            self._labels[view] = labels.renumbered(table)
            self._ids[view] = np.append(0, ids)
            if view in records:
                self._said[view] = [records[view].get(label, Said("", 1.0, 0)) for label in ids.tolist()]

    def photograph(self, view: int, split: Split = "train") -> Photograph:
        """The photograph of a view, and which of its pixels the view shows."""
        dataset = self._dataset(split)
        return photograph_of(dataset.image_filenames[view], self._distorted_cameras[split][view])

    def names(self, split: Split) -> list[str]:
        """What the views of a split are called: as their masks, by the path below the folder of photographs."""
        named = view_names(self._scene, [*self.train_dataset.image_filenames, *self.eval_dataset.image_filenames])
        return [named[path] for path in self._dataset(split).image_filenames]

    def _dataset(self, split: Split) -> PhotographDataset:
        return self.train_dataset if split == "train" else self.eval_dataset

    def has_masks(self, view: int) -> bool:
        """Whether a training image has a mask file."""
        self.require_masks()
        return view in self._labels

    def labels(self, view: int) -> Tensor | None:
        """The label map of a training image as it is trained on: [H, W] int32 on the CPU, or None. Made at each call.

        Raises:
            GsegError: see `require_masks`.
        """
        self.require_masks()
        runs = self._labels.get(view)
        if runs is None:
            return None
        labels = runs.image()
        if view not in self._fitted:
            placed = self.photograph(view).to_view(labels, self._mask_name(view), self._upright)
            if self.config.snap_masks and (colors := view_colors(self, view, *placed.shape)) is not None:
                placed = snap_labels(placed, colors)
            if placed is not labels:
                self._labels[view], labels = LabelRuns.of(placed), placed
            self._fitted.add(view)
        return labels

    def said(self, view: int) -> list[Said] | None:
        """What is known of the labels 1, 2, ... of a training image; None where its masks say nothing of themselves.

        Raises:
            GsegError: see `require_masks`.
        """
        self.require_masks()
        return self._said.get(view)

    def ids(self, view: int) -> Tensor:
        """What the labels of a training image are called where that may agree between views: [L + 1] int64, 0 = none.

        The tracks of masks that are on some; else the ids of a label map as its file has them; of other masks none.

        Raises:
            GsegError: see `require_masks`.
        """
        self.require_masks()
        assert self._mask_files is not None
        file = self._mask_files[view]
        said = self._said.get(view)
        if said is not None and any(one.track for one in said):
            return torch.tensor([0, *(one.track for one in said)])
        ids = torch.from_numpy(self._ids[view].astype(np.int64))
        return ids if file is not None and file.is_label_map else torch.zeros_like(ids)

    def masks_nest(self) -> bool:
        """Whether masks of all sizes lie within each other, and nothing calls them objects: no word, no track.

        A method and not a property: Nerfstudio's viewer evaluates every property of a datamanager, also of a run whose
        masks are gone.

        Raises:
            GsegError: see `require_masks`.
        """
        self.require_masks()
        assert self._mask_files is not None
        if self._nest is None:
            named = any(one.word or one.track for said in self._said.values() for one in said)
            files = [file for file in self._mask_files if file is not None]
            self._nest = not named and masks_nest(files, self.config.mask_min_score)
        return self._nest

    def mask_set(self, view: int) -> MaskSet | None:
        """All overlapping masks of a training image as it is trained on, or None. Read anew at each call."""
        masks = self._read_masks(view)
        if masks is None:
            return None
        return self.photograph(view).masks_to_view(masks, self._mask_name(view), self._upright)

    def photograph_masks(self, view: int) -> MaskSet | None:
        """The same masks on the photograph's own pixels, which may be distorted."""
        masks = self._read_masks(view)
        if masks is None:
            return None
        return self.photograph(view).stored_masks(masks, self._mask_name(view), self._upright)

    def _read_masks(self, view: int) -> MaskSet | None:
        self.require_masks()
        assert self._mask_files is not None
        file = self._mask_files[view]
        return None if file is None else load_masks(file)

    def _mask_name(self, view: int) -> str:
        assert self._mask_files is not None
        return str(self._mask_files[view])

    def _load_images(self, *arguments: Any, **options: Any) -> list[dict[str, Tensor]]:
        """As upstream, without its lines on the terminal: photographs are read when the first one is asked for."""
        with terminal.quietly(self.log, mode="a"):
            return super()._load_images(*arguments, **options)

    def camera(self, view: int, split: Split = "train") -> Cameras:
        """The camera [1] of an image, undistorted, which needs no photograph.

        That of a training image names its view, by which a model corrects its pose.
        """
        distorted = self._distorted_cameras[split]
        read = ("cached_train" if split == "train" else "cached_eval") in self.__dict__  # which undistorts the cameras
        if distorted.distortion_params is None or read or not bool((distorted.distortion_params != 0).any()):
            camera = self._dataset(split).cameras[view : view + 1]
        else:
            camera = view_camera(distorted[view : view + 1])
        if split == "train":
            camera.metadata = {**(camera.metadata or {}), "cam_idx": view}
        return camera

    def release_photographs(self) -> None:
        """Forget the photographs of the training views: batches come without, and who asks for one has it read again.

        Features on frozen geometry train without them, and those of a large scene fill a GPU.
        """
        if self._released:
            return
        distortion = self._distorted_cameras["train"].distortion_params
        if distortion is not None and bool((distortion != 0).any()):
            self.cached_train  # noqa: B018  undistorts the cameras
        self.train_cameras = self.train_dataset.cameras
        self.__dict__["cached_train"] = _Photographs(self)
        self._released = True

    def read_photograph(self, view: int) -> dict[str, Any]:
        """A photograph of a training view, read and undistorted as Nerfstudio does for all at once."""
        data = self.train_dataset.get_data(view, image_type=self.config.cache_images_type)
        camera = deepcopy(self._distorted_cameras["train"][view]).reshape(())
        parameters = camera.distortion_params
        if parameters is not None and bool((parameters != 0).any()):
            intrinsics = camera.get_intrinsics_matrices().numpy()
            _, image, mask = full_images_datamanager._undistort_image(
                camera, parameters.numpy(), data, data["image"].numpy(), intrinsics
            )
            data["image"] = torch.from_numpy(image)
            if mask is not None:
                data["mask"] = mask
        return data

    def get_train_rays_per_batch(self) -> int:
        """Pixels of the first view, by which the viewer counts; no photograph is read for it."""
        if not self._released:
            return super().get_train_rays_per_batch()
        camera = self.train_dataset.cameras[0]
        return int(camera.height) * int(camera.width)

    def _next_view(self) -> int:
        """The view of the next step, in the order of `FullImageDatamanager.next_train`."""
        view = self.train_unseen_cameras.pop(0)
        if len(self.train_unseen_cameras) == 0:
            self.train_unseen_cameras = self.sample_train_cameras()
        return int(view)

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """Return the next training camera, on the CPU, and batch.

        With `labels` where the image has a mask and the model wants them; without `image` once photographs are
        released.
        """
        view = self._next_view()
        batch: dict[str, Any] = {"image_idx": view}
        if not self._released:
            batch = {**self.cached_train[view]}
            for name in ("image", "mask"):  # pinned, where they are kept beside the GPU
                if name in batch:
                    batch[name] = upload(batch[name], self.device)
        # Upstream's camera is on the GPU, where each look at its size has to be waited for. It is not made at all: to
        # make one takes as long as the harmonics of a small picture.
        camera = self.train_dataset.cameras[view : view + 1]
        camera.metadata = {**(camera.metadata or {}), "cam_idx": view}
        labels = self.labels(view) if self.labels_in_batches else None
        if labels is not None:
            batch["labels"] = labels
        return camera, batch

    def order_state(self) -> dict[str, Any]:
        """Which views are still to come in this round, and what the next rounds are drawn from."""
        generator = getattr(self, "random_generator", None)
        counts = getattr(self, "train_unsampled_epoch_count", None)
        return {
            "train": list(map(int, self.train_unseen_cameras)),
            "eval": list(map(int, self.eval_unseen_cameras)),
            "generator": None if generator is None else python_state(generator.getstate()),
            "unsampled": None if counts is None else torch.from_numpy(counts.copy()),
        }

    def set_order_state(self, state: dict[str, Any]) -> None:
        """Take back what `order_state` told. The order starts anew where there are other views now."""
        train, evaluation = state["train"], state["eval"]
        if max(train) >= len(self.train_dataset) or max(evaluation, default=-1) >= len(self.eval_dataset):
            return
        self.train_unseen_cameras, self.eval_unseen_cameras = list(train), list(evaluation)
        if state["generator"] is not None and hasattr(self, "random_generator"):
            self.random_generator.setstate(from_python_state(state["generator"]))
        if state["unsampled"] is not None and hasattr(self, "train_unsampled_epoch_count"):
            self.train_unsampled_epoch_count = state["unsampled"].cpu().numpy()


class _Photographs(Sequence[dict[str, Any]]):
    """The photographs of the training views, each read when it is asked for."""

    def __init__(self, manager: MaskDatamanager) -> None:
        self._manager = manager

    def __len__(self) -> int:
        return len(self._manager.train_dataset)

    def __getitem__(self, view: int) -> dict[str, Any]:  # type: ignore[override]
        return self._manager.read_photograph(range(len(self))[view])


def _name(config: DataParserConfig) -> str:
    """What a dataparser is called."""
    return type(config).__name__.removesuffix("Config")
