"""Masks on disk: SA-1B JSON for overlapping scored masks, PNG for label maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.masks.dialects.documents import LARGEST_JSON, as_document
from gseg_ns.masks.dialects.labelme import labelme_masks
from gseg_ns.masks.dialects.records import image_size, mask_set
from gseg_ns.masks.images import row_bands
from gseg_ns.masks.mask_set import PIXEL_MEMORY, MaskSet
from gseg_ns.reading import check_memory, read_json, read_npy, reading

MAX_PNG_LABEL = 65535
LABEL_SUFFIXES = (".png", ".npy")
"""Of files that hold a label a pixel."""
_VOID = 255, (224, 224, 192)
"""Index and color of what Pascal VOC leaves open, around objects."""
_WHITE = 255
_SHADES = 8
"""Greys between black and white from which on they may be the smoothed edges of one mask."""
_SOLID = 0.1
"""Part of such greys with the same grey on all sides from which on they are labels."""


def read_mask_set(path: Path) -> MaskSet:
    """Read the JSON of one image: a list of records as SAM's `amg.py` writes it, a dict with `annotations` or `shapes`.

    Counts may be COCO's string or a list; polygons of COCO, LabelMe and X-AnyLabeling are read where the file says the
    image's size. The score is `predicted_iou`, else COCO's `score` (also as a list of one number), else 1. Other keys
    of a record are kept in `extra`. An empty list is an image in which nothing was found.

    Raises:
        GsegError: the file cannot be read, is no such JSON, holds the masks of several images, or a mask is damaged; or
            all of its masks are empty.
    """
    with reading(path, "SA-1B JSON", "Make this file again."):
        data = read_json(path, "JSON", "Make this file again.", most=LARGEST_JSON)
        document = as_document(path, data)
        if document is not None:
            entries = list(document.names.values())
            if len(entries) != 1:
                raise GsegError(f"{path} holds the masks of {len(entries)} images. Name it after none of them.")
            return document.masks(entries[0])
        size = None
        if isinstance(data, dict):
            if "shapes" in data:
                return labelme_masks(path, data)
            size, data = image_size(data), data.get("annotations")
        return mask_set(path, data, size)


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
    Pixels of zero alpha are 0, and so is what Pascal VOC leaves open. A mask of black and white whose edges were
    smoothed when it was resized is cut at half.

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
            if image.mode == "P" and tuple((image.getpalette() or [])[3 * _VOID[0] :]) == _VOID[1]:
                labels[labels == _VOID[0]] = 0
            elif image.mode in ("L", "LA") or (grey and image.mode in ("RGB", "RGBA")):
                _cut_smoothed(labels)
        return torch.from_numpy(labels)


def _cut_smoothed(labels: np.ndarray) -> None:
    """Make a mask of black and white of one whose edges are grey; labels, which are solid, are left as they are.

    Args:
        labels: int32 [H, W] of 0 to 255, changed in place.
    """
    counts = np.bincount(labels.ravel(), minlength=_WHITE + 1)
    between = (labels > 0) & (labels < _WHITE)
    if not counts[_WHITE] or not counts[0] or np.count_nonzero(counts[1:_WHITE]) < _SHADES:
        return
    solid = between[1:-1, 1:-1].copy()
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        height, width = solid.shape
        solid &= labels[rows : rows + height, columns : columns + width] == labels[1:-1, 1:-1]
    if solid.sum() < _SOLID * between.sum():
        labels[:] = np.where(labels > _WHITE // 2, _WHITE, 0)


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


def _png_header(path: Path) -> tuple[int, int] | None:
    """Bit depth and color type of a PNG; None for another format."""
    with path.open("rb") as file:
        start = file.read(26)
    if len(start) < 26 or not start.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return start[24], start[25]
