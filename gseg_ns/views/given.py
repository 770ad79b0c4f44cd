"""Cameras that somebody has: of a trainer, a scene, a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from gseg_ns.captures import colmap
from gseg_ns.captures.agreement import seen_part
from gseg_ns.captures.cameras_json import read_cameras_json
from gseg_ns.captures.capture import Frame, Lens
from gseg_ns.captures.reading import read_capture
from gseg_ns.captures.transforms_json import find_transforms
from gseg_ns.errors import GsegError
from gseg_ns.files import is_below
from gseg_ns.rendering import Camera
from gseg_ns.splats.container import Splats
from gseg_ns.views.solids import Floats

Tell = Callable[[str], None]

_NOTHING = 0.02
"""Share of Gaussians that cameras must see to be of the same scene and frame."""


def read_cameras(path: Path, tell: Tell) -> list[list[Frame]]:
    """The cameras of a file or folder, once for each frame of coordinates in which the splat may lie.

    Args:
        path: cameras.json, transforms.json, or a folder with one of the latter or with a COLMAP model.
        tell: is told what a user should know.

    Raises:
        GsegError: there are no cameras, or they cannot be understood.
    """
    if not path.exists():
        raise GsegError(f"{path}, given with --cameras, does not exist")
    if path.is_dir() and (path / "cameras.json").is_file() and not find_transforms(path):
        path = path / "cameras.json"
    if path.is_file() and path.name.lower() == "cameras.json":
        return [read_cameras_json(path)]
    if path.is_file() and path.suffix.lower() != ".json":
        raise GsegError(
            f"{path}, given with --cameras, is none of: cameras.json, transforms.json, a folder with a COLMAP model, "
            "config.yml of a run"
        )
    if path.is_dir() and colmap.has_model(path):
        capture, _ = read_capture(path, tell, colmap_path=Path())
    else:
        capture, _ = read_capture(path, tell)
    original = np.linalg.inv(capture.from_original)
    return [[placed(frame, original) for frame in capture.frames], capture.frames]


def placed(frame: Frame, similarity: Floats) -> Frame:
    """A frame in other coordinates.

    Args:
        frame: of a camera.
        similarity: [4, 4], to them.
    """
    pose = similarity @ frame.pose
    pose[:3, :3] /= np.cbrt(np.linalg.det(pose[:3, :3]))
    return replace(frame, pose=pose)


def fitting(frames: Sequence[list[Frame]], splats: Splats, path: Path) -> list[Frame]:
    """Of the same cameras in several coordinates those that see the splat; the first where there is no difference.

    Raises:
        GsegError: none does.
    """
    some = np.random.default_rng(3).permutation(len(splats))[:5000]
    means = splats.means[torch.from_numpy(some)].detach().double().cpu().numpy()
    seen = [seen_part(means, each) for each in frames]
    best = int(np.argmax([share + (0.05 if index == 0 else 0.0) for index, share in enumerate(seen)]))
    if seen[best] < _NOTHING:
        raise GsegError(
            f"The cameras of {path} see nothing of the splat: they are of another scene, or in another frame of "
            "coordinates"
        )
    return frames[best]


def pinhole(frame: Frame, longest: int | None = None) -> Camera:
    """The camera of a frame without the distortion of its lens.

    Args:
        frame: of a camera.
        longest: pixels of the picture's longer side; None: the photograph's.
    """
    lens: Lens = frame.lens
    if longest is not None:
        scale = longest / max(lens.width, lens.height)
        lens = lens.resized(max(1, round(lens.width * scale)), max(1, round(lens.height * scale)))
    K = torch.tensor(lens.matrix, dtype=torch.float32)
    return Camera.from_c2w(torch.tensor(frame.pose, dtype=torch.float64), K, lens.width, lens.height)


def picture_names(frames: Sequence[Frame]) -> list[str]:
    """What the pictures of cameras are called: as their photographs, in their subfolders, each once."""
    names: list[str] = []
    for number, frame in enumerate(frames):
        parts = [part for part in re.split(r"[\\/]+", frame.name.strip()) if part not in ("", ".", "..")]
        parts = parts[1:] if len(parts) > 1 and parts[0] in ("images", "input") else parts
        name = "/".join(re.sub(r"[^\w.-]", "_", part) for part in parts)
        name = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name
        names.append(name if name and is_below(name) and name not in names else f"view_{number:05d}")
    return names
