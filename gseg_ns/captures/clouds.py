"""Sparse points of a scene, from a PLY of whatever tool."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gseg_ns.reading import check_ply_counts, reading

CLOUD_FILES = ("sparse_pc.ply", "points3D.ply", "points3d.ply", "point_cloud.ply", "pointcloud.ply")
"""What tools call a scene's points, where nothing names them."""

_SH_C0 = 0.28209479177387814
_COLORS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))


def read_cloud(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Points of a PLY: xyz [N, 3] float64, and rgb [N, 3] uint8, or None without colors.

    Colors are bytes, 16-bit integers, fractions, or the first spherical harmonic of Gaussians.

    Raises:
        GsegError: not a PLY, a damaged one, or one without points.
    """
    from plyfile import PlyData

    with reading(path, "a PLY of points", "Write it again as PLY."):
        check_ply_counts(path)
        return _columns(PlyData.read(str(path))["vertex"].data)


def _columns(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    fields = vertices.dtype.names or ()
    missing = [axis for axis in "xyz" if axis not in fields]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    xyz = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    for names in _COLORS:
        if all(name in fields for name in names):
            return xyz, _bytes(np.stack([vertices[name] for name in names], axis=1))
    if all(f"f_dc_{i}" in fields for i in range(3)):
        dc = np.stack([vertices[f"f_dc_{i}"].astype(np.float64) for i in range(3)], axis=1)
        return xyz, _fractions(0.5 + _SH_C0 * dc)
    return xyz, None


def _bytes(colors: np.ndarray) -> np.ndarray:
    if colors.dtype == np.uint8:
        return colors
    if np.issubdtype(colors.dtype, np.integer):
        return (colors // 257 if colors.max(initial=0) > 255 else colors).clip(0, 255).astype(np.uint8)
    finite = colors[np.isfinite(colors)]
    return _fractions(colors if finite.max(initial=0) <= 1 else colors / 255)


def _fractions(colors: np.ndarray) -> np.ndarray:
    return (np.nan_to_num(colors, nan=0.5, posinf=1, neginf=0).clip(0, 1) * 255).round().astype(np.uint8)
