from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from gseg_ns.captures.photographs import image_size
from gseg_ns.errors import GsegError
from gseg_ns.masks.images import mask_keys, read_image, scene_images


def write_scene(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(path)
    frames = [{"file_path": name, "transform_matrix": []} for name in names]
    (root / "transforms.json").write_text(json.dumps({"frames": frames}))
    return root


def keys(*names: str) -> list[str]:
    return mask_keys([PurePosixPath(name) for name in names])


def test_keys() -> None:
    assert keys("images/img.0001.jpg", "images/left/a b.png") == ["img.0001", "left/a b"]
    assert keys("images_4/1.jpg", "images_4/2.jpg") == ["1", "2"]
    assert keys("train/r_0.png", "test/r_0.png") == ["train/r_0", "test/r_0"]
    assert keys("images/1.jpg", "images/1.png", "images/2.png") == ["1.jpg", "1.png", "2"]
    assert keys("images/A.jpg", "images/a.png") == ["A.jpg", "a.png"]
    assert keys("../photos/1.jpg") == ["photos/1"]
    assert keys("1.jpg") == ["1"]


def test_nerfstudio_scene(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "scene", "images/b.jpg", "images/a.b.jpg", "images/Ä 1.png")
    assert [image.key for image in scene_images(root)] == ["a.b", "b", "Ä 1"]
    assert scene_images(root / "transforms.json") == scene_images(root)
    assert all(image.path.is_file() for image in scene_images(root))


def test_frames_twice_and_without_suffix(tmp_path: Path) -> None:
    root = write_scene(tmp_path, "train/r_0.png")
    frames = [{"file_path": "./train/r_0"}, {"file_path": "train/r_0.png"}]
    (root / "transforms.json").write_text(json.dumps({"frames": frames}))
    assert [image.name.as_posix() for image in scene_images(root)] == ["train/r_0.png"]


def test_colmap_scene(tmp_path: Path) -> None:
    root = write_scene(tmp_path, "images/left/1.jpg", "images/right/1.jpg", "images/.thumbs/1.jpg")
    (root / "transforms.json").unlink()
    assert [image.key for image in scene_images(root)] == ["left/1", "right/1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a Nerfstudio scene"),
        ("{}", "no list of frames"),
        ('{"frames": [{"file_path": 3}]}', "not a Nerfstudio"),
    ],
)
def test_damaged_transforms(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(GsegError, match=message):
        scene_images(tmp_path)


def test_no_scene(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="does not exist"):
        scene_images(tmp_path / "none")
    with pytest.raises(GsegError, match="is no scene"):
        scene_images(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(GsegError, match="no photographs"):
        scene_images(tmp_path)


def test_kinds_of_images(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    colors = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(colors).save(path)
    assert np.array_equal(read_image(path), colors)

    Image.fromarray(colors[..., 0]).save(path)
    assert np.array_equal(read_image(path), np.repeat(colors[..., :1], 3, axis=2))

    Image.fromarray(colors[..., 0].astype(np.uint16) * 257).save(path)
    assert np.array_equal(read_image(path), np.repeat(colors[..., :1], 3, axis=2))

    alpha = np.full((4, 5, 1), 255, np.uint8)
    alpha[0] = 0
    Image.fromarray(np.concatenate([colors, alpha], axis=2)).save(path)
    assert np.array_equal(read_image(path)[1:], colors[1:])
    assert (read_image(path)[0] == 255).all()

    Image.fromarray(colors).convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path)
    assert read_image(path).shape == (4, 5, 3)
    Image.fromarray(colors[..., 0] > 100).save(path)
    assert set(np.unique(read_image(path))) == {0, 255}
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (4, 5, 3)


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(path, exif=exif)
    # As nerfstudio.data.datasets.base_dataset.InputDataset.get_numpy_image.
    assert read_image(path).shape == np.asarray(Image.open(path)).shape == (8, 16, 3)
    assert image_size(path) == (8, 16)


def test_unreadable_images_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a b.jpg"
    with pytest.raises(GsegError, match=r"a b\.jpg does not exist"):
        read_image(path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(GsegError, match=r"a b\.jpg"):
        read_image(path)
    path.write_bytes(b"this is no picture")
    with pytest.raises(GsegError, match=r"a b\.jpg"):
        read_image(path)
    with pytest.raises(GsegError, match=r"a b\.jpg"):
        image_size(path)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(GsegError, match="floating point"):
        read_image(tmp_path / "f.tif")
