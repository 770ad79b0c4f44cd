"""COLMAP models, binary and text: cameras, poses and points.

pycolmap is not used: it wants all files of a model, cuts names at spaces in text models, and reads on without end where
`points3D.bin` has been cut short.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gseg_ns.captures.capture import Lens
from gseg_ns.captures.lenses import COLMAP_LENSES, colmap_lens
from gseg_ns.errors import GsegError
from gseg_ns.reading import file_path, read_bytes, reading

_ABOUT = ("a COLMAP model", "Export it again from COLMAP.")
_LARGEST = 2**32

_DEEPEST = 4
"""Folders below the scene's in which a model is looked for."""

FOLDERS = ("sparse", "colmap/sparse", "dense/sparse", "distorted/sparse", "colmap", "model", ".")
"""Where models are looked for, in this order: the folder itself and its numbered subfolders."""


@dataclass(frozen=True)
class ColmapImage:
    """A registered photograph of a model."""

    name: str
    camera: int
    world_to_camera: np.ndarray
    """[4, 4] float64; the camera looks along +z, y is down (OpenCV)."""

    def pose(self) -> np.ndarray:
        """Camera to COLMAP's world [4, 4]; the camera looks along -z, y is up (OpenGL)."""
        return np.linalg.inv(self.world_to_camera) @ np.diag([1.0, -1, -1, 1])


@dataclass(frozen=True)
class ColmapModel:
    """A reconstruction."""

    folder: Path
    lenses: dict[int, Lens]
    images: list[ColmapImage]
    """Sorted by COLMAP's number."""


def find_models(scene: Path) -> list[Path]:
    """Folders with a COLMAP model in a scene's folder, in the order in which they are preferred among equals.

    Where the usual places have none, models anywhere below are taken.
    """
    found: list[Path] = []
    for name in FOLDERS:
        parent = scene / name
        if not parent.is_dir():
            continue
        numbered = [child for child in parent.iterdir() if child.is_dir() and child.name.isdecimal()]
        for folder in [*sorted(numbered, key=lambda child: int(child.name)), parent]:
            if has_model(folder) and folder.resolve() not in [other.resolve() for other in found]:
                found.append(folder)
    return found or _models_below(scene)


def _models_below(scene: Path, depth: int = _DEEPEST) -> list[Path]:
    """Folders with a model anywhere below a scene's folder, where none is in the usual places."""
    found: list[Path] = []
    try:
        children = sorted(child for child in scene.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return found
    for child in children:
        if has_model(child):
            found.append(child)
        if depth > 1:
            found += _models_below(child, depth - 1)
    return found


def has_model(folder: Path) -> bool:
    """Whether a folder holds cameras and poses."""
    return any(
        (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file()
        for suffix in (".bin", ".txt")
    )


def count_images(folder: Path) -> int:
    """How many photographs a model has, without the model being read where it is binary.

    Raises:
        GsegError: the file is damaged.
    """
    path = _file(folder, "images")
    assert path is not None
    with reading(path, *_ABOUT):
        if path.suffix == ".bin":
            return _Binary(path).take("<Q")[0]
        return sum(1 for _ in _text_images(path))


def images_size(folder: Path) -> int:
    """Bytes of the file of a model's photographs: the same for copies of one model."""
    path = _file(folder, "images")
    assert path is not None
    with reading(path, *_ABOUT):
        return path.stat().st_size


def read_model(folder: Path) -> ColmapModel:
    """Read cameras and poses of a model, binary where there are both.

    Raises:
        GsegError: no model, a damaged file, or cameras that cannot be described.
    """
    cameras, images = _file(folder, "cameras"), _file(folder, "images")
    if cameras is None or images is None:
        raise GsegError(f"{folder} is no COLMAP model: it needs cameras and images, .bin or .txt.")
    with reading(cameras, *_ABOUT):
        entries = _binary_cameras(cameras) if cameras.suffix == ".bin" else _text_cameras(cameras)
        raw = {number: rest for number, *rest in entries}
    with reading(images, *_ABOUT):
        numbered = list(_binary_images(images) if images.suffix == ".bin" else _text_images(images))
    numbered.sort(key=lambda entry: entry[0])
    registered = [image for _, image in numbered]
    lenses: dict[int, Lens] = {}
    for image in registered:
        if image.camera not in raw:
            raise GsegError(f"{images} has {image.name} with camera {image.camera}, which {cameras.name} lacks.")
        if not np.isfinite(image.world_to_camera).all():
            raise GsegError(f"{images}: the pose of {image.name} is not finite: remove it from the model.")
        if image.camera not in lenses:
            model, width, height, params = raw[image.camera]
            lenses[image.camera] = colmap_lens(model, width, height, params, f"{cameras}: camera {image.camera}")
    return ColmapModel(folder, lenses, registered)


def read_points(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The points of a model in COLMAP's world: xyz [N, 3] float64, rgb [N, 3] uint8; None without points3D.bin or .txt.

    Raises:
        GsegError: the file is damaged.
    """
    path = _file(folder, "points3D")
    if path is None:
        return None
    with reading(path, *_ABOUT):
        points = list(_binary_points(path) if path.suffix == ".bin" else _text_points(path))
        xyz = np.array([point[:3] for point in points], dtype=np.float64).reshape(-1, 3)
        rgb = np.array([point[3:] for point in points], dtype=np.float64).reshape(-1, 3)
        return xyz, np.nan_to_num(rgb).clip(0, 255).astype(np.uint8)


def _file(folder: Path, name: str) -> Path | None:
    """The file of a model; binary and text are never mixed where one kind is whole."""
    suffixes = (".bin", ".txt")
    for suffix in suffixes:
        if has_model(folder) and not (
            (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file()
        ):
            continue
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    return next((folder / f"{name}{s}" for s in suffixes if (folder / f"{name}{s}").is_file()), None)


class _Binary:
    """A binary file, read from its start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = read_bytes(path, _LARGEST)
        self._at = 0

    def take(self, layout: str) -> tuple:
        try:
            values = struct.unpack_from(layout, self._data, self._at)
        except struct.error:
            raise self.damaged("it ends too early") from None
        self._at += struct.calcsize(layout)
        return values

    def skip(self, size: int) -> None:
        self._at += size
        if size < 0 or self._at > len(self._data):
            raise self.damaged("it ends too early")

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self.damaged("it ends too early")
        raw = self._data[self._at : end]
        self._at = end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("cp1252", errors="replace")  # written on Windows

    def damaged(self, how: str) -> GsegError:
        return GsegError(f"{self.path} is damaged ({how}): copy it again, or export the model once more from COLMAP.")


def _binary_cameras(path: Path) -> Iterator[tuple]:
    file = _Binary(path)
    for _ in range(file.take("<Q")[0]):
        number, model, width, height = file.take("<iiQQ")
        if model not in COLMAP_LENSES:
            raise file.damaged(f"camera {number} is of model {model}, which is not known here")
        name, count = COLMAP_LENSES[model]
        yield number, name, width, height, file.take(f"<{count}d")


def _binary_images(path: Path) -> Iterator[tuple[int, ColmapImage]]:
    file = _Binary(path)
    for _ in range(file.take("<Q")[0]):
        number, *pose, camera = file.take("<i7di")
        name = file.text()
        file.skip(24 * file.take("<Q")[0])
        yield number, _image(name, camera, pose, path)


def _binary_points(path: Path) -> Iterator[tuple]:
    file = _Binary(path)
    for _ in range(file.take("<Q")[0]):
        _, x, y, z, r, g, b, _, track = file.take("<Q3d3BdQ")
        file.skip(8 * track)
        yield x, y, z, r, g, b


def _lines(path: Path) -> list[str]:
    raw = read_bytes(path, _LARGEST)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    return [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def _bad_line(path: Path, number: int, line: str) -> GsegError:
    return GsegError(f"{path}, line {number}: {line[:80]!r} is not what COLMAP writes. Export the model again as text.")


def _text_cameras(path: Path) -> Iterator[tuple]:
    for number, line in enumerate(_lines(path), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            camera, model, width, height, *params = line.split()
            yield int(camera), model, int(float(width)), int(float(height)), [float(value) for value in params]
        except ValueError:
            raise _bad_line(path, number, line) from None


def _text_images(path: Path) -> Iterator[tuple[int, ColmapImage]]:
    """Two lines a photograph; the second, its points, is empty, or missing altogether, where a tool has none."""
    header = True
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith("#"):
            continue
        # An empty line is that of the points; several of them, or one before a photograph, mean nothing.
        if not line:
            header = True
            continue
        parts = line.split(maxsplit=9)
        if not header and not _is_header(parts):
            header = True
            continue
        try:
            image, *pose = int(parts[0]), *map(float, parts[1:8])
            camera, name = int(parts[8]), parts[9]
        except (ValueError, IndexError):
            raise _bad_line(path, number, line) from None
        header = False
        yield image, _image(name, camera, pose, path)


def _is_header(parts: list[str]) -> bool:
    """Whether the line of a photograph, which ends in its name; a line of points has numbers alone, three a point."""
    if len(parts) < 10:
        return False
    try:
        [float(part) for part in parts[9].split()]
    except ValueError:
        return True
    return False


def _text_points(path: Path) -> Iterator[tuple]:
    for number, line in enumerate(_lines(path), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            yield tuple(float(value) for value in line.split(maxsplit=7)[1:7])
        except ValueError:
            raise _bad_line(path, number, line) from None


def _image(name: str, camera: int, pose: list[float], path: Path) -> ColmapImage:
    w, x, y, z = np.array(pose[:4], dtype=np.float64) / (np.linalg.norm(pose[:4]) or np.nan)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = pose[4:7]
    file_path(name, "the name of a photograph")
    return ColmapImage(name, camera, matrix)
