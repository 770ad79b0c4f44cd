"""Masks of one image put together from whatever a file describes them by: run lengths, polygons, boxes, pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from gseg_ns.masks.mask_set import MaskSet, Rle, encode
from gseg_ns.reading import number

_FARTHEST = 1e6
"""Pixels: corners may lie outside of the image, but not anywhere."""
_LONGEST_OUTLINE = 2e6
"""Pixels; some 120 bytes of memory are taken for each."""
_ELLIPSE_CORNERS = 72

Polygon = list[float]
"""x, y, x, y, ... in pixels; the image's corner is at 0, 0."""


def polygon(points: Iterable[Sequence[Any]]) -> Polygon | None:
    """A polygon of points (x, y), None where there are too few for an area.

    Raises:
        ValueError: a coordinate is no number of sense.
    """
    flat = [number(value, -_FARTHEST, _FARTHEST, "a coordinate") for x, y in points for value in (x, y)]
    return flat if len(flat) >= 6 else None


def box(left: float, top: float, right: float, bottom: float, degrees: float = 0.0, about_corner: bool = False) -> Any:
    """A rectangle as a polygon, turned clockwise about its middle, or about its corner at left and top."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)
    return polygon(_turned(corners, degrees, corners[0] if about_corner else corners.mean(axis=0)).tolist())


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Any:
    """An ellipse as a polygon, turned clockwise about its middle."""
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    points = np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)
    return polygon(_turned(points, degrees, np.array([x, y])).tolist())


def _turned(points: np.ndarray, degrees: float, middle: np.ndarray) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle


def filled(polygons: Sequence[Polygon], height: int, width: int) -> Rle:
    """What polygons cover together.

    Raises:
        ValueError: an outline is so long that it would fill memory: COCO's code walks it in fifths of a pixel.
    """
    from pycocotools import mask as coco

    for outline in polygons:
        points = np.array(outline, dtype=float).reshape(-1, 2)
        if np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum() > _LONGEST_OUTLINE:
            raise ValueError("an outline far longer than one of an object")
    rle = coco.merge(coco.frPyObjects(list(polygons), height, width))
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def placed(part: np.ndarray, left: int, top: int, height: int, width: int) -> Rle:
    """A mask [h, w] that lies somewhere in an image; what is beyond the image is cut off."""
    whole = np.zeros((height, width), dtype=bool)
    rows = slice(max(top, 0), min(top + part.shape[0], height))
    columns = slice(max(left, 0), min(left + part.shape[1], width))
    if rows.start < rows.stop and columns.start < columns.stop:
        whole[rows, columns] = part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return encode(whole)


class Regions:
    """Masks of one image, in the making.

    Tools for drawing put what was drawn last on top; `MaskSet` has the first of equal scores on top, so that regions
    are added from the lowest to the topmost and turned round at the end.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._found: list[tuple[Rle, float, dict[str, Any]]] = []
        self._places: dict[Any, int] = {}

    def add(self, rle: Rle, score: float = 1.0, extra: dict[str, Any] | None = None, same_as: Any = None) -> None:
        """Add a region; regions with the same `same_as` are parts of one mask, whose score is the best of theirs."""
        if same_as is not None and same_as in self._places:
            from pycocotools import mask as coco

            place = self._places[same_as]
            before, best, kept = self._found[place]
            both = coco.merge([before, rle])
            joined = {"size": [self.height, self.width], "counts": both["counts"].decode("ascii")}
            self._found[place] = joined, max(best, score), kept
            return
        if same_as is not None:
            self._places[same_as] = len(self._found)
        self._found.append((rle, score, extra or {}))

    def masks(self) -> MaskSet:
        """All of them, the topmost first."""
        topmost = self._found[::-1]
        scores = torch.tensor([score for _, score, _ in topmost], dtype=torch.float32)
        extra = [kept for *_, kept in topmost]
        return MaskSet(self.height, self.width, [rle for rle, *_ in topmost], scores, extra)
