from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gseg_ns.captures.reading import read_capture
from gseg_ns.errors import GsegError
from gseg_ns.rendering import Camera
from gseg_ns.splats.transform import transform
from gseg_ns.views import draw_view, write_views
from gseg_ns.views.folder import ABOUT, SHEET
from splats_by_hand import ball


def cameras(count: int = 3, far: float = 3.0) -> list[Camera]:
    """Around the origin, level."""
    found = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        forward = -np.array([np.cos(angle), np.sin(angle), 0])
        turn = np.stack([np.cross(forward, [0, 0, 1]), [0, 0, -1], forward])
        view = np.eye(4)
        view[:3, :3], view[2, 3] = turn, far
        K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
        found.append(Camera(torch.tensor(view, dtype=torch.float32), K, 64, 48))
    return found


def test_the_folder_is_a_scene_whose_cameras_are_those_given(tmp_path: Path) -> None:
    scene = write_views(tmp_path / "scene", ball(), cameras(), {"kind": "object"})
    capture, cloud = read_capture(scene.folder, lambda text: pytest.fail(text))
    assert [frame.path.stem for frame in capture.frames] == ["view_00000", "view_00001", "view_00002"]
    assert np.array_equal(capture.from_original, np.eye(4))
    assert capture.splits["train"] == [0, 1, 2]
    for frame, camera in zip(capture.frames, cameras(), strict=True):
        again = Camera.from_c2w(torch.tensor(frame.pose), torch.tensor(frame.lens.matrix), 64, 48)
        assert torch.allclose(again.viewmat.float(), camera.viewmat, atol=1e-5)
        assert (frame.lens.fx, frame.lens.cx, frame.lens.width, frame.lens.height) == (60, 32, 64, 48)
    assert cloud is not None
    # Its points lie on the ball.
    assert np.percentile(np.abs(np.linalg.norm(cloud[0], axis=1) - 0.5), 90) < 0.06
    assert json.loads((scene.folder / ABOUT).read_text()) == {"kind": "object"}
    assert (scene.folder / SHEET).is_file()


def test_pictures_alpha_and_depth_are_what_is_drawn(tmp_path: Path) -> None:
    write_views(tmp_path / "scene", ball(), cameras(1), background=1.0)
    drawn = draw_view(ball(), cameras(1)[0], 1.0)
    read = {
        name: np.array(Image.open(tmp_path / "scene" / name / "view_00000.png"))
        for name in ("images", "alpha", "depth")
    }
    assert np.abs(read["images"] / 255 - drawn.rgb.numpy()).max() < 0.003
    assert np.abs(read["alpha"] / 255 - drawn.alpha.numpy()).max() < 0.003
    assert np.abs(read["depth"] / 1000 - drawn.depth.numpy()).max() < 0.001
    middle = read["depth"][24, 32] / 1000
    assert middle == pytest.approx(2.5, abs=0.08)
    assert (read["depth"][0, 0], read["alpha"][0, 0]) == (0, 0)
    assert (read["images"][0, 0] == 255).all()


@pytest.mark.parametrize("scale", [0.001, 100.0])
def test_depths_that_16_bits_do_not_hold_are_floats(tmp_path: Path, scale: float) -> None:
    splats = transform(ball(), torch.eye(3), torch.zeros(3), scale)
    near = cameras(1, 3 * scale)
    write_views(tmp_path / "scene", splats, near, near=0.001 * scale)
    frame = json.loads((tmp_path / "scene" / "transforms.json").read_text())["frames"][0]
    depth = np.load(tmp_path / "scene" / frame["depth_file_path"])
    assert depth.dtype == np.float32
    expected = draw_view(splats, near[0], near=0.001 * scale).depth.numpy()
    assert expected.any()
    assert depth / 1000 == pytest.approx(expected)


def test_what_is_there_is_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    write_views(folder, ball(), cameras(1))
    before = (folder / "transforms.json").read_bytes()
    with pytest.raises(GsegError, match="give --overwrite"):
        write_views(folder, ball(), cameras(2))
    assert (folder / "transforms.json").read_bytes() == before
    for other in ("masks/view_00000.png", "outputs/run/config.yml"):
        (folder / other).parent.mkdir(parents=True)
        (folder / other).write_text("mine")
    write_views(folder, ball(), cameras(2), overwrite=True)
    assert (folder / "masks/view_00000.png").read_text() == (folder / "outputs/run/config.yml").read_text() == "mine"
    assert len(list((folder / "images").iterdir())) == 2
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(GsegError, match="something else"):
        write_views(other, ball(), cameras(1), overwrite=True)
    with pytest.raises(GsegError, match="is a file"):
        write_views(other / "thesis.txt", ball(), cameras(1))
    with pytest.raises(GsegError, match="no camera"):
        write_views(tmp_path / "none", ball(), [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "scene"]


def test_equal_splats_give_equal_files(tmp_path: Path) -> None:
    one, other = (write_views(tmp_path / name, ball(), cameras(1)).folder for name in ("one", "other"))
    for path in one.rglob("*.*"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()
