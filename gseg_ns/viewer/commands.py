"""What pages ask for, as they send it: read, and checked as anything else that a browser sends."""

from __future__ import annotations

import json
import math
from typing import Any

from gseg_ns.errors import GsegError

_LONGEST = 4096  # characters of a message
_LARGEST = 2**31  # of numbers: groups, and how many things were asked for


def read_commands(text: Any) -> tuple[str, list[tuple[int, str, list[Any]]]]:
    """The name of a page, and what it asks for: number, name and values each.

    Raises:
        ValueError: the text is none of the script's.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ValueError("no text, or a long one")
    try:
        page, listed = json.loads(text)
        commands = [(entry[0], entry[1], entry[2:]) for entry in listed]
    except (TypeError, LookupError, RecursionError, ValueError) as error:
        raise ValueError("no commands") from error
    for number, name, values in commands:
        if type(number) is not int or not isinstance(name, str) or not all(is_plain(v) for v in values):
            raise ValueError("no command")
        if not is_plain(number):
            raise ValueError("no number")
    if not isinstance(page, str) or len(page) > 32:
        raise ValueError("no page")
    return page, commands


def is_plain(found: Any) -> bool:
    """Whether something is a text, a boolean, nothing, or a number that is one and not too large."""
    if isinstance(found, int | float):
        return abs(found) < _LARGEST  # nor NaN, which is less than nothing
    return found is None or isinstance(found, str)


def value(values: list[Any], index: int, kind: type) -> Any:
    """A value of a command.

    Raises:
        GsegError: it is not there, or of another kind. No page of ours sends such a one.
    """
    if index >= len(values) or type(values[index]) is not kind:
        raise GsegError("The page asked for something that the viewer does not understand. Reload it.")
    return values[index]


def number(values: list[Any], index: int, least: float, most: float) -> float:
    """A number of a command, brought between two others.

    Raises:
        GsegError: it is not there, or none.
    """
    found = values[index] if index < len(values) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise GsegError("That is no number. Type one.")
    return float(min(max(found, least), most))
