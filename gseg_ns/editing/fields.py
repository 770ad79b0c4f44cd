"""What fields of operations may hold: whoever makes one may have read it from a file or a page."""

from __future__ import annotations

from collections.abc import Sequence

from gseg_ns.errors import GsegError
from gseg_ns.selection.packed import PackedMask

_FARTHEST = 1e7
"""Scene units: float32 has no digits left for an object that is farther away."""

_LARGEST_FACTOR = 1e6


def check_numbers(name: str, values: float | Sequence[float], least: float, most: float, count: int = 1) -> None:
    """See that a field of an operation holds `count` numbers from `least` to `most`.

    Raises:
        GsegError: it holds something else.
    """
    numbers = (values,) if count == 1 else values if isinstance(values, tuple | list) else ()
    fits = all(isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= most for v in numbers)
    if len(numbers) != count or not fits:
        needed = "a number" if count == 1 else f"{count} numbers"
        raise GsegError(f"The {name} of an edit is {values!r:.60}. Give {needed} from {least:g} to {most:g}.")


def check_factor(name: str, value: float, least: float = 0.0) -> None:
    """See that a field holds a factor of at least `least` that leaves something of numbers.

    Raises:
        GsegError: it holds something else.
    """
    check_numbers(name, value, least, _LARGEST_FACTOR)


def check_shift(name: str, values: Sequence[float]) -> None:
    """See that a field holds a place or a shift, three numbers in scene units.

    Raises:
        GsegError: it holds something else.
    """
    check_numbers(name, values, -_FARTHEST, _FARTHEST, 3)


def check_placement(translation: Sequence[float], rotation: Sequence[float], scale: float) -> None:
    """See that fields say how an object is moved, turned (quaternion w, x, y, z of any length) and scaled.

    Raises:
        GsegError: one of them does not.
    """
    check_shift("shift", translation)
    check_numbers("rotation", rotation, -_LARGEST_FACTOR, _LARGEST_FACTOR, 4)
    check_factor("scale", scale, 1 / _LARGEST_FACTOR)
    if not sum(v * v for v in rotation) > 1 / _LARGEST_FACTOR**2:
        raise GsegError("A rotation quaternion must not be zero.")


def check_masks(*masks: object) -> None:
    """See that fields hold masks.

    Raises:
        GsegError: one of them does not.
    """
    if not all(isinstance(mask, PackedMask) for mask in masks):
        raise GsegError("An edit has no mask that says which Gaussians it is about.")


def check_flag(name: str, value: object) -> None:
    """See that a field holds true or false.

    Raises:
        GsegError: it holds something else.
    """
    if not isinstance(value, bool):
        raise GsegError(f"{name} of an edit is {value!r:.60}. Give true or false.")
