"""Where `gseg_ns.runs` was before it became a package: scripts that were written for that place go on working."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """What `gseg_ns.runs.run` has of that name."""
    return getattr(import_module("gseg_ns.runs.run"), name)
