"""Ground truth of a scene's photographs, as label maps of the views that are rendered, or of the photographs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from gseg_ns.data.datamanager import MaskDatamanager, Split
from gseg_ns.errors import GsegError
from gseg_ns.masks.folder import MaskFolder, scan_masks
from gseg_ns.masks.io import LABEL_SUFFIXES, read_labels
from gseg_ns.masks.orientation import MaskOfPhotograph, lie_upright

Pixels = Literal["view", "photograph"]
"""Whose pixels ground truth has: those of the views that are rendered, or the photographs' own."""


def ground_truth(
    data: MaskDatamanager, folder: Path, split: Split, required: bool = True, pixels: Pixels = "view"
) -> dict[int, Tensor]:
    """Read the label maps of a split's photographs.

    Args:
        data: of the scene.
        folder: label maps of the photographs (PNG or npy), named as they are, in the same subfolders or in none.
        split: which views.
        required: that some view has one.
        pixels: see `Pixels`; what is compared with the photographs' own is `Photograph.draw`.

    Returns:
        view -> int64 [H, W], for those that have one: undistorted as the photograph is, or on its pixels; 0 where the
        view shows nothing. Where the lens does not distort, ground truth keeps its own size.

    Raises:
        GsegError: the folder is missing, a file is damaged, cannot be of its photograph, or could be that of several;
            or no view has one.
    """
    # Of both splits: a name that a training and a test view share is no less ambiguous.
    found = ground_truth_files(folder, [*data.train_dataset.image_filenames, *data.eval_dataset.image_filenames])
    photographs = {view: data.photograph(view, split) for view in range(len(data.names(split)))}
    known = {view: path for view, photo in photographs.items() if (path := found[photo.path]) is not None}
    if required and not known:
        names = ", ".join(data.names(split)[:3])
        raise GsegError(
            f"{folder} has no label map for any {split} view of the run ({names}, ...): "
            "files are matched by path and name without suffix"
        )
    maps = {view: read_labels(path).long() for view, path in known.items()}
    upright = lie_upright(
        MaskOfPhotograph(
            (labels.shape[0], labels.shape[1]), photographs[view].path, photographs[view].size, partial(_same, labels)
        )
        for view, labels in maps.items()
    )
    placed = {}
    for view, labels in maps.items():
        photo = photographs[view]
        placed[view] = (photo.truth if pixels == "view" else photo.scored)(labels, known[view], upright)
    return placed


def _same(labels: Tensor) -> Tensor:
    return labels


def ground_truth_files(folder: Path, images: Sequence[Path]) -> dict[Path, Path | None]:
    """The label map of each image, None for one that has none.

    Raises:
        GsegError: the folder is missing or has no label map, or one that could be of several images.
    """
    if not folder.is_dir():
        raise GsegError(f"{folder} is not a folder of label maps.")
    if not scan_masks(folder, LABEL_SUFFIXES):
        raise GsegError(f"{folder} holds no label map ({' or '.join(LABEL_SUFFIXES)}).")
    distinct = list(dict.fromkeys(images))
    files = MaskFolder(folder, LABEL_SUFFIXES).assign(distinct)
    return {image: None if file is None else file.path for image, file in zip(distinct, files, strict=True)}
