"""Colored points as a PLY, which scenes are started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIELDS = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]


def write_points(path: Path, points: NDArray[np.floating[Any]], colors: NDArray[np.uint8]) -> None:
    """Write points [N, 3] with colors [N, 3] as tools of photogrammetry do.

    Raises:
        OSError: the file cannot be written.
    """
    from plyfile import PlyData, PlyElement

    vertices = np.empty(len(points), dtype=_FIELDS)
    for (name, _), column in zip(_FIELDS, (*points.T, *colors.T), strict=True):
        vertices[name] = column
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(path))
