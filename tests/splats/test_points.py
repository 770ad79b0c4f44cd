from __future__ import annotations

from pathlib import Path

import numpy as np
from plyfile import PlyData

from gseg_ns.captures.clouds import read_cloud
from gseg_ns.splats.points import write_points


def test_points_and_colors_come_back(tmp_path: Path) -> None:
    points = np.arange(12, dtype=np.float64).reshape(4, 3) / 8
    colors = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20
    write_points(tmp_path / "a.ply", points, colors, {"object_id": np.array([0, 1, 2, 65_535])})
    found, rgb = read_cloud(tmp_path / "a.ply")
    assert np.array_equal(found, points)
    assert rgb is not None
    assert np.array_equal(rgb, colors)
    assert PlyData.read(tmp_path / "a.ply")["vertex"]["object_id"].tolist() == [0, 1, 2, 65_535]
