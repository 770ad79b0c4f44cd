"""A file an object: binary PNGs of one image, as SAM's `amg.py` and SAM 2's scripts write them; stacks in `.npy`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.io import read_label_map
from gseg_ns.masks.mask_set import MaskSet, Rle, encode
from gseg_ns.reading import check_memory, number, read_npy, read_text, reading

_SCORES = "metadata.csv"
"""Beside the PNGs of `amg.py`: `id` is the name of a PNG, and `predicted_iou` its score."""
_BETWEEN = 0.2
"""Most of a mask's pixels that may be neither black nor white: edges that were smoothed when it was resized."""
_WHITE = 255


def read_objects(files: Sequence[Path]) -> MaskSet:
    """The masks of one image, each in a file of its own.

    Args:
        files: PNGs of two values (black, and what the mask is), or with the object on transparent ground.

    Raises:
        GsegError: one is damaged, holds several labels, or has another size; or all are empty.
    """
    rles: list[Rle] = []
    found: list[Path] = []
    sizes: dict[tuple[int, int], Path] = {}
    for path in files:
        mask = _binary(path)
        sizes.setdefault((mask.shape[0], mask.shape[1]), path)
        if len(sizes) > 1:
            one, other = sizes.values()
            raise GsegError(f"{one} and {other} are masks of one image, and differ in size. Make them again.")
        if mask.any():
            rles.append(encode(mask))
            found.append(path)
    if not rles:
        raise GsegError(f"{files[0].parent}: all {len(files)} masks of this image are empty. Make them again.")
    (height, width), _ = sizes.popitem()
    scores = _scores(files[0].parent / _SCORES)
    values = [scores.get(path.stem, 1.0) for path in found]
    extra = [{"file": path.name} for path in found]
    return MaskSet(height, width, rles, torch.tensor(values, dtype=torch.float32), extra)


def _binary(path: Path) -> np.ndarray:
    """One mask: bool [H, W]."""
    labels = read_label_map(path).numpy()
    values, counts = np.unique(labels, return_counts=True)
    if len(values) <= 2:
        # Nothing but one value is the whole image, unless that is black.
        return labels != 0 if 0 in values or len(values) == 1 else labels == values[-1]
    inside = counts[values > 0]
    between = inside[values[values > 0] != _WHITE].sum()
    if values[-1] == _WHITE and between <= _BETWEEN * inside.sum():
        return labels > _WHITE // 2
    if (cutout := _opaque(path)) is not None:
        return cutout
    raise GsegError(
        f"{path} has {len(values) - 1} labels, but is one of several files of one image, each of which would be one "
        "object. Name the folder of label maps alone."
    )


def _opaque(path: Path) -> np.ndarray | None:
    """Where a picture is opaque, for objects that were cut out; None where it has no transparency."""
    from PIL import Image

    with reading(path, "a mask"), Image.open(path, formats=("PNG",)) as image:
        if image.mode not in ("RGBA", "LA"):
            return None
        opaque = np.asarray(image.getchannel("A")) > _WHITE // 2
    return None if opaque.all() else opaque


def _scores(path: Path) -> dict[str, float]:
    """Scores by the name of the PNG without suffix; none where there is no such file."""
    if not path.is_file():
        return {}
    text = read_text(path, "a table of masks")
    with reading(path, "a table of masks", "Remove it to give all masks the same score."):
        rows = csv.DictReader(text.splitlines())
        return {row["id"]: number(float(row["predicted_iou"])) for row in rows if row.get("predicted_iou")}


def read_stack(path: Path) -> MaskSet:
    """Masks of one image in an array [M, H, W] or [M, 1, H, W], as SAM's predictor returns them, or [H, W, M].

    Raises:
        GsegError: it is damaged or holds something else.
    """
    array = read_npy(path, "a stack of masks")
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 3 and 10 * array.shape[2] < array.shape[1]:  # one after the other in the last dimension
        array = np.moveaxis(array, 2, 0)
    if array.ndim != 3 or array.dtype.kind not in "bui" or 0 in array.shape[1:]:
        raise GsegError(f"{path} holds {array.dtype} of shape {array.shape}. Masks are integers or bool [M, H, W].")
    check_memory(path, array.size, f"masks of {array.shape[2]}x{array.shape[1]} pixels")
    if len(array) == 1 and array.dtype.kind in "iu" and len(np.unique(array)) > 2:  # labels, as networks return them
        return MaskSet.from_labels(torch.from_numpy(array[0].astype(np.int64).clip(0)))
    return MaskSet.from_arrays(array)
