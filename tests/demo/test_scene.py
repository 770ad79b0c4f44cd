from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from gseg_ns.demo import DemoScene, write_demo_scene
from gseg_ns.demo.cameras import make_cameras
from gseg_ns.demo.layout import make_layout
from gseg_ns.demo.render import Renderer
from gseg_ns.errors import GsegError
from gseg_ns.masks import read_label_map, read_mask_set

SIZE: dict[str, Any] = {"num_objects": 6, "num_views": 8, "width": 64, "height": 48}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> DemoScene:
    return write_demo_scene(tmp_path_factory.mktemp("demo") / "scene", seed=3, **SIZE)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_arguments_write_equal_files(scene: DemoScene, tmp_path: Path) -> None:
    again = write_demo_scene(tmp_path / "again", seed=3, **SIZE)
    assert contents(again.folder) == contents(scene.folder)
    assert not list(tmp_path.glob(".*"))


def test_transforms_are_nerfstudios(scene: DemoScene) -> None:
    meta = json.loads((scene.folder / "transforms.json").read_text())
    assert (meta["w"], meta["h"], meta["cx"], meta["cy"]) == (64, 48, 32, 24)
    assert meta["camera_model"] == "OPENCV"
    assert meta["fl_x"] == meta["fl_y"] > 0
    assert all(meta[key] == 0 for key in ("k1", "k2", "p1", "p2"))
    files = [frame["file_path"] for frame in meta["frames"]]
    assert sorted(meta["train_filenames"] + meta["test_filenames"]) == files
    assert meta["val_filenames"] == meta["test_filenames"] == list(scene.test)
    assert len(scene.test) == 1
    for frame in meta["frames"]:
        assert Image.open(scene.folder / frame["file_path"]).size == (64, 48)
        pose = np.array(frame["transform_matrix"])
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        assert pose[2, 1] > 0, "the image's top is up"


def test_ids_mean_the_same_object_in_every_view() -> None:
    """A point seen in one view has the same part id in every other view that is not blocked."""
    layout = make_layout(6, 3)
    cameras = make_cameras(layout, 8, 64, 48)
    renderer = Renderer(layout, samples=1, light_rays=1, bounce_rays=1)
    views = [renderer.render(cameras, index) for index in range(4)]
    centre = np.array([32, 24])
    compared = 0
    for source in range(4):
        y, x = np.divmod(np.arange(64 * 48), 64)
        depth = views[source].depth[y, x]
        plane = (np.stack([x, y], 1) + 0.5 - centre) / cameras.focal
        local = np.stack([plane[:, 0], -plane[:, 1], -np.ones(len(x))], 1) * depth[:, None]
        pose = cameras.camera_to_worlds[source]
        world = local @ pose[:3, :3].T + pose[:3, 3]
        for target in range(4):
            pose = cameras.camera_to_worlds[target]
            seen = (world - pose[:3, 3]) @ pose[:3, :3]
            pixel = np.floor(seen[:, :2] * [1, -1] / -seen[:, 2:] * cameras.focal + centre).astype(int)
            inside = (seen[:, 2] < 0) & (pixel >= 0).all(1) & (pixel < [64, 48]).all(1)
            column, row = pixel[inside].T
            visible = np.abs(views[target].depth[row, column] + seen[inside, 2]) < 0.02
            same = views[source].parts[y, x][inside][visible] == views[target].parts[row, column][visible]
            assert same.mean() > 0.93
            compared += int(visible.sum())
    assert compared > 20_000


def test_label_maps_agree(scene: DemoScene) -> None:
    found = set()
    for image in (*scene.train, *scene.test):
        instance, objects, parts = (
            read_label_map(scene.ground_truth / kind / Path(image).name) for kind in ("instance", "object", "part")
        )
        assert instance.shape == (48, 64)
        assert instance.min() >= 1
        assert torch.equal(objects, torch.where(instance <= scene.num_objects, instance, 0))
        for part in parts.unique():
            assert len(instance[parts == part].unique()) == 1
        found |= set(instance.unique().tolist())
    assert set(range(1, 7)) <= found
    assert scene.surfaces["floor"] == 7
    assert found - set(range(1, 7)) <= set(scene.surfaces.values())


def test_objects_are_large_enough_to_see() -> None:
    layout = make_layout(12)
    cameras = make_cameras(layout, 44, 256, 192)
    renderer = Renderer(layout, samples=1, light_rays=1, bounce_rays=1)
    areas = np.stack(
        [
            np.bincount(renderer.instance_of[renderer.render(cameras, index).parts].reshape(-1), minlength=18)[1:13]
            for index in range(0, 44, 5)
        ]
    )
    assert (areas > 100).mean() > 0.85
    assert (np.median(areas, axis=0) > 100).all()


def test_masks_can_be_read(scene: DemoScene) -> None:
    files = sorted(scene.masks.iterdir())
    assert [path.stem for path in files] == [f"frame_{k:05d}" for k in range(8)]
    info = json.loads((scene.folder / "info.json").read_text())
    sets = [read_mask_set(path) for path in files]
    assert sum(len(masks) for masks in sets) == info["masks"]
    assert all((masks.height, masks.width) == (48, 64) and len(masks) > 3 for masks in sets)


def test_points_lie_on_what_is_seen(scene: DemoScene) -> None:
    vertices = PlyData.read(str(scene.folder / "points3D.ply"))["vertex"]
    points = np.stack([vertices[axis] for axis in "xyz"], 1)
    assert 15_000 < len(points) <= 20_100
    floor = np.abs(points[:, 2]) < 0.02
    assert floor.mean() > 0.3
    assert 0.002 < points[floor & (np.abs(points[:, :2]).max(axis=1) < 1), 2].std() < 0.02
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)
    assert colors.dtype == np.uint8
    assert colors.std() > 20


def test_labelled_points_are_where_their_object_is_seen(scene: DemoScene) -> None:
    vertices = PlyData.read(scene.ground_truth / "points_labelled.ply")["vertex"]
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float64)
    meta = json.loads((scene.folder / "transforms.json").read_text())
    poses = {frame["file_path"]: np.array(frame["transform_matrix"]) for frame in meta["frames"]}
    shown = np.zeros(len(points), bool)
    for image in scene.train:
        pose = poses[image]
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixel = local[:, :2] * [1, -1] / -local[:, 2:] * meta["fl_x"] + [32, 24]
        # Where points were drawn from, and not where roundings lead across a border.
        inside = (local[:, 2] < 0) & (np.abs(pixel - np.floor(pixel) - 0.5) < 0.01).all(axis=1)
        inside &= (pixel >= 0).all(axis=1) & (pixel < [64, 48]).all(axis=1)
        column, row = np.floor(pixel[inside]).astype(int).T
        agree = np.ones(int(inside.sum()), bool)
        for name, ids in (("object", "object_id"), ("part", "part_id")):
            labels = read_label_map(scene.ground_truth / name / Path(image).name).numpy()
            agree &= labels[row, column] == np.asarray(vertices[ids])[inside]
        shown[inside] |= agree
    assert shown.all()
    assert set(np.unique(vertices["object_id"])) == set(range(scene.num_objects + 1))


def test_images_are_lit(scene: DemoScene) -> None:
    image = np.asarray(Image.open(scene.folder / scene.train[0])).astype(float)
    assert 70 < image.mean() < 190
    assert (image > 250).mean() < 0.05
    assert image.std() > 25


@pytest.mark.parametrize("option", [{"num_objects": 0}, {"num_views": 4}, {"width": 4}, {"seed": -1}])
def test_impossible_numbers_are_refused(tmp_path: Path, option: dict[str, int]) -> None:
    with pytest.raises(GsegError, match=r"must be from"):
        write_demo_scene(tmp_path / "scene", **{**SIZE, **option})
    assert not list(tmp_path.iterdir())


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(GsegError, match="not empty"):
        write_demo_scene(tmp_path, **SIZE)
    with pytest.raises(GsegError, match="something else"):
        write_demo_scene(tmp_path, overwrite=True, **SIZE)
    with pytest.raises(GsegError, match="is a file"):
        write_demo_scene(tmp_path / "thesis.txt", overwrite=True, **SIZE)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_overwrite_replaces_a_demo_scene(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    first = write_demo_scene(folder, **{**SIZE, "num_objects": 2, "mask_errors": "none"})
    second = write_demo_scene(folder, overwrite=True, **{**SIZE, "num_objects": 3, "mask_errors": "hard"})
    assert (first.num_objects, second.num_objects) == (2, 3)
    assert len(json.loads((folder / "info.json").read_text())["objects"]) == 3


def test_large_rooms_are_seen_evenly() -> None:
    layout = make_layout(100)
    cameras = make_cameras(layout, 120, 64, 48)
    seen = np.zeros(len(layout.objects), dtype=int)
    for pose in cameras.camera_to_worlds:
        assert np.abs(pose[:2, 3]).max() < layout.half_size
        local = (np.stack([item.position for item in layout.objects]) - pose[:3, 3]) @ pose[:3, :3]
        plane = local[:, :2] / -local[:, 2:] * cameras.focal
        seen += (local[:, 2] < 0) & (np.abs(plane) < [32, 24]).all(axis=1)
    assert seen.min() >= 5
