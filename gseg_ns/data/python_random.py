"""The state of Python's random numbers as what a checkpoint can hold."""

from __future__ import annotations

from typing import Any

import torch


def python_state(state: tuple[Any, ...]) -> list[Any]:
    """What `random.Random.getstate` says: version, [625] int64, the next normal number or None."""
    version, words, gauss = state
    return [version, torch.tensor(words), gauss]


def from_python_state(state: list[Any]) -> tuple[Any, ...]:
    """What `random.Random.setstate` takes."""
    version, words, gauss = state
    return version, tuple(words.tolist()), gauss
