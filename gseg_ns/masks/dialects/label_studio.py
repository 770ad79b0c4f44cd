"""Label Studio: JSON exports of brushes (its own run lengths), polygons, rectangles and ellipses."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from gseg_ns.captures.photographs import IMAGE_SUFFIXES
from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.records import score_of, with_content
from gseg_ns.masks.dialects.regions import Polygon, Regions, box, ellipse, filled, polygon
from gseg_ns.masks.mask_set import PIXEL_MEMORY, MaskSet, Rle, encode
from gseg_ns.reading import check_memory, integer, number

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What is put before the name of an uploaded file."""
_CHANNELS = 4
"""Brushes are stored as a picture with transparency; where it is opaque, there is the mask."""


class LabelStudioDocument:
    """An export in Label Studio's JSON or JSON-MIN, or a file of its cloud storage.

    Raises:
        GsegError: it is damaged.
    """

    dialect = "Label Studio"

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        self._regions: dict[str, list[dict[str, Any]]] = {}
        self._names: dict[str, str] = {}
        for task in data if isinstance(data, list) else [data]:
            name = _image_name(task)
            if name is None:
                raise GsegError(f"{path} has a task that names no image. Export the tasks with their data.")
            if name in self._regions:
                raise GsegError(f"{path} has two tasks for {name}. Export one of them.")
            self._regions[name] = _regions(task)
        for name in self._regions:
            given = PurePosixPath(name)
            plain = given.with_name(_UPLOAD.sub("", given.name)).as_posix()
            self._names[plain if plain not in self._names else name] = name

    @property
    def names(self) -> dict[str, str]:
        """What images are called -> the entry that `masks` takes."""
        return self._names

    def masks(self, entry: str) -> MaskSet:
        """The masks of an image: one a region that was drawn.

        Raises:
            GsegError: one is damaged.
            ValueError: a number is none.
        """
        regions = self._regions[entry]
        if not regions:
            return MaskSet(1, 1)  # tasks do not say the size of images; one pixel resizes to any
        size = integer(regions[0]["original_height"], 1), integer(regions[0]["original_width"], 1)
        check_memory(self.path, size[0] * size[1] * PIXEL_MEMORY, f"masks of {size[1]}x{size[0]} pixels")
        found = Regions(*size)
        for region in regions:
            value = region["value"]
            rle = self._brush(value, size) if "rle" in value else _drawn(value, size)
            if rle is not None:
                labels = next((v for key, v in value.items() if key.endswith("labels") and isinstance(v, list)), [])
                found.add(rle, score_of(region.get("score")), {"label": labels[0]} if labels else {})
        return with_content(self.path, found.masks())

    def _brush(self, value: dict[str, Any], size: tuple[int, int]) -> Rle:
        height, width = size
        codes = value["rle"]
        if not all(type(code) is int and 0 <= code < 256 for code in codes):
            raise GsegError(f"{self.path}: a brush whose `rle` are no bytes. Export it again.")
        pixels = decode_brush(bytes(codes), height * width * _CHANNELS)
        return encode(pixels.reshape(height, width, _CHANNELS)[..., -1] > 127)


def is_label_studio(data: Any) -> bool:
    """Whether parsed JSON is an export of Label Studio."""
    first = data[0] if isinstance(data, list) and data else data
    if not isinstance(first, dict):
        return False
    if "result" in first and ("task" in first or "data" in first):
        return True
    tasks = first.get("annotations", first.get("completions"))
    if isinstance(first.get("data"), dict) and isinstance(tasks, list):
        return True
    return _image_name(first) is not None and any(
        isinstance(value, list) and value and isinstance(value[0], dict) and "original_width" in value[0]
        for value in first.values()
    )


def decode_brush(data: bytes, count: int) -> np.ndarray:
    """Values [count] uint8 of Label Studio's run lengths (thi.ng/rle-pack, words of eight bits).

    Raises:
        ValueError: they are damaged or give another number of values.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    place = 0

    def take(length: int) -> int:
        nonlocal place
        if place + length > len(bits):
            raise ValueError("run lengths that are cut short")
        first, place = place // 8, place + length
        last = -(-place // 8)
        return int.from_bytes(data[first:last], "big") >> (8 * last - place) & ((1 << length) - 1)

    if take(32) != count:
        raise ValueError("run lengths of another image size")
    if take(5) + 1 != 8:
        raise ValueError("run lengths of words that are no bytes")
    sizes = [take(4) + 1 for _ in range(4)]
    out = np.zeros(count, dtype=np.uint8)
    filled_to = 0
    while filled_to < count:
        repeated = take(1)
        end = filled_to + 1 + take(sizes[take(2)])
        if end > count:
            raise ValueError("run lengths beyond the image")
        if repeated:
            out[filled_to:end] = take(8)
        else:
            length = 8 * (end - filled_to)
            if place + length > len(bits):
                raise ValueError("run lengths that are cut short")
            out[filled_to:end] = np.packbits(bits[place : place + length])
            place += length
        filled_to = end
    return out


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    """What was drawn in a task: of the first annotation that was not cancelled, else of the first prediction."""
    if isinstance(task.get("result"), list):
        results = task["result"]
    elif any(key in task for key in ("annotations", "completions", "predictions")):
        said = [one for one in task.get("annotations", task.get("completions")) or [] if isinstance(one, dict)]
        said = [one for one in said if not one.get("was_cancelled") and one.get("result")]
        chosen = next((one for one in said if one.get("ground_truth")), said[0] if said else None)
        if chosen is None:
            chosen = next((one for one in task.get("predictions") or [] if isinstance(one, dict)), {})
        results = chosen.get("result") or []
    else:  # JSON-MIN: a list of values for each control, the sizes within them
        lists = [value for value in task.values() if isinstance(value, list)]
        flat = [one for values in lists for one in values if isinstance(one, dict) and "original_width" in one]
        results = [
            {"value": one, **{key: one.get(key) for key in ("original_width", "original_height")}} for one in flat
        ]
    shapes = ("rle", "points", "x")
    return [
        one
        for one in results
        if isinstance(one.get("value"), dict) and "original_width" in one and any(key in one["value"] for key in shapes)
    ]


def _drawn(value: dict[str, Any], size: tuple[int, int]) -> Rle | None:
    """A shape in percent of the image; None where it has no area."""
    height, width = size

    def of(name: str, whole: int) -> float:
        return number(value[name], -1e4, 1e4) * whole / 100

    turned = number(value.get("rotation") or 0)
    outline: Polygon | None = None
    if "points" in value:
        outline = polygon([(number(x) * width / 100, number(y) * height / 100) for x, y in value["points"]])
    elif "radiusX" in value:
        outline = ellipse(of("x", width), of("y", height), of("radiusX", width), of("radiusY", height), turned)
    elif "height" in value:
        left, top = of("x", width), of("y", height)
        # Rectangles turn about their corner.
        outline = box(left, top, left + of("width", width), top + of("height", height), turned, about_corner=True)
    return None if outline is None else filled([outline], height, width)


def _image_name(task: dict[str, Any]) -> str | None:
    """The path of the image that a task is about."""
    inner = task.get("task")
    data = task.get("data", inner.get("data") if isinstance(inner, dict) else task)
    values = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    for value in values:
        parts = urlsplit(value)
        local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/image.jpg
        name = unquote(local[0] if local else parts.path).replace("\\", "/")
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            return name.lstrip("/")
    return None
