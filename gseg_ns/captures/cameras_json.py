"""cameras.json, in which the trainer of 3D Gaussian Splatting (Kerbl et al. 2023) leaves its cameras beside a splat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gseg_ns.captures.capture import Frame, Lens, is_rotation
from gseg_ns.reading import integer, number, read_json, reading, text

_ABOUT = ("a cameras.json of the 3DGS trainer", "It needs a list of cameras with a position and a rotation each.")


def read_cameras_json(path: Path) -> list[Frame]:
    """The cameras, in the splat's coordinates.

    A camera has `position` [3], its centre, and `rotation` [3][3], from its axes (x right, y down, z ahead) to the
    world's; `width`, `height`, `fx`, `fy` are the picture's.

    Raises:
        GsegError: the file is missing, damaged, or something else.
    """
    with reading(path, *_ABOUT):
        entries = read_json(path, *_ABOUT)
        if not isinstance(entries, list) or not entries:
            raise ValueError("it has no list of cameras")
        return [_frame(path, entry, index) for index, entry in enumerate(entries)]


def _frame(path: Path, entry: Any, index: int) -> Frame:
    if not isinstance(entry, dict):
        raise ValueError(f"camera {index} is no object")
    width, height = (integer(entry[name], 1, 2**16, name) for name in ("width", "height"))
    fx, fy = (number(entry[name], 1e-6, 1e9, name) for name in ("fx", "fy"))
    pose = np.eye(4)
    pose[:3, 3] = [number(value, -1e9, 1e9, "a position") for value in _list(entry["position"], "position")]
    rows = [_list(row, "rotation") for row in _list(entry["rotation"], "rotation")]
    pose[:3, :3] = [[number(value, -2, 2, "a rotation") for value in row] for row in rows]
    if not is_rotation(pose[:3, :3]):
        raise ValueError(f"the rotation of camera {index} is none")
    name = text(entry.get("img_name", f"{index:05d}"), "img_name")
    lens = Lens("perspective", width, height, fx, fy, width / 2, height / 2)
    return Frame(name, path.parent / name, pose @ np.diag([1.0, -1, -1, 1]), lens)


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{what} is no list of three")
    return value
