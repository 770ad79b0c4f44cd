"""What a page asks for, checked as anything that a browser sends; nothing of it is trusted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, cast, get_args

from gseg_ns.selection.selection import Mode
from gseg_ns.viewer.commands import is_plain

LONGEST = 2**16
"""Bytes of a message."""

_MOST_VALUES = 4096
_MOST_POINTS = 2000
_LARGEST = 1e7
"""Of coordinates; of pixels it is none."""
_WIDEST = 16_384  # pixels


@dataclass(frozen=True)
class Seen:
    """The view that a browser shows."""

    pose: tuple[float, ...]
    """Camera to world [4, 4] by columns, OpenGL, in the page's coordinates."""
    fov: float
    """Vertical, in degrees."""
    width: int
    height: int


@dataclass(frozen=True)
class Asked:
    """One thing that a page asks for."""

    number: int
    """Which the answer names."""
    name: str
    values: list[Any]
    """Numbers, texts, booleans, None."""
    mode: Mode
    view: Seen | None = None
    points: tuple[tuple[float, float], ...] = ()
    """Pixels of the view."""


def read_message(raw: Any) -> Asked:
    """Read a message.

    Raises:
        ValueError: it is none of a page of ours.
    """
    if not isinstance(raw, str) or len(raw) > LONGEST:
        raise ValueError("no text, or a long one")
    try:
        found = json.loads(raw)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(found, dict):
        raise ValueError("no message")
    number, name, values, mode = (found.get(key) for key in ("number", "name", "values", "mode"))
    if type(number) is not int or not 0 <= number < 2**53 or not isinstance(name, str) or len(name) > 32:
        raise ValueError("no name")
    if not isinstance(values, list) or len(values) > _MOST_VALUES or not all(is_plain(one) for one in values):
        raise ValueError("no values")
    if mode not in get_args(Mode):
        raise ValueError("no mode")
    return Asked(number, name, values, cast(Mode, mode), _view(found.get("view")), _points(found.get("points", [])))


def _view(found: Any) -> Seen | None:
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != 19 or not all(_is_number(one) for one in found):
        raise ValueError("no view")
    fov, width, height = found[16:]
    if not (1 <= fov <= 170 and 1 <= width <= _WIDEST and 1 <= height <= _WIDEST):
        raise ValueError("no view")
    return Seen(tuple(float(one) for one in found[:16]), float(fov), int(width), int(height))


def _points(found: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(found, list) or len(found) > _MOST_POINTS:
        raise ValueError("no points")
    for point in found:
        if not isinstance(point, list) or len(point) != 2 or not all(_is_number(one) for one in point):
            raise ValueError("no point")
    return tuple((float(x), float(y)) for x, y in found)


def _is_number(found: Any) -> bool:
    return (
        isinstance(found, int | float)
        and not isinstance(found, bool)
        and abs(found) < _LARGEST
        and math.isfinite(found)
    )
