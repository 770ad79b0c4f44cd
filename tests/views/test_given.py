from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.captures.capture import Frame, Lens
from gseg_ns.errors import GsegError
from gseg_ns.views.given import fitting, picture_names, pinhole, placed, read_cameras
from splats_by_hand import ball

LENS = Lens("perspective", 64, 48, 50.0, 50.0, 32.0, 24.0)


def frame(name: str = "a.png", shift: float = 3.0, lens: Lens = LENS) -> Frame:
    pose = np.eye(4)
    pose[2, 3] = shift  # looks along -z: at the origin
    return Frame(name, Path(name), pose, lens)


def write_transforms(folder: Path, frames: list[Frame], **more: object) -> Path:
    entries = [{"file_path": f.name, "transform_matrix": f.pose.tolist()} for f in frames]
    meta = {"w": 64, "h": 48, "fl_x": 50.0, "fl_y": 50.0, "cx": 32.0, "cy": 24.0, **more, "frames": entries}
    folder.mkdir(exist_ok=True)
    path = folder / "transforms.json"
    path.write_text(json.dumps(meta))
    return path


def test_a_transforms_json_is_read_and_its_folder(tmp_path: Path) -> None:
    path = write_transforms(tmp_path / "scene", [frame(), frame("b.png", 4.0)])
    for given in (path, path.parent):
        (found, _) = read_cameras(given, lambda text: None)
        assert found[0].pose == pytest.approx(frame().pose)


def test_a_cameras_json_is_read_and_its_folder(tmp_path: Path) -> None:
    entry = {
        "img_name": "a", "width": 64, "height": 48, "position": [0, 0, -3], "rotation": np.eye(3).tolist(),
        "fx": 50.0, "fy": 50.0,
    }  # fmt: skip
    (tmp_path / "cameras.json").write_text(json.dumps([entry]))
    for given in (tmp_path, tmp_path / "cameras.json"):
        ((found,),) = read_cameras(given, lambda text: None)
        camera = pinhole(found)
        assert camera.viewmat[:3, 3].tolist() == [0, 0, 3]
        assert torch.equal(camera.viewmat[:3, :3], torch.eye(3, dtype=torch.float64))


def test_cameras_are_taken_in_the_frame_in_which_they_see_the_splat() -> None:
    seeing, blind = [frame()], [frame(shift=-3.0)]
    assert fitting([blind, seeing], ball(), Path("x")) is seeing
    assert fitting([seeing, [frame(shift=3.5)]], ball(), Path("x")) is seeing
    with pytest.raises(GsegError, match="see nothing of the splat"):
        fitting([blind], ball(), Path("x"))


def test_a_recorded_transform_leads_back_to_the_frame_of_the_reconstruction(tmp_path: Path) -> None:
    applied = [[1.0, 0, 0, 5.0], [0, 1, 0, 0], [0, 0, 1, 0]]
    moved = placed(frame(), np.array([*applied, [0, 0, 0, 1]]))
    path = write_transforms(tmp_path / "scene", [moved, replace(moved, name="b.png")], applied_transform=applied)
    original, own = read_cameras(path, lambda text: None)
    assert original[0].pose == pytest.approx(frame().pose)
    assert own[0].pose == pytest.approx(moved.pose)


def test_a_camera_has_the_size_that_is_asked_for() -> None:
    camera = pinhole(frame(), 128)
    assert (camera.width, camera.height) == (128, 96)
    assert camera.K[0].tolist() == [100, 0, 64]


def test_pictures_are_called_as_photographs_are_and_stay_in_the_folder() -> None:
    names = ["images/left/1.png", "left\\1.jpg", "../../etc/passwd", "/tmp/x.jpg", "C:\\a b.jpg", "", "plain"]
    found = picture_names([frame(name) for name in names])
    assert found == ["left/1", "view_00001", "etc/passwd", "tmp/x", "C_/a_b", "view_00005", "plain"]


@pytest.mark.parametrize("name", ["none", "a.txt", "empty"])
def test_what_has_no_cameras_is_one_message(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GsegError, match=name):
        read_cameras(tmp_path / name, lambda text: None)
