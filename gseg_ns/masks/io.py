"""Masks on disk: SA-1B JSON for overlapping scored masks, PNG for label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.masks.images import row_bands
from gseg_ns.masks.mask_set import PIXEL_MEMORY, MaskSet, rle_counts
from gseg_ns.masks.paint import PaintOrder, paint, resize_labels
from gseg_ns.reading import check_memory, integer, number, read_json, read_npy, reading

MAX_PNG_LABEL = 65535
_LARGEST_JSON = 2**28
_LARGEST_SCORE = 1e6
"""Scores are probabilities by right, but nothing here depends on it."""
LABEL_SUFFIXES = (".png", ".npy")
"""Of files that hold a label a pixel."""
_WRITTEN_KEYS = ("segmentation", "area", "bbox", "predicted_iou")


def read_mask_set(path: Path) -> MaskSet:
    """Read SA-1B JSON: a list of records as SAM's `amg.py` writes it, or a dict with `annotations`.

    Counts may be COCO's string or a list; polygons of COCO, LabelMe and X-AnyLabeling are read where the file says the
    image's size. The score is `predicted_iou`, else COCO's `score` (also as a list of one number), else 1. Other keys
    of a record are kept in `extra`. An empty list is an image in which nothing was found.

    Raises:
        GsegError: the file cannot be read, is no such JSON, or a mask is damaged; or all of its masks are empty.
    """
    with reading(path, "SA-1B JSON", "Make this file again."):
        return _mask_set(path, read_json(path, "JSON", "Make this file again.", most=_LARGEST_JSON))


def _mask_set(path: Path, data: Any) -> MaskSet:
    size = None
    if isinstance(data, dict):
        size = _image_size(data)
        data = data.get("annotations", data.get("shapes"))
    if not isinstance(data, list):
        raise GsegError(f"{path} is not SA-1B JSON: needed a list of masks, or a dict with `annotations`.")
    rles, scores, extra = [], [], []
    for position, record in enumerate(data):
        segmentation = _segmentation(record, size) if isinstance(record, dict) else None
        if segmentation is None:
            raise GsegError(
                f"{path}, mask {position}: no run-length encoded `segmentation` and no polygon of an image "
                "whose size is known. Make the masks again."
            )
        try:
            runs = rle_counts(segmentation)
        except GsegError as error:
            raise GsegError(f"{path}, mask {position}: {error}. Make this file again.") from error
        height, width = segmentation["size"]
        if size is None:
            size = (height, width)
        if (height, width) != size:
            raise GsegError(f"{path}, mask {position}: size {height}x{width}, but the image has {size[0]}x{size[1]}.")
        rles.append({"size": [height, width], "counts": _compressed(segmentation["counts"], runs, height, width)})
        score = record.get("predicted_iou", record.get("score"))
        if isinstance(score, list) and len(score) == 1:  # as Grounded-SAM-2 writes it
            score = score[0]
        score = 1.0 if score is None else score
        try:
            scores.append(number(score, -_LARGEST_SCORE, _LARGEST_SCORE))
        except ValueError as error:
            raise GsegError(f"{path}, mask {position}: the score {str(score)[:20]!r} is no finite number.") from error
        extra.append({key: value for key, value in record.items() if key not in _WRITTEN_KEYS})
    if size is None:
        # SAM's list says nothing of the image when it is empty; one pixel resizes to any image.
        size = (1, 1)
    check_memory(path, size[0] * size[1] * PIXEL_MEMORY, f"masks of {size[1]}x{size[0]} pixels")
    masks = MaskSet(size[0], size[1], rles, torch.tensor(scores, dtype=torch.float32), extra)
    if len(masks) and not bool((masks.areas > 0).any()):
        raise GsegError(f"{path}: all {len(masks)} masks are empty. Make this file again.")
    return masks


def _image_size(data: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the image: of SA-1B, of Grounded-SAM-2, of LabelMe and X-AnyLabeling."""
    image = data.get("image")
    for holder, height, width in (
        (image, "height", "width"),
        (data, "img_height", "img_width"),
        (data, "imageHeight", "imageWidth"),
        (data, "height", "width"),
    ):
        if isinstance(holder, dict) and {height, width} <= holder.keys():
            return integer(holder[height], 1), integer(holder[width], 1)
    return None


def _segmentation(record: dict[str, Any], size: tuple[int, int] | None) -> dict[str, Any] | None:
    """The run lengths of a record: its own, or those of its polygons in an image of a size; None where it has none."""
    found = record.get("segmentation")
    if isinstance(found, dict):
        return found
    if found is None and isinstance(record.get("points"), list):
        points = [[number(value, -1e6, 1e6) for value in point] for point in record["points"]]
        if record.get("shape_type") == "rectangle" and len(points) == 2:
            (left, top), (right, bottom) = points
            points = [[left, top], [right, top], [right, bottom], [left, bottom]]
        found = [[value for point in points for value in point]]
    if size is None or not isinstance(found, list) or not found:
        return None
    polygons = [[number(value, -1e6, 1e6) for value in polygon] for polygon in found]
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        return None
    from pycocotools import mask as coco

    rle = coco.merge(coco.frPyObjects(polygons, *size))
    return {"size": list(size), "counts": rle["counts"].decode("ascii")}


def write_mask_set(path: Path, masks: MaskSet) -> None:
    """Write SA-1B JSON: a list of records; for an image without masks a dict, which keeps the image's size.

    The same masks give the same bytes.

    Raises:
        GsegError: the file cannot be written.
    """
    records = [
        {
            "segmentation": rle,
            "area": int(area),
            "bbox": box.tolist(),
            # float32 has 7 significant digits; its double would be written with 17.
            "predicted_iou": round(float(score), 6),
            **extra,
        }
        for rle, area, box, score, extra in zip(
            masks.rles, masks.areas, masks.bboxes, masks.scores, masks.extra, strict=True
        )
    ]
    empty = {"image": {"height": masks.height, "width": masks.width}, "annotations": []}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(records or empty, separators=(",", ":")), encoding="utf-8")


def read_label_map(path: Path, pixel_memory: int = PIXEL_MEMORY) -> Tensor:
    """Read a PNG of labels.

    1, 8 and 16 bits of grey and palette PNGs hold the label itself (the index, not the palette's color). An RGB PNG
    holds grey saved as RGB where all three channels agree everywhere, else COCO's panoptic id R + 256 G + 65536 B.
    Pixels of zero alpha are 0.

    Args:
        path: the file.
        pixel_memory: bytes a pixel that the labels will take with what is made of them, see `check_memory`.

    Returns:
        int32 [H, W], 0 = no label.

    Raises:
        GsegError: the file cannot be read, is no PNG, or has 16-bit colors.
    """
    from PIL import Image

    with reading(path, "a label map", "Make this file again."):
        header = _png_header(path)
        if header is None:
            raise GsegError(f"{path} is not a PNG. Label maps are read from PNG files, since others change labels.")
        bits, color_type = header
        if bits == 16 and color_type != 0:
            raise GsegError(f"{path}: 16-bit colors hold no labels. Save grey 16-bit labels or 8-bit RGB panoptic ids.")
        with Image.open(path, formats=("PNG",)) as image:
            check_memory(path, image.width * image.height * pixel_memory, f"{image.width}x{image.height} pixels")
            image.load()
            labels = np.empty((image.height, image.width), dtype=np.int32)
            grey = True
            for rows, part in row_bands(image):
                values = np.asarray(part).astype(np.int32)
                # Of colors the id is kept until it is known whether they are all grey: of v that is v * 0x10101.
                labels[rows] = values[..., 0] if values.ndim == 3 and values.shape[2] < 3 else _packed(values)
                if values.ndim == 3 and values.shape[2] >= 3:
                    grey &= bool((values[..., :2] == values[..., 1:3]).all())
                if part.mode in ("LA", "RGBA"):
                    labels[rows][values[..., -1] == 0] = 0
            if grey and image.mode in ("RGB", "RGBA"):
                labels &= 0xFF
        return torch.from_numpy(labels)


def _packed(values: np.ndarray) -> np.ndarray:
    """Labels [h, W] of grey values [h, W], or of colors [h, W, 3 or 4]: R + 256 G + 65536 B."""
    return values if values.ndim == 2 else values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2]


def read_labels(path: Path) -> Tensor:
    """Read one label map: a PNG (see `read_label_map`) or an integer `.npy`.

    Returns:
        integer [H, W].

    Raises:
        GsegError: not readable, not 2-D, or of floats.
    """
    if path.suffix.lower() != ".npy":
        return read_label_map(path, pixel_memory=16)  # the ids are read as eight bytes each
    array = read_npy(path, "a label map")
    if array.dtype.kind not in "iub":
        raise GsegError(f"{path} holds {array.dtype}. A label map holds integer ids: round and save it as such.")
    if array.ndim != 2:
        raise GsegError(f"{path} has shape {array.shape}. A label map has two dimensions.")
    check_memory(path, array.size * (8 + array.itemsize), f"{array.shape[1]}x{array.shape[0]} pixels")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise GsegError(f"{path} holds ids beyond 64 bits with a sign. Number the objects from 1.")
    return torch.from_numpy(array.astype(np.int64))


def write_label_map(path: Path, labels: Tensor) -> None:
    """Write a 16-bit grey PNG.

    Args:
        path: the file, `.png`.
        labels: integer [H, W], 0 to 65535.

    Raises:
        GsegError: a label does not fit into 16 bits, or the file cannot be written.
    """
    from PIL import Image

    array = labels.cpu().numpy()
    if array.size and (array.min() < 0 or array.max() > MAX_PNG_LABEL):
        raise GsegError(
            f"Cannot write {path}: labels from {array.min()} to {array.max()}, but a 16-bit PNG holds 0 to "
            f"{MAX_PNG_LABEL}. Make fewer groups."
        )
    with atomic_path(path) as temporary:
        Image.fromarray(array.astype(np.uint16)).save(temporary, format="PNG")


def load_labels(
    path: Path,
    size: tuple[int, int] | None = None,
    order: PaintOrder = "confidence",
    min_score: float = 0.5,
    min_visible: float = 0.1,
) -> Tensor:
    """The label map of one mask file: a PNG as it is, JSON painted (see `paint`).

    Args:
        path: `.json` or `.png`.
        size: (height, width) to resize to, nearest.
        order: see `paint`; no meaning for a PNG, and so for the next two.
        min_score: see `paint`.
        min_visible: see `paint`.

    Returns:
        int32 [H, W].
    """
    if path.suffix.lower() == ".json":
        labels = paint(read_mask_set(path), order, min_score, min_visible)
    else:
        labels = read_label_map(path)
    return labels if size is None else resize_labels(labels, *size)


def load_masks(path: Path, size: tuple[int, int] | None = None) -> MaskSet:
    """The masks of one mask file: JSON as it is, of a PNG one mask a label with score 1.

    Args:
        path: `.json` or `.png`.
        size: (height, width) to resize to, nearest.
    """
    masks = read_mask_set(path) if path.suffix.lower() == ".json" else MaskSet.from_labels(read_label_map(path))
    return masks if size is None else masks.resize(*size)


def _compressed(counts: Any, runs: np.ndarray, height: int, width: int) -> str:
    if isinstance(counts, str):
        return counts
    from pycocotools import mask as coco

    return coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)["counts"].decode("ascii")


def _png_header(path: Path) -> tuple[int, int] | None:
    """Bit depth and color type of a PNG; None for another format."""
    with path.open("rb") as file:
        start = file.read(26)
    if len(start) < 26 or not start.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return start[24], start[25]
