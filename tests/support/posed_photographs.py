"""Small scenes for reading: the same cameras as transforms.json and as COLMAP models, binary or text."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gseg_ns.captures.capture import TO_NERFSTUDIO
from gseg_ns.captures.lenses import COLMAP_LENSES

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
LENS: dict[str, Any] = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 32.0, "cy": 24.0, "w": WIDTH, "h": HEIGHT}
POINTS = np.random.default_rng(3).uniform(-0.6, 0.6, (200, 3)) * [1, 1, 0.3]
"""In the frame of `poses`."""


def poses(count: int) -> list[np.ndarray]:
    """Cameras around the origin, camera to world [4, 4] in Nerfstudio's convention, z up."""
    found = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        eye = np.array([2.5 * np.cos(angle), 2.5 * np.sin(angle), 1.2 + 0.1 * number])
        back = eye / np.linalg.norm(eye)
        right = np.cross([0, 0, 1], back)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
        found.append(pose)
    return found


def write_photographs(folder: Path, names: list[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (20 * number, 90, 160)).save(path)


def write_json(folder: Path, names: list[str], count: int | None = None, **extra: Any) -> Path:
    """A transforms.json whose photographs `names` are in `images`."""
    write_photographs(folder, [f"images/{name}" for name in names])
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": pose.tolist()}
        for name, pose in zip(names[:count], poses(len(names)), strict=False)
    ]
    (folder / "transforms.json").write_text(json.dumps({**LENS, "frames": frames, **extra}), encoding="utf-8")
    return folder


def change_json(scene: Path, **values: Any) -> None:
    """Change keys of the scene (`None` removes one), or of all frames through a function `frames`."""
    path = scene / "transforms.json"
    meta = json.loads(path.read_text(encoding="utf-8"))
    each = values.pop("frames", None)
    meta |= values
    meta = {key: value for key, value in meta.items() if value is not None}
    if each is not None:
        meta["frames"] = [each(frame) for frame in meta["frames"]]
    path.write_text(json.dumps(meta), encoding="utf-8")


def write_model(
    folder: Path,
    names: list[str],
    model: str = "PINHOLE",
    params: tuple[float, ...] = (FOCAL, FOCAL, 32.0, 24.0),
    text: bool = False,
    similarity: np.ndarray | None = None,
    points: bool = True,
    chosen: list[int] | None = None,
) -> Path:
    """A COLMAP model of the cameras of `poses`.

    Args:
        folder: the model's.
        names: of all photographs.
        model: COLMAP's name of the lens.
        params: of it.
        text: as text.
        similarity: from the frame of `poses` to COLMAP's world; None: as ns-process-data goes the other way.
        points: whether it has some.
        chosen: which photographs it has; None: all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    to_colmap = np.linalg.inv(TO_NERFSTUDIO) if similarity is None else similarity
    scale = np.cbrt(np.linalg.det(to_colmap[:3, :3]))
    images = []
    for number in range(len(names)) if chosen is None else chosen:
        camera = poses(len(names))[number] @ np.diag([1.0, -1, -1, 1])
        camera = to_colmap @ camera
        camera[:3, :3] /= scale
        world_to_camera = np.linalg.inv(camera)
        images.append((number + 1, *_quaternion(world_to_camera[:3, :3]), *world_to_camera[:3, 3], 1, names[number]))
    xyz = POINTS @ to_colmap[:3, :3].T + to_colmap[:3, 3]
    number = next(key for key, (name, _) in COLMAP_LENSES.items() if name == model)
    if text:
        (folder / "cameras.txt").write_text(f"# cameras\n1 {model} {WIDTH} {HEIGHT} {' '.join(map(str, params))}\n")
        lines = "".join(" ".join(map(str, image)) + "\n1.0 2.0 -1 3.0 4.0 -1\n" for image in images)
        (folder / "images.txt").write_text("# images\n" + lines, encoding="utf-8")
        if points:
            rows = "".join(f"{i} {' '.join(map(str, p))} 10 20 30 0.5 1 0\n" for i, p in enumerate(xyz, start=1))
            (folder / "points3D.txt").write_text(rows)
        return folder
    with (folder / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<QiiQQ", 1, 1, number, WIDTH, HEIGHT) + struct.pack(f"<{len(params)}d", *params))
    with (folder / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(images)))
        for *numbers, name in images:
            file.write(struct.pack("<i7di", *numbers) + name.encode() + b"\0")
            file.write(struct.pack("<Qddq", 1, 1.0, 2.0, -1))
    if points:
        with (folder / "points3D.bin").open("wb") as file:
            file.write(struct.pack("<Q", len(xyz)))
            for i, p in enumerate(xyz, start=1):
                file.write(struct.pack("<Q3d3BdQii", i, *p, 10, 20, 30, 0.5, 1, 1, 0))
    return folder


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """w, x, y, z."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])
