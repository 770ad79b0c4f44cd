"""Masks that something else has made: label maps, panoptic or entity PNGs with scores, SA-1B JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from gseg_ns.captures.photographs import image_size
from gseg_ns.errors import GsegError
from gseg_ns.masks.folder import MaskFolder
from gseg_ns.masks.images import SceneImage
from gseg_ns.masks.io import read_labels
from gseg_ns.masks.load import load_labels, load_masks
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.orientation import AS_STORED, MaskOfPhotograph, exif_orientation, lie_upright, mask_index
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult
from gseg_ns.reading import integer, number, read_json, reading


@dataclass
class EntityConfig:
    """A folder of label maps or panoptic PNGs (EntitySeg, CropFormer, ...), with scores where it has them."""

    name: ClassVar[str] = "entity"
    embeds: ClassVar[bool] = False

    folder: Path | None = None
    """The folder, with files named after the images. PNG: a label a pixel, or COCO's panoptic id R + 256 G + 65536 B.
    Scores: a JSON of the same name beside it, or one JSON for the folder (--entity.scores), with `segments_info`: a
    list of {id, score}. A folder of SA-1B JSON without PNGs is taken as it is."""
    scores: Path | None = None
    """COCO panoptic JSON with the scores of all images: `annotations` with `file_name` and `segments_info`."""
    ignore: tuple[int, ...] = ()
    """Labels that are no object, beside 0: such as 255 for void."""
    min_score: float = 0.0
    """Leave out masks with a lower score. What is kept can still be left out when it is painted for training."""
    min_area: int = 0
    """Leave out masks of fewer pixels."""
    upright: bool | None = None
    """Whether the files lie on copies of the photographs that were turned by their EXIF tags (OpenCV and most viewers
    do). Unset: what their sizes say, else on which the borders of masks lie on edges."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return self.folder is not None

    def placed_on(self, images: Sequence[SceneImage], tell: Callable[[str], None]) -> EntityConfig:
        """The same with `upright` found out, from all images of the scene, since one alone may not tell.

        Args:
            images: of the scene.
            tell: is told where it cannot be known.
        """
        if self.upright is not None or all(exif_orientation(image.path) == AS_STORED for image in images):
            return self
        files = MaskFolder(self._folder())
        return replace(self, upright=lie_upright(_masks_of(files, images), tell))

    def settings(self) -> dict[str, Any]:
        """The options, and a digest of the files' names and sizes."""
        digest = hashlib.sha256()
        for path in sorted(self._folder().rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self._folder()).as_posix()}:{path.stat().st_size}\n".encode())
        return {
            "folder": self._folder().name,
            "files": digest.hexdigest()[:16],
            "scores": self.scores.name if self.scores else None,
            "ignore": list(self.ignore),
            "min_score": self.min_score,
            "min_area": self.min_area,
            **({"upright": True} if self.upright else {}),
        }

    def _folder(self) -> Path:
        if self.folder is None:
            raise GsegError("The source entity needs --entity.folder, a folder of label maps or panoptic PNGs.")
        if not self.folder.is_dir():
            raise GsegError(f"The folder {self.folder} does not exist.")
        return self.folder

    def setup(self, device: str) -> MaskSource:
        """List the folder and read the scores."""
        return EntitySource(self, MaskFolder(self._folder()), read_scores(self.scores) if self.scores else {})


class EntitySource:
    """Converts the masks of a folder."""

    def __init__(self, config: EntityConfig, files: MaskFolder, scores: dict[str, dict[int, float]]) -> None:
        self.config = config
        self.files = files
        self.scores = scores

    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """The masks that belong to the photo, on its pixels: resized (nearest), or turned back by its EXIF tag."""
        file = self.files.find(photo.name)
        if file is None:
            raise GsegError(f"{self.files.folder} has no file for {photo.name}.")
        if file.is_label_map:
            labels = read_labels(file.path).int()
            for ignored in self.config.ignore:
                labels[labels == ignored] = 0
            masks = MaskSet.from_labels(labels, self._scores_of(file.path))
        else:
            masks = load_masks(file)
        height, width = photo.pixels.shape[:2]
        if len(masks):
            size, upright = (masks.height, masks.width), self.config.upright is True
            index = mask_index(str(file), size, (height, width), photo.orientation, upright)
            masks = masks if index is None else masks.remap(index)
        else:
            masks = MaskSet(height, width)
        masks = masks.select((masks.areas >= max(1, self.config.min_area)) & (masks.scores >= self.config.min_score))
        return SourceResult(masks.select(torch.argsort(masks.scores, descending=True, stable=True)))

    def _scores_of(self, path: Path) -> dict[int, float]:
        beside = path.with_suffix(".json")
        if beside.is_file():
            return read_scores(beside).get("", {})
        return self.scores.get(path.relative_to(self.files.folder).as_posix(), self.scores.get(path.name, {}))


def _masks_of(files: MaskFolder, images: Sequence[SceneImage]) -> Iterator[MaskOfPhotograph]:
    """How the files lie on the photographs that have one; damaged ones are told where they are converted."""
    for image in images:
        with suppress(GsegError):
            file = files.find(image.name)
            if file is not None:
                labels = load_labels(file)
                size = labels.shape[0], labels.shape[1]
                yield MaskOfPhotograph(size, image.path, image_size(image.path), partial(load_labels, file))


def read_scores(path: Path) -> dict[str, dict[int, float]]:
    """Scores of segments by file name and id.

    Reads COCO panoptic JSON (a dict with `annotations`, each with `file_name` and `segments_info`), or the segments of
    one image (a list, or a dict with `segments_info`), which are returned for the file name "". Segments without
    `score` are left out.

    Raises:
        GsegError: the file is damaged or of another kind.
    """
    about = ("scores of segments", "It needs `segments_info` with id and score.")
    with reading(path, *about):
        data = read_json(path, *about)
        if isinstance(data, dict) and "annotations" in data:
            images = {str(record["file_name"]): record["segments_info"] for record in data["annotations"]}
        else:
            images = {"": data["segments_info"] if isinstance(data, dict) else data}
        return {
            name: {integer(one["id"]): number(one["score"], -1e6, 1e6) for one in segments if "score" in one}
            for name, segments in images.items()
        }
