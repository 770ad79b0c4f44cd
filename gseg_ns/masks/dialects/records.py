"""Records of masks as COCO and SA-1B have them: a segmentation and a score each."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.regions import filled
from gseg_ns.masks.mask_set import MOST_TABLE, PIXEL_MEMORY, MaskSet, Rle, encode, rle_counts
from gseg_ns.reading import check_memory, integer, number

Size = tuple[int, int]
"""Height and width."""

_LARGEST_SCORE = 1e6
"""Scores are probabilities by right, but nothing here depends on it."""
_WRITTEN_KEYS = ("segmentation", "area", "bbox", "predicted_iou")


def mask_set(path: Path, records: Any, size: Size | None) -> MaskSet:
    """The masks of one image.

    Args:
        path: the file, for messages.
        records: a list of dicts, each with `segmentation` and maybe a score (`predicted_iou`, else `score`, also as a
            list of one number; 1 where there is none).
        size: of the image, where the file says it: polygons need it.

    Raises:
        GsegError: a record is damaged or of another kind.
        ValueError: a number is none.
    """
    if not isinstance(records, list):
        raise GsegError(f"{path} is not SA-1B JSON: needed a list of masks, or a dict with `annotations`.")
    if size is not None:
        check_memory(path, size[0] * size[1] * PIXEL_MEMORY, f"masks of {size[1]}x{size[0]} pixels")
    rles, scores, extra = [], [], []
    for position, record in enumerate(records):
        if size is not None and isinstance(record, dict) and _is_speck(record.get("segmentation")):
            continue
        segmentation = _segmentation(record.get("segmentation"), size) if isinstance(record, dict) else None
        if segmentation is None:
            raise GsegError(
                f"{path}, mask {position}: no run-length encoded `segmentation` and no polygon of an image "
                "whose size is known. Make the masks again."
            )
        try:
            rle = checked(segmentation)
        except GsegError as error:
            raise GsegError(f"{path}, mask {position}: {error}. Make this file again.") from error
        height, width = rle["size"]
        if size is None:
            size = (height, width)
        if (height, width) != size:
            raise GsegError(f"{path}, mask {position}: size {height}x{width}, but the image has {size[0]}x{size[1]}.")
        rles.append(rle)
        try:
            scores.append(score_of(record.get("predicted_iou", record.get("score"))))
        except ValueError as error:
            raise GsegError(f"{path}, mask {position}: {error}") from error
        extra.append({key: value for key, value in record.items() if key not in _WRITTEN_KEYS})
    if size is None:
        # SAM's list says nothing of the image when it is empty; one pixel resizes to any image.
        size = (1, 1)
    return with_content(path, MaskSet(size[0], size[1], rles, torch.tensor(scores, dtype=torch.float32), extra))


def with_content(path: Path, masks: MaskSet) -> MaskSet:
    """The same masks, of which some is not empty unless there are none.

    Raises:
        GsegError: all are empty, or the image is too large for such a file, or cut into too many regions.
    """
    check_memory(path, masks.height * masks.width * PIXEL_MEMORY, f"masks of {masks.width}x{masks.height} pixels")
    if masks.table_size > MOST_TABLE:
        raise GsegError(f"{path}: {len(masks)} masks that cut their image into too many regions. Make fewer masks.")
    if len(masks) and not bool((masks.areas > 0).any()):
        raise GsegError(f"{path}: all {len(masks)} masks are empty. Make this file again.")
    return masks


def score_of(value: Any) -> float:
    """A score as a file has it, also as a list of one number; 1 where it has none.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, list) and len(value) == 1:  # as Grounded-SAM-2 writes it
        value = value[0]
    if value is None:
        return 1.0
    try:
        return number(value, -_LARGEST_SCORE, _LARGEST_SCORE)
    except ValueError as error:
        raise ValueError(f"the score {str(value)[:20]!r} is no finite number.") from error


def image_size(data: dict[str, Any]) -> Size | None:
    """Height and width of the image: of SA-1B, COCO, Grounded-SAM-2, LabelMe and X-AnyLabeling; None where not said."""
    images = data.get("images")
    holders: list[tuple[Any, str, str]] = [
        (data.get("image"), "height", "width"),
        (images[0] if isinstance(images, list) and len(images) == 1 else None, "height", "width"),
        (data, "img_height", "img_width"),
        (data, "imageHeight", "imageWidth"),
        (data, "height", "width"),
    ]
    for holder, height, width in holders:
        if isinstance(holder, dict) and _is_whole(holder.get(height)) and _is_whole(holder.get(width)):
            return integer(int(holder[height]), 1), integer(int(holder[width]), 1)
    return None


def _is_whole(value: Any) -> bool:
    """Whether a size is a whole number, which some tools write with a decimal point."""
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def checked(segmentation: dict[str, Any]) -> Rle:
    """Run lengths as `MaskSet` keeps them: compressed, and known to fill the image.

    Raises:
        GsegError: they do not.
    """
    counts = segmentation.get("counts")
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):  # Python's way to show bytes, written by mistake
        try:
            counts = ast.literal_eval(counts).decode("ascii")
        except (ValueError, SyntaxError, UnicodeDecodeError) as error:
            raise GsegError("run lengths that are neither COCO's string nor a list of integers") from error
        segmentation = {**segmentation, "counts": counts}
    runs = rle_counts(segmentation)
    height, width = segmentation["size"]
    if not isinstance(counts, str):
        from pycocotools import mask as coco

        whole = {"size": [height, width], "counts": runs.tolist()}
        counts = coco.frPyObjects(whole, height, width)["counts"].decode("ascii")
    return {"size": [height, width], "counts": counts}


def _is_speck(found: Any) -> bool:
    """Whether a segmentation is of polygons that have too few corners for an area: tools leave some behind."""
    return (
        isinstance(found, list)
        and len(found) > 0
        and all(isinstance(outline, list) and len(outline) < 6 and len(outline) % 2 == 0 for outline in found)
        and all(
            isinstance(value, int | float) and not isinstance(value, bool) for outline in found for value in outline
        )
    )


def _is_grid(found: list[Any]) -> bool:
    """Whether nested lists are the pixels of a mask, as 0 and 1."""
    width = len(found[0]) if isinstance(found[0], list) else 0
    return (
        width > 1
        and len(found) > 1
        and all(isinstance(row, list) and len(row) == width for row in found)
        and all(value == 0 or value == 1 for row in found for value in row)
    )


def _segmentation(found: Any, size: Size | None) -> dict[str, Any] | None:
    """The run lengths of a record: its own, or those of its polygons or pixels; None where it has none."""
    if isinstance(found, dict):
        return found
    if not isinstance(found, list) or not found:
        return None
    if _is_grid(found):
        return encode(np.array(found, dtype=bool))
    if size is None:
        return None
    if all(isinstance(value, int | float) for value in found):  # one polygon that is not in a list of polygons
        found = [found]
    polygons = [[number(value, -1e6, 1e6) for value in polygon] for polygon in found if len(polygon) >= 6]
    if not polygons or any(len(polygon) % 2 for polygon in polygons):
        return None
    return filled(polygons, *size)
