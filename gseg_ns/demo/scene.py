"""Writing the demo scene as a folder in Nerfstudio's format, with ground truth and masks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gseg_ns.demo.cameras import Cameras, make_cameras
from gseg_ns.demo.layout import Layout, make_layout
from gseg_ns.demo.mask_errors import MASK_ERRORS, MaskErrorLevel, simulate_masks
from gseg_ns.demo.render import Renderer, View
from gseg_ns.errors import GsegError
from gseg_ns.folders import atomic_folder
from gseg_ns.masks import write_label_map, write_mask_set
from gseg_ns.splats.points import write_points
from gseg_ns.terminal import track

_POINTS = 20_000
_POINTS_PER_OBJECT = 250
_POINT_NOISE = 0.004
_OUTLIERS = 0.01


@dataclass(frozen=True)
class DemoScene:
    """What was written.

    Attributes:
        folder: the scene (absolute), to be given to `ns-train ... --data`.
        masks: the folder of mask files, one JSON a view.
        ground_truth: the folder with `instance`, `object` and `part` label maps and `points_labelled.ply`.
        num_objects: objects; their ids are 1..num_objects in all views.
        surfaces: id in `instance` of each of the room's surfaces, by name.
        train: paths of the training images, relative to the folder.
        test: those of the held-out images.
    """

    folder: Path
    masks: Path
    ground_truth: Path
    num_objects: int
    surfaces: dict[str, int]
    train: tuple[str, ...]
    test: tuple[str, ...]


def _name(index: int) -> str:
    return f"frame_{index:05d}"


def _transforms(cameras: Cameras) -> dict[str, Any]:
    """The content of `transforms.json`."""
    count = len(cameras.camera_to_worlds)
    images = [f"images/{_name(index)}.png" for index in range(count)]
    train = [image for index, image in enumerate(images) if not cameras.is_test(index)]
    test = [image for index, image in enumerate(images) if cameras.is_test(index)]
    return {
        "camera_model": "OPENCV",
        "fl_x": cameras.focal,
        "fl_y": cameras.focal,
        "cx": cameras.width / 2,
        "cy": cameras.height / 2,
        "w": cameras.width,
        "h": cameras.height,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "ply_file_path": "points3D.ply",
        "train_filenames": train,
        "val_filenames": test,
        "test_filenames": test,
        "frames": [
            {"file_path": image, "transform_matrix": pose.tolist()}
            for image, pose in zip(images, cameras.camera_to_worlds, strict=True)
        ],
    }


def _sample_points(
    view: View, cameras: Cameras, index: int, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.int32]]:
    """World positions [n, 3], colors [n, 3] and parts [n] of random pixels of a view."""
    pixels = rng.choice(view.depth.size, min(count, view.depth.size), replace=False)
    y, x = np.divmod(pixels, cameras.width)
    depth = view.depth.reshape(-1)[pixels].astype(np.float64)
    local = np.stack(
        [
            (x + 0.5 - cameras.width / 2) / cameras.focal * depth,
            -(y + 0.5 - cameras.height / 2) / cameras.focal * depth,
            -depth,
        ],
        axis=1,
    )
    pose = cameras.camera_to_worlds[index]
    return local @ pose[:3, :3].T + pose[:3, 3], view.image.reshape(-1, 3)[pixels], view.parts.reshape(-1)[pixels]


def _write_content(folder: Path, layout: Layout, cameras: Cameras, seed: int, mask_errors: MaskErrorLevel) -> None:
    """Render every view and write all files of the scene into an empty folder."""
    from PIL import Image

    num_objects, num_views = len(layout.objects), len(cameras.camera_to_worlds)
    errors = MASK_ERRORS[mask_errors]
    for name in ("images", "masks", "gt/instance", "gt/object", "gt/part"):
        (folder / name).mkdir(parents=True)
    renderer = Renderer(layout)
    rng = np.random.default_rng([seed, 2])
    num_train = sum(not cameras.is_test(index) for index in range(num_views))
    wanted = max(_POINTS, _POINTS_PER_OBJECT * num_objects)
    points, colors = [], []
    exact, exact_colors, exact_parts = [], [], []
    # Of their own: the noisy cloud does not hang on what scores it.
    exact_rng = np.random.default_rng([seed, 4])
    num_masks = 0
    visible = np.zeros(num_objects + 1, dtype=np.int64)
    for index in track(range(num_views), f"Rendering {num_objects} objects: view"):
        view = renderer.render(cameras, index, seed)
        file = f"{_name(index)}.png"
        Image.fromarray(view.image).save(folder / "images" / file)
        instances = renderer.instance_of[view.parts]
        objects = np.where(instances <= num_objects, instances, 0)
        visible += np.bincount(np.unique(objects), minlength=num_objects + 1)
        for name, labels in (("instance", instances), ("object", objects), ("part", view.parts + 1)):
            write_label_map(folder / "gt" / name / file, torch.from_numpy(labels.astype(np.int32)))
        mask_rng = np.random.default_rng([seed, 3, index])
        masks = simulate_masks(view.parts, renderer.instance_of, num_objects, errors, mask_rng)
        write_mask_set(folder / "masks" / f"{_name(index)}.json", masks)
        num_masks += len(masks)
        if not cameras.is_test(index):
            position, color, _ = _sample_points(view, cameras, index, -(-wanted // num_train), rng)
            points.append(position)
            colors.append(color)
            position, color, part = _sample_points(view, cameras, index, -(-wanted // num_train), exact_rng)
            exact.append(position)
            exact_colors.append(color)
            exact_parts.append(part)
    cloud, color = np.concatenate(points), np.concatenate(colors)
    cloud += _POINT_NOISE * rng.standard_normal(cloud.shape)
    outliers = rng.random(len(cloud)) < _OUTLIERS
    half = layout.half_size
    cloud[outliers] = rng.uniform([-half, -half, 0.0], [half, half, 2.0], (int(outliers.sum()), 3))
    write_points(folder / "points3D.ply", cloud, color)
    parts = np.concatenate(exact_parts)
    instances = renderer.instance_of[parts]
    write_points(
        folder / "gt" / "points_labelled.ply",
        np.concatenate(exact),
        np.concatenate(exact_colors),
        {"part_id": parts + 1, "object_id": np.where(instances <= num_objects, instances, 0)},
    )
    (folder / "transforms.json").write_text(json.dumps(_transforms(cameras), indent=1), encoding="utf-8")
    info = {
        "seed": seed,
        "units": "metres, z up",
        "views": num_views,
        "mask_errors": mask_errors,
        "rates": errors.as_dict(),
        "masks": num_masks,
        "objects": [
            {
                "id": item.object_id,
                "category": item.model.category,
                "copy_of": item.copy_of,
                "stands_on": item.support,
                "position": [round(float(x), 4) for x in item.position],
                "views": int(visible[item.object_id]),
            }
            for item in layout.objects
        ],
        "surfaces": {surface.name: num_objects + 1 + k for k, surface in enumerate(layout.surfaces)},
    }
    (folder / "info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")


def write_demo_scene(
    folder: Path,
    *,
    num_objects: int = 12,
    num_views: int = 44,
    width: int = 256,
    height: int = 192,
    seed: int = 0,
    mask_errors: MaskErrorLevel = "mild",
    overwrite: bool = False,
) -> DemoScene:
    """Make a posed scene of a furnished room, with masks to train on and ground truth to score against.

    The folder holds `transforms.json`, `images/`, `points3D.ply` (noisy, from the training views' depth), `masks/`
    (SA-1B JSON a view: overlapping, with errors, ids unrelated between views), `gt/instance`, `gt/object` (0 = room)
    and `gt/part` (16-bit label maps, ids equal in all views), `gt/points_labelled.ply` (where training views see a
    surface, exactly, with `object_id` and `part_id`) and `info.json`. It is built beside `folder` and renamed at the
    end. Equal arguments write equal files.

    Args:
        folder: where to; made if need be.
        num_objects: objects in the room, 1 to 5000.
        num_views: photographs; every 8th is held out. At least 8.
        width: of the photographs, pixels.
        height: of the photographs, pixels.
        seed: another seed is another room.
        mask_errors: how bad the masks are.
        overwrite: replace a folder that is there. Only one that holds a demo scene is replaced.

    Raises:
        GsegError: a number is out of range, or the folder is in the way or cannot be written.
    """
    # Resolved: "." has no name to build a sibling from.
    folder = Path(folder).resolve()
    for option, value, low, high in (
        ("objects", num_objects, 1, 5000),
        ("views", num_views, 8, 100_000),
        ("width", width, 16, 4096),
        ("height", height, 16, 4096),
        ("seed", seed, 0, 2**32 - 1),
    ):
        if not low <= value <= high:
            raise GsegError(f"{option} is {value}; it must be from {low} to {high}.")
    if mask_errors not in MASK_ERRORS:
        raise GsegError(f"mask_errors is {mask_errors!r}; it must be one of {', '.join(MASK_ERRORS)}.")
    _check_free(folder, overwrite)

    layout = make_layout(num_objects, seed)
    cameras = make_cameras(layout, num_views, width, height)
    with atomic_folder(folder, lambda: [path for path in folder.rglob("*") if not path.is_dir()]) as staging:
        _write_content(staging, layout, cameras, seed, mask_errors)
    transforms = _transforms(cameras)
    return DemoScene(
        folder=folder,
        masks=folder / "masks",
        ground_truth=folder / "gt",
        num_objects=num_objects,
        surfaces={surface.name: num_objects + 1 + k for k, surface in enumerate(layout.surfaces)},
        train=tuple(transforms["train_filenames"]),
        test=tuple(transforms["test_filenames"]),
    )


def _check_free(folder: Path, overwrite: bool) -> None:
    """Refuse a folder whose content would be lost.

    Raises:
        GsegError: it is a file, or not empty and not to be overwritten, or not a demo scene.
    """
    if folder.is_dir():
        if any(folder.iterdir()):
            if not overwrite:
                raise GsegError(f"{folder} is not empty. Choose another folder, or give --overwrite.")
            if not ((folder / "info.json").is_file() and (folder / "gt" / "instance").is_dir()):
                raise GsegError(f"{folder} holds something else than a demo scene. Choose another folder.")
    elif folder.exists():
        raise GsegError(f"{folder} is a file. Choose another folder.")
