from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gseg_ns.captures.cameras_json import read_cameras_json
from gseg_ns.errors import GsegError

ENTRY: dict[str, Any] = {
    "id": 0, "img_name": "DSC_1", "width": 64, "height": 48, "position": [1.0, 2.0, 3.0],
    "rotation": [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "fx": 50.0, "fy": 51.0,
}  # fmt: skip


def test_a_camera_stands_at_its_position_and_looks_along_its_third_axis(tmp_path: Path) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps([ENTRY]))
    (frame,) = read_cameras_json(path)
    assert frame.name == "DSC_1"
    assert frame.pose[:3, 3].tolist() == [1, 2, 3]
    # Ahead is -z of the pose, and the rotation's third column; up is against the second.
    assert (-frame.pose[:3, 2]).tolist() == [1, 0, 0]
    assert frame.pose[:3, 1].tolist() == [0, 0, -1]
    lens = frame.lens
    assert (lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy) == (64, 48, 50, 51, 32, 24)
    assert not np.any(lens.distortion)


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 2]]},
        {"rotation": [[1, 0, 0], [0, 1, 0]]},
        {"position": [1, 2]},
        {"position": [1, 2, "x"]},
        {"width": 0},
        {"fx": None},
        {"img_name": 3},
    ],
)
def test_what_is_no_camera_is_one_message(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps([ENTRY | change]))
    with pytest.raises(GsegError, match=r"cameras\.json is damaged or not"):
        read_cameras_json(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[3]", "[{}]", "nonsense"])
def test_what_is_no_list_of_cameras_is_one_message(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(content)
    with pytest.raises(GsegError, match=r"cameras\.json"):
        read_cameras_json(path)
