"""A posed scene that is there in a moment: balls on a floor, with photographs, masks, ids and labelled points."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gseg_ns.masks import write_label_map

# x, y and radius of balls that stand on the floor; their ids are 1, 2, ...
BALLS = np.array(
    [[-0.9, -0.6, 0.42], [0.2, -0.9, 0.36], [1.0, 0.0, 0.4], [0.2, 0.9, 0.45], [-0.9, 0.6, 0.33], [0, 0, 0.3]]
)
CENTRES = np.stack([BALLS[:, 0], BALLS[:, 1], BALLS[:, 2]], axis=1)
RADII = BALLS[:, 2]
COLORS = np.array([[210, 60, 50], [60, 170, 80], [60, 90, 200], [220, 180, 50], [150, 70, 180], [80, 190, 190]])
FLOOR = len(BALLS) + 1
"""Id of the floor in the masks."""
HALF = 1.8
"""Half the side of the floor."""
WIDTH, HEIGHT, FOCAL = 256, 192, 230.0
VIEWS = 16
"""Photographs; every 4th is held out."""


def write_ball_room(folder: Path) -> Path:
    """Write the scene: Nerfstudio's format, `masks` and `gt/object` as label maps, and `gt/points_labelled.ply`."""
    for name in ("images", "masks", "gt/object"):
        (folder / name).mkdir(parents=True)
    frames = []
    for view in range(VIEWS):
        pose, name = _pose(2 * np.pi * view / VIEWS), f"frame_{view:05d}.png"
        ids, shade = _render(pose)
        palette = np.concatenate([[[0, 0, 0]], COLORS, [[170, 160, 150]]])
        Image.fromarray((palette[ids] * shade[..., None]).astype(np.uint8)).save(folder / "images" / name)
        write_label_map(folder / "masks" / name, torch.from_numpy(ids))
        write_label_map(folder / "gt" / "object" / name, torch.from_numpy(np.where(ids == FLOOR, 0, ids)))
        frames.append({"file_path": f"images/{name}", "transform_matrix": pose.tolist()})
    images = [frame["file_path"] for frame in frames]
    meta = {
        **{"camera_model": "OPENCV", "w": WIDTH, "h": HEIGHT, "cx": WIDTH / 2, "cy": HEIGHT / 2},
        **{"fl_x": FOCAL, "fl_y": FOCAL, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0},
        **{"ply_file_path": "gt/points_labelled.ply", "frames": frames},
        "train_filenames": [image for view, image in enumerate(images) if view % 4],
        "test_filenames": images[::4],
    }
    (folder / "transforms.json").write_text(json.dumps(meta))
    _write_points(folder / "gt" / "points_labelled.ply")
    return folder


def _pose(angle: float) -> np.ndarray:
    """A camera that looks down on the middle from all around: OpenGL, camera to world [4, 4]."""
    eye = np.array([3.6 * np.cos(angle), 3.6 * np.sin(angle), 3.4])
    back = (eye - [0, 0, 0.2]) / np.linalg.norm(eye - [0, 0, 0.2])
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


def _render(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids [H, W] of what every pixel shows, 0 = nothing, and how bright it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(x - WIDTH / 2) / FOCAL, (HEIGHT / 2 - y) / FOCAL, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = pose[:3, 3]
    floor = -eye[2] / rays[..., 2]
    at = eye + floor[..., None] * rays
    inside = (floor > 0) & (np.abs(at[..., :2]) < HALF).all(axis=-1)
    nearest, ids, shade = np.where(inside, floor, np.inf), np.where(inside, FLOOR, 0), np.ones((HEIGHT, WIDTH))
    light = np.array([0.4, 0.3, 0.866])
    for number, (centre, radius) in enumerate(zip(CENTRES, RADII, strict=True), start=1):
        along = rays @ (centre - eye)
        under = along**2 - (centre - eye) @ (centre - eye) + radius**2
        distance = np.where(under > 0, along - np.sqrt(np.maximum(under, 0)), np.inf)
        hit = distance < nearest
        normal = (eye + np.where(hit, distance, 0)[..., None] * rays - centre) / radius
        nearest, ids = np.where(hit, distance, nearest), np.where(hit, number, ids)
        shade = np.where(hit, 0.35 + 0.65 * np.clip(normal @ light, 0, 1), shade)
    return ids.astype(np.int32), shade


def _write_points(path: Path) -> None:
    """Points all over what there is, with the `object_id` of each: 0 = the floor."""
    from plyfile import PlyData, PlyElement

    rng = np.random.default_rng(0)
    steps = np.arange(1500)
    z, angle = 1 - 2 * (steps + 0.5) / len(steps), steps * np.pi * (3 - np.sqrt(5))  # Fibonacci's spiral
    sphere = np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], axis=1)
    # A little inside: a Gaussian shows a little beyond its centre.
    points = [centre + (radius - 0.03) * sphere for centre, radius in zip(CENTRES, RADII, strict=True)]
    points.append(np.concatenate([rng.uniform(-HALF, HALF, (4000, 2)), np.zeros((4000, 1))], axis=1))
    labels = np.repeat([*range(1, FLOOR), 0], [len(part) for part in points])
    fields = [(axis, "f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(labels), dtype=[*fields, ("object_id", "i4")])
    colors = np.concatenate([[[170, 160, 150]], COLORS])[labels]
    for name, values in zip(vertices.dtype.names or (), [*np.concatenate(points).T, *colors.T, labels], strict=True):
        vertices[name] = values
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(path))
