"""LabelMe and X-AnyLabeling: a JSON file beside each image, with shapes that were drawn."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.records import Size, image_size, score_of, with_content
from gseg_ns.masks.dialects.regions import Polygon, Regions, box, ellipse, filled, placed, polygon
from gseg_ns.masks.mask_set import PIXEL_MEMORY, MaskSet, Rle
from gseg_ns.reading import check_memory, number

_NO_AREA = ("point", "points", "line", "linestrip")
"""Shapes that mark a place: they are no masks."""


def labelme_masks(path: Path, data: dict[str, Any]) -> MaskSet:
    """The masks of a LabelMe file; shapes of one label and one `group_id` are one mask.

    Raises:
        GsegError: the file does not say the image's size, or a shape is of an unknown kind.
        ValueError: a number is none.
    """
    size = image_size(data)
    if size is None:
        raise GsegError(
            f"{path} has no imageHeight and imageWidth, so that its image's size is not known. Save it again."
        )
    check_memory(path, size[0] * size[1] * PIXEL_MEMORY, f"masks of {size[1]}x{size[0]} pixels")
    shapes = data["shapes"]
    if not isinstance(shapes, list):
        raise GsegError(f"{path}: its shapes are no list. Make this file again.")
    found = Regions(*size)
    # Scores say what is on top. Without any, what was drawn last is.
    scored = any(shape.get("score") is not None for shape in shapes)
    for position, shape in list(enumerate(shapes))[:: -1 if scored else 1]:
        kind = shape.get("shape_type") or "polygon"
        if kind in _NO_AREA:
            continue
        try:
            rle = _mask(shape, size) if kind == "mask" else _drawn(kind, shape, size)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise GsegError(f"{path}, mask {position}: a damaged {kind!r:.30}. Draw it again.") from error
        if rle is None:
            continue
        group = shape.get("group_id")
        extra = {key: shape[key] for key in ("label", "group_id") if shape.get(key) is not None}
        found.add(rle, score_of(shape.get("score")), extra, None if group is None else (str(shape.get("label")), group))
    return with_content(path, found.masks())


def _drawn(kind: str, shape: dict[str, Any], size: Size) -> Rle | None:
    points = [(number(x), number(y)) for x, y in shape["points"]]
    outline: Polygon | None
    if kind == "rectangle" and len(points) == 2:
        outline = box(*points[0], *points[1])
    elif kind == "circle":
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        outline = ellipse(x, y, radius, radius)
    elif kind in ("polygon", "rectangle", "rotation", "cuboid", "quadrilateral"):
        outline = polygon(points)
    else:
        raise ValueError(kind)
    return None if outline is None else filled([outline], *size)


def _mask(shape: dict[str, Any], size: Size) -> Rle:
    """A mask that is a PNG in base64, which fills a box."""
    from PIL import Image

    (left, top), (right, bottom) = [(round(number(x)), round(number(y))) for x, y in shape["points"]]
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True)), formats=("PNG",)) as picture:
        # Its size is that of the box with both its corners' pixels.
        if (
            picture.size[0] > right - left + 1
            or picture.size[1] > bottom - top + 1
            or picture.width > 2 * size[1]
            or picture.height > 2 * size[0]
        ):
            raise ValueError("a mask larger than its box")
        part = np.asarray(picture.convert("L")) > 0
    return placed(part, left, top, *size)
