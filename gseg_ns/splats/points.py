"""Colored points as a PLY, which scenes are started from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIELDS = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]


def write_points(
    path: Path,
    points: NDArray[np.floating[Any]],
    colors: NDArray[np.uint8],
    labels: Mapping[str, NDArray[np.integer[Any]]] | None = None,
) -> None:
    """Write points [N, 3] with colors [N, 3] as tools of photogrammetry do.

    Args:
        path: the file.
        points: [N, 3].
        colors: [N, 3].
        labels: further columns [N] of 16 bits, by name.

    Raises:
        OSError: the file cannot be written.
    """
    from plyfile import PlyData, PlyElement

    labels = labels or {}
    vertices = np.empty(len(points), dtype=[*_FIELDS, *((name, "u2") for name in labels)])
    for (name, _), column in zip(_FIELDS, (*points.T, *colors.T), strict=True):
        vertices[name] = column
    for name, column in labels.items():
        vertices[name] = column
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(path))
