"""CVAT: the XML of "CVAT for images" (masks, polygons, boxes, ellipses of all images)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.records import Size, with_content
from gseg_ns.masks.dialects.regions import Polygon, Regions, box, ellipse, filled, placed, polygon
from gseg_ns.masks.mask_set import PIXEL_MEMORY, MaskSet, Rle
from gseg_ns.reading import FREE_MEMORY, check_memory, read_bytes

_LARGEST_XML = 2**28
_ELEMENT = 400
"""Bytes that an element takes in Python with its attributes."""
_NO_AREA = ("points", "polyline", "tag", "skeleton", "cuboid", "attribute")
"""Elements that are no masks."""


class CvatDocument:
    """`annotations.xml` of an export for images.

    Raises:
        GsegError: it is damaged, or of another kind.
    """

    dialect = "CVAT XML"

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_bytes(path, _LARGEST_XML).decode("utf-8-sig")  # in others the next line would not find them
        if "<!DOCTYPE" in content or "<!ENTITY" in content:
            raise GsegError(f"{path} defines entities, which no export of CVAT does.")
        if (wanted := 2 * len(content) + _ELEMENT * content.count("<")) > max(FREE_MEMORY, 16 * len(content)):
            raise GsegError(f"{path} would take {wanted / 2**20:,.0f} MiB of memory: it is no export of CVAT.")
        root = ElementTree.fromstring(content)
        self._images: dict[str, ElementTree.Element] = {}
        if root.tag != "annotations":
            raise GsegError(f"{path} is no XML of CVAT: its root is {root.tag:.30}.")
        if root.find("track") is not None:
            raise GsegError(
                f'{path} is "CVAT for video", which does not name the images. Export "CVAT for images 1.1" or '
                '"Segmentation mask 1.1".'
            )
        for image in root.iter("image"):
            name = image.get("name", "")
            if not name or name in self._images:
                raise GsegError(f"{path} has an image without a name, or two that are called {name:.100}.")
            self._images[name] = image

    @property
    def names(self) -> dict[str, str]:
        """What images are called -> the entry that `masks` takes."""
        return {name: name for name in self._images}

    def masks(self, entry: str) -> MaskSet:
        """The masks of an image; shapes of one label and group are one mask.

        Raises:
            GsegError: one is damaged.
        """
        image = self._images[entry]
        size = int(image.attrib["height"]), int(image.attrib["width"])
        check_memory(self.path, size[0] * size[1] * PIXEL_MEMORY, f"masks of {size[1]}x{size[0]} pixels")
        found = Regions(*size)
        shapes = [shape for shape in image if shape.tag not in _NO_AREA]
        for shape in sorted(shapes, key=lambda one: int(one.get("z_order", 0))):
            try:
                rle = _mask(shape, size) if shape.tag == "mask" else _drawn(shape, size)
            except (ValueError, KeyError) as error:
                raise GsegError(f"{self.path}, {entry}: a damaged {shape.tag:.30}. Export it again.") from error
            group = shape.get("group_id")
            label = shape.get("label", "")
            if rle is not None:
                found.add(rle, 1.0, {"label": label}, (label, group) if group not in (None, "", "0") else None)
        return with_content(self.path, found.masks())


def _drawn(shape: ElementTree.Element, size: Size) -> Rle | None:
    """A polygon, box or ellipse; None where it has no area."""

    def of(*names: str) -> list[float]:
        return [float(shape.attrib[name]) for name in names]

    turned = float(shape.get("rotation", 0))
    outline: Polygon | None
    if shape.tag == "polygon":
        outline = polygon([tuple(map(float, pair.split(","))) for pair in shape.attrib["points"].split(";")])
    elif shape.tag == "box":
        left, top, right, bottom = of("xtl", "ytl", "xbr", "ybr")
        outline = box(left, top, right, bottom, turned)
    elif shape.tag == "ellipse":
        x, y, radius_x, radius_y = of("cx", "cy", "rx", "ry")
        outline = ellipse(x, y, radius_x, radius_y, turned)
    else:
        return None
    return None if outline is None else filled([outline], *size)


def _mask(shape: ElementTree.Element, size: Size) -> Rle:
    """Run lengths of a box, row by row; the first is of what is not the mask."""
    left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
    runs = np.array([int(run) for run in shape.attrib["rle"].split(",")], dtype=np.int64)
    if (
        width < 1
        or height < 1
        or width > size[1]
        or height > size[0]
        or (runs < 0).any()
        or runs.max() > width * height
    ):
        raise ValueError("run lengths beyond the image")
    if int(runs.sum()) != width * height:
        raise ValueError("run lengths that do not fill their box")
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return placed(part, left, top, *size)
