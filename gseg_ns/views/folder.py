"""Views of a splat as a scene in Nerfstudio's format, after which all is as with a capture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.folders import atomic_folder
from gseg_ns.pictures import contact_sheet, resized, to_bytes, write_png
from gseg_ns.rendering import Camera
from gseg_ns.splats.container import Splats
from gseg_ns.splats.points import write_points
from gseg_ns.views.drawing import Drawn, draw_view

ABOUT = "views.json"
"""In a folder of views: how it was made. By it such a folder is known."""
SHEET = "contact_sheet.png"
_CLOUD = "points3D.ply"
_PICTURES = ("images", "alpha", "depth")

_POINTS = 60_000
"""Of points3D.ply, about."""
_OPAQUE = 0.5
_DEPTH_UNIT = 1e-3
"""Scene units of a step of a 16-bit depth, as Nerfstudio takes it unless told otherwise."""
_MOST_DEPTH = 65_535
_FINE = 1000
"""Steps that a picture's depths have at least: else they are written as floats."""
_QUICK = 1
"""Level at which PNGs are compressed: a fourth of the time of the usual 6, for a fifth more of bytes."""
_THUMBNAIL = 240
_COLUMNS = 8


@dataclass(frozen=True)
class ViewScene:
    """What was written."""

    folder: Path
    names: tuple[str, ...]
    """Of the pictures, below `images`, without suffix."""


def check_free(folder: Path, overwrite: bool) -> None:
    """Refuse a folder whose content would be lost.

    Raises:
        GsegError: it is a file, or not empty and not to be overwritten, or holds something else than views.
    """
    if folder.is_dir():
        if any(folder.iterdir()):
            if not overwrite:
                raise GsegError(f"{folder} is not empty: choose another folder, or give --overwrite")
            if not (folder / ABOUT).is_file():
                raise GsegError(f"{folder} holds something else than views of a splat: choose another folder")
    elif folder.exists():
        raise GsegError(f"{folder} is a file: choose another folder")


def write_views(
    folder: Path,
    splats: Splats,
    cameras: Sequence[Camera],
    about: dict[str, Any] | None = None,
    *,
    names: Sequence[str] | None = None,
    background: float = 0.0,
    near: float | None = None,
    overwrite: bool = False,
    progress: Iterable[int] | None = None,
) -> ViewScene:
    """Take the pictures, and write them as a scene.

    The folder gets `transforms.json`, `images/`, `alpha/` (8-bit grey), `depth/` (16-bit, thousandths of a unit, as
    Nerfstudio reads it; float32 .npy in thousandths where that does not hold it), `points3D.ply` from the depths,
    `contact_sheet.png` and `views.json`. Its coordinates are the splat's. It is built beside `folder` and renamed.

    Args:
        folder: where to; made if need be.
        splats: what is photographed, on any device.
        cameras: pinhole, of any sizes.
        about: what is kept in `views.json`.
        names: of the pictures, without suffix; numbers unless given.
        background: grey of what is behind the splat.
        near: see `draw_view`.
        overwrite: replace views that are there.
        progress: the numbers of the cameras, from something that tells how far one is.

    Raises:
        GsegError: the folder is in the way or cannot be written, or there is no camera.
    """
    folder = Path(folder).resolve()
    if not cameras:
        raise GsegError(f"There is no camera for {folder}: nothing to draw")
    check_free(folder, overwrite)
    names = tuple(names or (f"view_{number:05d}" for number in range(len(cameras))))
    with atomic_folder(folder, lambda: _own_files(folder)) as staging:
        frames, thumbnails = [], []
        clouds: list[tuple[NDArray[np.float32], NDArray[np.uint8]]] = []
        for number in progress or range(len(cameras)):
            camera, name = cameras[number], names[number]
            drawn = draw_view(splats, camera, background, near)
            frames.append(_frame(staging, name, camera, drawn))
            clouds.append(_points(drawn, camera, max(_POINTS // len(cameras), 200), number))
            thumbnails.append(resized(drawn.rgb, round(_THUMBNAIL * camera.height / camera.width), _THUMBNAIL))
        points, colors = (np.concatenate(parts) for parts in zip(*clouds, strict=True))
        write_points(staging / _CLOUD, points, colors)
        rows = [thumbnails[start : start + _COLUMNS] for start in range(0, len(thumbnails), _COLUMNS)]
        write_png(staging / SHEET, contact_sheet(rows))
        images = [frame["file_path"] for frame in frames]
        # Every view is trained on: there are no photographs to hold back.
        transforms = {
            "camera_model": "OPENCV",
            "ply_file_path": _CLOUD,
            "train_filenames": images,
            "val_filenames": images[::8],
            "test_filenames": images[::8],
            "frames": frames,
        }
        (staging / "transforms.json").write_text(json.dumps(transforms, indent=1), encoding="utf-8")
        (staging / ABOUT).write_text(json.dumps(about or {}, indent=1), encoding="utf-8")
    return ViewScene(folder, names)


def _own_files(folder: Path) -> list[Path]:
    """What `write_views` has written into a folder. What others put beside it, such as masks and runs, stays."""
    below = [path for part in _PICTURES for path in (folder / part).rglob("*") if not path.is_dir()]
    return below + [folder / name for name in ("transforms.json", _CLOUD, ABOUT, SHEET) if (folder / name).is_file()]


def _frame(folder: Path, name: str, camera: Camera, drawn: Drawn) -> dict[str, Any]:
    """Write the files of a view; its entry in transforms.json."""
    image, alpha = folder / "images" / f"{name}.png", folder / "alpha" / f"{name}.png"
    depth = _write_depth(folder / "depth" / name, drawn.depth)
    for path, pixels in ((image, to_bytes(drawn.rgb)), (alpha, to_bytes(drawn.alpha))):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=_QUICK)
    matrix = camera.K.double().tolist()
    pose = torch.linalg.inv(camera.viewmat.double()) @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    return {
        "file_path": image.relative_to(folder).as_posix(),
        "depth_file_path": depth.relative_to(folder).as_posix(),
        "transform_matrix": pose.tolist(),
        "fl_x": matrix[0][0],
        "fl_y": matrix[1][1],
        "cx": matrix[0][2],
        "cy": matrix[1][2],
        "w": camera.width,
        "h": camera.height,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
    }


def _write_depth(path: Path, depth: Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = (depth / _DEPTH_UNIT).numpy()
    known = steps[steps > 0]
    if len(known) == 0 or (known.max() <= _MOST_DEPTH and float(np.median(known)) >= _FINE):
        path = path.with_name(path.name + ".png")
        Image.fromarray(np.round(steps).astype(np.uint16)).save(path, compress_level=_QUICK)
        return path
    path = path.with_name(path.name + ".npy")
    np.save(path, steps.astype(np.float32))
    return path


def _points(drawn: Drawn, camera: Camera, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Positions [n, 3] and colors [n, 3] of some opaque pixels."""
    rows, columns = torch.nonzero((drawn.alpha > _OPAQUE) & (drawn.depth > 0), as_tuple=True)
    some = np.random.default_rng([seed, 4]).permutation(len(rows))[:count]
    rows, columns = rows[some], columns[some]
    depth = drawn.depth[rows, columns].double()
    rays = torch.stack([columns + 0.5, rows + 0.5, torch.ones(len(rows))], dim=1).double()
    local = rays @ torch.linalg.inv(camera.K.double().cpu()).T * depth[:, None]
    pose = torch.linalg.inv(camera.viewmat.double().cpu())
    points = local @ pose[:3, :3].T + pose[:3, 3]
    return points.float().numpy(), to_bytes(drawn.rgb[rows, columns])
