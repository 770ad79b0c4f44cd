"""Masks on disk: SA-1B JSON for overlapping scored masks, PNG for label maps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.masks.mask_set import MaskSet, rle_counts
from gseg_ns.masks.paint import PaintOrder, paint, resize_labels

MAX_PNG_LABEL = 65535
_WRITTEN_KEYS = ("segmentation", "area", "bbox", "predicted_iou")


def read_mask_set(path: Path) -> MaskSet:
    """Read SA-1B JSON: a list of records as SAM's `amg.py` writes it, or a dict with `annotations`.

    Counts may be COCO's string or a list. The score is `predicted_iou`, else COCO's `score`, else 1. Other keys of a
    record are kept in `extra`. An empty list is an image in which nothing was found.

    Raises:
        GsegError: the file cannot be read, is no such JSON, or a mask is damaged; or all of its masks are empty.
    """
    data = _read_json(path)
    size = None
    if isinstance(data, dict):
        image = data.get("image")
        if isinstance(image, dict) and isinstance(image.get("height"), int) and isinstance(image.get("width"), int):
            size = (image["height"], image["width"])
        data = data.get("annotations")
    if not isinstance(data, list):
        raise GsegError(f"{path} is not SA-1B JSON: needed a list of masks, or a dict with `annotations`.")
    rles, scores, extra = [], [], []
    for position, record in enumerate(data):
        if not isinstance(record, dict) or not isinstance(record.get("segmentation"), dict):
            raise GsegError(f"{path}, mask {position}: no run-length encoded `segmentation`. Make the masks again.")
        segmentation = record["segmentation"]
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
        score = record.get("predicted_iou", record.get("score", 1.0))
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise GsegError(f"{path}, mask {position}: the score {score!r} is no finite number.")
        scores.append(float(score))
        extra.append({key: value for key, value in record.items() if key not in _WRITTEN_KEYS})
    if size is None:
        # SAM's list says nothing of the image when it is empty; one pixel resizes to any image.
        size = (1, 1)
    masks = MaskSet(size[0], size[1], rles, torch.tensor(scores, dtype=torch.float32), extra)
    if len(masks) and not bool((masks.areas > 0).any()):
        raise GsegError(f"{path}: all {len(masks)} masks are empty. Make this file again.")
    return masks


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


def read_label_map(path: Path) -> Tensor:
    """Read a PNG of labels.

    1, 8 and 16 bits of grey and palette PNGs hold the label itself (the index, not the palette's colour). An RGB PNG
    holds grey saved as RGB where all three channels agree everywhere, else COCO's panoptic id R + 256 G + 65536 B.
    Pixels of zero alpha are 0.

    Returns:
        int32 [H, W], 0 = no label.

    Raises:
        GsegError: the file cannot be read, is no PNG, or has 16-bit colours.
    """
    from PIL import Image

    header = _png_header(path)
    if header is None:
        raise GsegError(f"{path} is not a PNG. Label maps are read from PNG files, since others change labels.")
    bits, colour_type = header
    if bits == 16 and colour_type != 0:
        raise GsegError(f"{path}: 16-bit colours hold no labels. Save grey 16-bit labels or 8-bit RGB panoptic ids.")
    try:
        with Image.open(path) as image:
            image.load()
            array = np.asarray(image).astype(np.int32)
            has_alpha = image.mode in ("LA", "RGBA")
    except (OSError, SyntaxError, ValueError) as error:
        raise GsegError(f"{path} is damaged: {error}. Make this file again.") from error
    alpha = None
    if has_alpha:
        array, alpha = array[..., :-1], array[..., -1]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 3:
        red, green, blue = np.moveaxis(array, 2, 0)
        grey = bool((red == green).all() and (green == blue).all())
        array = red if grey else red + 256 * green + 65536 * blue
    if alpha is not None:
        array = np.where(alpha == 0, 0, array)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32))


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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GsegError(f"{path} does not exist.") from error
    except OSError as error:
        raise GsegError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise GsegError(f"{path} is damaged or no JSON: {error}. Make this file again.") from error


def _compressed(counts: Any, runs: np.ndarray, height: int, width: int) -> str:
    if isinstance(counts, str):
        return counts
    from pycocotools import mask as coco

    return coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)["counts"].decode("ascii")


def _png_header(path: Path) -> tuple[int, int] | None:
    """Bit depth and colour type of a PNG; None for another format."""
    try:
        with path.open("rb") as file:
            start = file.read(26)
    except FileNotFoundError as error:
        raise GsegError(f"{path} does not exist.") from error
    except OSError as error:
        raise GsegError(f"Cannot read {path}: {error.strerror or error}.") from error
    if len(start) < 26 or not start.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return start[24], start[25]
