from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from gseg_ns.captures.clouds import read_cloud
from gseg_ns.errors import GsegError

POINTS = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], dtype=np.float32)
BYTES = np.array([[255, 128, 0], [1, 2, 3], [60, 70, 80]])


def save(path: Path, colors: dict[str, Any], form: str = "=", faces: bool = False) -> Path:
    """Points as PLY; `form` is the byte order, or "text" with the line ends of Windows."""
    columns = {**dict(zip("xyz", POINTS.T, strict=True)), **colors}
    vertices = np.empty(len(POINTS), dtype=[(name, np.asarray(column).dtype) for name, column in columns.items()])
    for name, column in columns.items():
        vertices[name] = column
    elements = [PlyElement.describe(vertices, "vertex")]
    if faces:
        elements.append(PlyElement.describe(np.zeros(2, dtype=[("vertex_indices", "i4", (3,))]), "face"))
    PlyData(elements, text=form == "text", byte_order="=" if form == "text" else form).write(str(path))
    if form == "text":
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    return path


def named(colors: np.ndarray, names: str = "red green blue") -> dict[str, np.ndarray]:
    return dict(zip(names.split(), colors.T, strict=True))


@pytest.mark.parametrize(
    "colors",
    [
        named(BYTES.astype(np.uint8)),
        named((BYTES * 257).astype(np.uint16)),
        named((BYTES / 255).astype(np.float32)),
        named(BYTES.astype(np.float32)),
        named(BYTES.astype(np.uint8), "r g b"),
        named(BYTES.astype(np.uint8), "diffuse_red diffuse_green diffuse_blue"),
        named(((BYTES / 255 - 0.5) / 0.28209479177387814).astype(np.float32), "f_dc_0 f_dc_1 f_dc_2"),
    ],
    ids=["bytes", "16 bits", "fractions", "floats of bytes", "r g b", "diffuse", "harmonics"],
)
def test_colors_of_other_tools(tmp_path: Path, colors: dict[str, np.ndarray]) -> None:
    xyz, rgb = read_cloud(save(tmp_path / "a.ply", colors))
    assert np.array_equal(xyz, POINTS)
    assert rgb is not None
    assert np.array_equal(rgb, BYTES)


@pytest.mark.parametrize("form", ["<", ">", "text"])
@pytest.mark.parametrize("faces", [False, True])
def test_encodings_and_meshes(tmp_path: Path, form: str, faces: bool) -> None:
    xyz, rgb = read_cloud(save(tmp_path / "a.ply", named(BYTES.astype(np.uint8)), form, faces))
    assert np.array_equal(xyz, POINTS)
    assert np.array_equal(rgb, BYTES)  # type: ignore[arg-type]


def test_colors_that_are_none(tmp_path: Path) -> None:
    assert read_cloud(save(tmp_path / "a.ply", {"intensity": np.ones(3, np.float32)}))[1] is None
    broken = (BYTES / 255).astype(np.float32)
    broken[1] = np.nan
    rgb = read_cloud(save(tmp_path / "a.ply", named(broken)))[1]
    assert rgb is not None
    assert rgb[1].tolist() == [128, 128, 128]


@pytest.mark.parametrize("kind", ["another element", "no z", "PCD"])
def test_what_is_no_cloud_is_one_message(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.ply"
    if kind == "PCD":
        path.write_text("# .PCD v0.7\nVERSION 0.7\n")
    else:
        fields = np.zeros(3, dtype=[("x", "f4"), ("y", "f4")])
        PlyData([PlyElement.describe(fields, "face" if kind == "another element" else "vertex")]).write(str(path))
    with pytest.raises(GsegError, match=r"a\.ply is damaged or not a PLY of points"):
        read_cloud(path)
