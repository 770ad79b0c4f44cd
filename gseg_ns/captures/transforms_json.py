"""transforms.json of Nerfstudio and of the tools that write the like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gseg_ns.captures.capture import Frame, is_rotation
from gseg_ns.captures.lenses import json_lens
from gseg_ns.captures.photographs import Photographs, exif_orientation, image_size
from gseg_ns.errors import GsegError
from gseg_ns.reading import file_path, read_bytes, reading

BLENDER_SPLITS = {"train": "transforms_train.json", "val": "transforms_val.json", "test": "transforms_test.json"}
"""Files of a scene in the layout of NeRF's Blender scenes."""


def find_transforms(data: Path) -> list[Path]:
    """The files that list a scene's frames: transforms.json, else those of a Blender scene; empty if there is none."""
    if data.is_file():
        return [data]
    if (data / "transforms.json").is_file():
        return [data / "transforms.json"]
    files = [data / name for name in BLENDER_SPLITS.values() if (data / name).is_file()]
    return files if data / BLENDER_SPLITS["train"] in files else []


def read_transforms(path: Path) -> dict[str, Any]:
    """Read a transforms.json; only that it has frames, each with a file_path, is checked.

    Raises:
        GsegError: the file is damaged or has no frames.
    """
    with reading(path, "a Nerfstudio scene", "It needs `frames` with a `file_path` each."):
        raw = read_bytes(path, 2**28)
        # Windows' editors add a byte order mark, or write UTF-16.
        meta = json.loads(raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"))
        frames = meta.get("frames") if isinstance(meta, dict) else None
        if not isinstance(frames, list):
            raise ValueError("it has no list of frames")
        for frame in frames:
            file_path(frame["file_path"], "a file_path")
        return meta


def read_frames(path: Path, meta: Mapping[str, Any], photographs: Photographs) -> list[Frame]:
    """The frames, sorted by where their photographs are, each once.

    Args:
        path: the file, for messages.
        meta: what is in it.
        photographs: of its folder.

    Raises:
        GsegError: a frame whose pose or lens cannot be understood, or two that mean one photograph and disagree.
    """
    with reading(path, "a Nerfstudio scene"):
        return _frames(path, meta, photographs)


def _frames(path: Path, meta: Mapping[str, Any], photographs: Photographs) -> list[Frame]:
    found: dict[Path, Frame] = {}
    for entry in meta["frames"]:
        name = entry["file_path"]
        where = f"{path}: {name}"
        existing = photographs.find(name)
        size = None if existing is None else image_size(existing)[::-1]
        values = {**{key: meta[key] for key in meta if key != "frames"}, **entry}
        if size is not None and existing is not None and values.get("cx") is None and values.get("cy") is None:
            swapped = (values.get("h"), values.get("w")) == size != size[::-1]
            if swapped and exif_orientation(existing) not in (6, 8):
                values |= {"w": size[0], "h": size[1]}
        mask = entry.get("mask_path")
        frame = Frame(
            name=name,
            path=existing or photographs.expected(name),
            pose=_pose(entry.get("transform_matrix"), where),
            lens=json_lens(values, size, where),
            mask=photographs.exactly(mask) if isinstance(mask, str) and mask else None,
        )
        other = found.setdefault(frame.path, frame)
        if other is not frame and not np.allclose(other.pose, frame.pose):
            raise GsegError(f"{path}: {other.name} and {name} are the same photograph, at two places: remove one.")
    return [found[key] for key in sorted(found)]


def splits(meta: Mapping[str, Any], frames: list[Frame], path: Path, photographs: Photographs) -> dict[str, list[int]]:
    """What train_filenames, val_filenames and test_filenames say: names of splits -> frames.

    Raises:
        GsegError: a name that is no frame's.
    """
    number = {frame.path: index for index, frame in enumerate(frames)}
    said: dict[str, list[int]] = {}
    for split in ("train", "val", "test"):
        names = meta.get(f"{split}_filenames")
        if not isinstance(names, list):
            continue
        chosen = []
        for name in names:
            place = (photographs.find(name) or photographs.expected(name)) if isinstance(name, str) else None
            if place not in number:
                raise GsegError(f"{path}: {split}_filenames names {name}, which is no frame: remove it from the list.")
            chosen.append(number[place])
        said[split] = sorted(set(chosen))
    return said


MOST_SCALED = 1e9
"""Largest scale between two coordinates that is believed: what is beyond leaves no number finite."""


def applied_transform(meta: Mapping[str, Any], path: Path) -> np.ndarray | None:
    """From the coordinates of the reconstruction to those of the frames, if the file says so: [4, 4] float64.

    Raises:
        GsegError: it is not such a matrix.
    """
    if "applied_transform" not in meta and "applied_scale" not in meta:
        return None
    matrix = np.eye(4)
    given = meta.get("applied_transform")
    if given is not None:
        matrix[:3] = _matrix(given, f"{path}: applied_transform")[:3]
    if not is_rotation(matrix[:3, :3]):
        raise GsegError(f"{path}: applied_transform is no rotation with a shift: remove it if you do not know it.")
    try:
        scale = float(meta.get("applied_scale", 1.0))
    except (TypeError, ValueError):
        scale = float("nan")
    if not MOST_SCALED**-1 <= scale <= MOST_SCALED:
        raise GsegError(
            f"{path}: applied_scale is {meta.get('applied_scale')!r}: it must be a positive number, up to "
            f"{MOST_SCALED:g} and down to {1 / MOST_SCALED:g}."
        )
    matrix[:3] *= scale
    return matrix


def _matrix(value: Any, where: str) -> np.ndarray:
    """A matrix [4, 4] of one of [3, 4] or [4, 4], or of a flat list of its numbers."""
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.size not in (12, 16) or (matrix.ndim != 1 and matrix.shape not in ((3, 4), (4, 4))):
        raise GsegError(f"{where} is no matrix of 3 x 4 or 4 x 4 numbers.")
    if not np.isfinite(matrix).all():
        raise GsegError(f"{where} has numbers that are not finite: remove the frame or make the file again.")
    return np.concatenate([matrix.reshape(-1, 4)[:3], [[0.0, 0, 0, 1]]])


def _pose(value: Any, where: str) -> np.ndarray:
    if value is None:
        raise GsegError(f"{where} has no transform_matrix: remove the frame or make the file again.")
    pose = _matrix(value, f"{where}: transform_matrix")
    # A camera that was scaled in a modelling tool is where it is all the same.
    length = np.linalg.norm(pose[:3, :3], axis=0)
    if (length > 0).all() and np.ptp(length) < 1e-2 * length.max():
        pose[:3, :3] /= length
    if not is_rotation(pose[:3, :3]):
        raise GsegError(
            f"{where}: transform_matrix has no rotation in its first 3 x 3 numbers. It is a camera-to-world matrix "
            "that looks along -z (OpenGL): make the file again."
        )
    return pose
