from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gseg_ns.captures.capture import TO_NERFSTUDIO, Capture
from gseg_ns.captures.photographs import Photographs, image_size
from gseg_ns.captures.reading import Cloud, read_capture, with_files
from gseg_ns.errors import GsegError
from posed_photographs import HEIGHT, POINTS, WIDTH, change_json, poses, write_json, write_model, write_photographs

NAMES = [f"v{i}.png" for i in range(8)]


def read(scene: Path, **options: Any) -> tuple[Capture, Cloud | None, str]:
    """The capture, its points, and all that was told."""
    told: list[str] = []
    capture, cloud = read_capture(scene, told.append, **options)
    return with_files(capture, scene, None, told.append), cloud, " ".join(told)


def similarity(scale: float, angle: float, shift: list[float]) -> np.ndarray:
    matrix = np.eye(4)
    c, s = np.cos(angle), np.sin(angle)
    matrix[:3, :3] = scale * np.array([[c, -s, 0], [0, 0, -1], [s, c, 0]])
    matrix[:3, 3] = shift
    return matrix


# ------------------------------------------------------------------------------------------------ which reconstruction


@pytest.mark.parametrize(
    ("layout", "best"),
    [
        ({"sparse/0": 3, "sparse/1": 8}, "sparse/1"),
        ({"sparse/0": 2, "sparse/1": 7, "sparse/10": 8, "sparse/2": 5}, "sparse/10"),
        ({"colmap/sparse/0": 8, "sparse/0": 3}, "colmap/sparse/0"),
        ({"sparse": 8, "sparse/0": 4}, "sparse"),
    ],
    ids=["two", "four", "two folders", "the folder itself"],
)
@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_the_largest_reconstruction_is_taken_and_said(tmp_path: Path, layout: dict, best: str, text: bool) -> None:
    write_photographs(tmp_path / "images", NAMES)
    for folder, count in layout.items():
        write_model(tmp_path / folder, NAMES, text=text, chosen=list(range(count)))
    capture, _, told = read(tmp_path)
    assert capture.source == tmp_path / best
    assert len(capture.frames) == 8
    assert f"{best}, which has 8 photographs" in told
    for folder, count in layout.items():
        assert folder == best or f"{folder} ({count})" in told


def test_a_reconstruction_that_is_asked_for_is_taken_without_a_word(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES)
    write_model(tmp_path / "sparse/0", NAMES, chosen=[0, 3, 5])
    write_model(tmp_path / "sparse/1", NAMES)
    capture, _, told = read(tmp_path, colmap_path=Path("sparse/0"))
    assert [frame.name for frame in capture.frames] == ["v0.png", "v3.png", "v5.png"]
    assert told == ""


def test_a_larger_reconstruction_beside_a_transforms_json_is_told(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES, count=3)
    write_model(tmp_path / "colmap/sparse/0", NAMES, chosen=[0, 1, 2])
    write_model(tmp_path / "colmap/sparse/1", NAMES)
    capture, _, told = read(tmp_path)
    assert len(capture.frames) == 3
    assert "lists 3 photographs, and the reconstruction colmap/sparse/1 has 8" in told
    assert "--colmap-path colmap/sparse/1" in told


def test_a_damaged_reconstruction_is_left_out_where_there_is_another(tmp_path: Path) -> None:
    write_photographs(tmp_path / "images", NAMES)
    write_model(tmp_path / "sparse/0", NAMES)
    write_model(tmp_path / "sparse/1", NAMES)
    (tmp_path / "sparse/0/images.bin").write_bytes(b"\1\2")
    capture, _, told = read(tmp_path)
    assert capture.source == tmp_path / "sparse/1"
    assert "sparse/0/images.bin is damaged" in told


# ------------------------------------------------------------------------------------------------- frames are compared


@pytest.mark.parametrize(
    ("to_colmap", "recorded"),
    [
        (None, "right"),
        (None, None),
        (None, "wrong"),
        (similarity(3.0, 0.7, [5.0, -2.0, 1.0]), None),
        (similarity(0.02, 2.1, [0.0, 400.0, 10.0]), "wrong"),
    ],
    ids=["recorded", "not recorded", "wrongly recorded", "other tool", "other scale, wrongly recorded"],
)
@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_points_of_a_model_come_into_the_frame_of_the_poses(
    tmp_path: Path, to_colmap: np.ndarray | None, recorded: str | None, text: bool
) -> None:
    transform = {"right": TO_NERFSTUDIO[:3].tolist(), "wrong": np.eye(4)[:3].tolist(), None: None}[recorded]
    write_json(tmp_path, NAMES)
    change_json(tmp_path, applied_transform=transform)
    write_model(tmp_path / "colmap/sparse/0", NAMES, text=text, similarity=to_colmap)
    capture, cloud, told = read(tmp_path)
    assert cloud is not None
    np.testing.assert_allclose(cloud[0], POINTS, atol=1e-6)
    expected = TO_NERFSTUDIO if to_colmap is None else np.linalg.inv(to_colmap)
    np.testing.assert_allclose(capture.from_original, expected, atol=1e-6)
    assert ("applied_transform" in told) == (recorded == "wrong")


def test_cameras_that_disagree_are_counted_and_most_decide(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES)
    write_model(tmp_path / "colmap/sparse/0", NAMES)

    def moved(frame: dict[str, Any]) -> dict[str, Any]:
        if frame["file_path"] in ("images/v2.png", "images/v5.png"):
            frame["transform_matrix"][0][3] += 1.5
        return frame

    change_json(tmp_path, frames=moved)
    _, cloud, told = read(tmp_path)
    assert "disagree about 2 of 8 cameras" in told
    assert cloud is not None
    np.testing.assert_allclose(cloud[0], POINTS, atol=1e-6)


def test_points_of_another_reconstruction_are_not_used(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES)
    write_model(tmp_path / "colmap/sparse/0", NAMES)
    rng = np.random.default_rng(0)

    def elsewhere(frame: dict[str, Any]) -> dict[str, Any]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, :3] = pose[:3, :3] @ similarity(1, rng.uniform(0, 6), [0, 0, 0])[:3, :3]
        return frame | {"transform_matrix": pose.tolist()}

    change_json(tmp_path, frames=elsewhere)
    capture, cloud, told = read(tmp_path)
    assert cloud is None
    assert "disagree about" in told
    assert "its points are not used" in told
    np.testing.assert_allclose(capture.from_original, np.eye(4))


def test_a_cloud_in_colmaps_frame_is_moved_to_the_poses(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES, applied_transform=TO_NERFSTUDIO[:3].tolist(), ply_file_path="points.ply")
    write_ply(tmp_path / "points.ply", POINTS @ TO_NERFSTUDIO[:3, :3])
    write_model(tmp_path / "colmap/sparse/0", NAMES)
    _, cloud, told = read(tmp_path)
    assert cloud is not None
    np.testing.assert_allclose(cloud[0], POINTS, atol=1e-5)
    assert "lie in COLMAP's frame" in told


def test_a_cloud_that_no_photograph_shows_is_told(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES, ply_file_path="points.ply")
    write_ply(tmp_path / "points.ply", POINTS + np.array([0, 0, 300.0]))
    assert "No photograph shows the points" in read(tmp_path)[2]


def write_ply(path: Path, xyz: np.ndarray) -> None:
    from plyfile import PlyData, PlyElement

    rows = np.array([tuple(point) for point in xyz], dtype=[(axis, "f4") for axis in "xyz"])
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))


@pytest.mark.parametrize("place", ["sparse/0/points3D.ply", "points3D.ply"])
def test_the_points_of_a_model_may_be_a_ply_alone(tmp_path: Path, place: str) -> None:
    write_photographs(tmp_path / "images", NAMES)
    write_model(tmp_path / "sparse/0", NAMES, points=False)
    write_ply(tmp_path / place, POINTS @ TO_NERFSTUDIO[:3, :3])
    _, cloud, _ = read(tmp_path)
    assert cloud is not None
    np.testing.assert_allclose(cloud[0], POINTS, atol=1e-6)


# --------------------------------------------------------------------------------------------------- what files say


@pytest.mark.parametrize(
    "written",
    [
        lambda name: name.removesuffix(".png"),
        lambda name: name.replace("/", "\\"),
        lambda name: "./" + name,
        lambda name: name.removeprefix("images/"),
        lambda name: "/home/somebody/scene/" + name,
        lambda name: "C:\\Users\\somebody\\" + name.replace("/", "\\"),
        lambda name: name.replace(".png", ".PNG"),
        lambda name: name.replace(".png", ".jpg"),
        lambda name: "../scene/" + name,
    ],
    ids="suffix backslash dot folder absolute windows case format parent".split(),
)
@pytest.mark.parametrize("names", [NAMES, [f"für {i} (1).png" for i in range(8)]], ids=["plain", "spaces"])
def test_photographs_are_found_by_what_other_tools_call_them(tmp_path: Path, written: Any, names: list[str]) -> None:
    scene = write_json(tmp_path / "scene", names)
    change_json(scene, frames=lambda frame: frame | {"file_path": written(frame["file_path"])})
    capture, _, _ = read(scene)
    assert sorted(frame.path.resolve() for frame in capture.frames) == sorted((scene / "images").resolve().iterdir())


def test_names_of_another_normal_form_are_found(tmp_path: Path) -> None:
    names = [unicodedata.normalize("NFD", f"été_{i}.png") for i in range(4)]
    write_photographs(tmp_path / "images", names)
    write_model(tmp_path / "sparse/0", [unicodedata.normalize("NFC", name) for name in names])
    assert all(frame.path.is_file() for frame in read(tmp_path)[0].frames)


def test_two_files_that_could_be_meant_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES)
    change_json(tmp_path, frames=lambda frame: frame | {"file_path": frame["file_path"].removesuffix(".png")})
    Image.new("RGB", (64, 48)).save(tmp_path / "images/v3.jpg")
    with pytest.raises(GsegError, match=r"v3\.jpg, v3\.png"):
        read(tmp_path)


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_names_with_spaces_and_folders_of_a_model_are_read_whole(tmp_path: Path, text: bool) -> None:
    names = [f"{side} cam/büro {i} 2.jpg" for side in ("left", "right") for i in range(3)]
    write_photographs(tmp_path / "images", names)
    write_model(tmp_path / "sparse/0", names, text=text)
    capture, cloud, told = read(tmp_path)
    assert [frame.path for frame in capture.frames] == [tmp_path / "images" / name for name in names]
    assert told == ""
    assert cloud is not None
    np.testing.assert_allclose(cloud[0], POINTS, atol=1e-6)
    np.testing.assert_allclose([frame.pose for frame in capture.frames], poses(6), atol=1e-6)


def test_text_models_with_other_line_ends_and_without_lines_of_points_are_read(tmp_path: Path) -> None:
    write_photographs(tmp_path / "images", NAMES)
    folder = write_model(tmp_path / "sparse/0", NAMES, text=True)
    lines = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\r\n".join(line for line in lines if line.endswith(".png")) + "\r\n")
    assert len(read(tmp_path)[0].frames) == 8
    (folder / "images.txt").write_text("\n\n".join(line for line in lines if line.endswith(".png")))
    assert len(read(tmp_path)[0].frames) == 8


def test_a_blender_scene_has_its_splits_in_three_files(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        write_photographs(tmp_path / split, [f"r_{i}.png" for i in range(count)])
        frames = [
            {"file_path": f"./{split}/r_{i}", "transform_matrix": pose.tolist()} for i, pose in enumerate(poses(count))
        ]
        meta = {"camera_angle_x": 2 * np.arctan(32 / 60), "frames": frames}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(meta))
    capture, _, _ = read(tmp_path)
    assert {name: len(chosen) for name, chosen in capture.splits.items()} == {"train": 5, "val": 2, "test": 3}
    lens = capture.frames[0].lens
    np.testing.assert_allclose([lens.fx, lens.fy, lens.cx, lens.cy], [60, 60, 32, 24])
    assert (lens.width, lens.height) == (64, 48)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"w": 48, "h": 64}, (64, 48, 60, 60, 32, 24)),
        ({"w": 48, "h": 64, "cx": None, "cy": None}, (64, 48, 60, 60, 32, 24)),
        ({"w": 128, "h": 96, "fl_x": 120.0, "fl_y": 120.0, "cx": 64.0, "cy": 48.0}, (64, 48, 60, 60, 32, 24)),
        ({"w": None, "h": None, "cx": None, "cy": None}, (64, 48, 60, 60, 32, 24)),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": 2 * np.arctan(32 / 50)}, (64, 48, 50, 50, 32, 24)),
        ({"fl_y": None}, (64, 48, 60, 60, 32, 24)),
    ],
    ids=["swapped", "swapped, no centre", "larger", "no size", "angle", "one focal length"],
)
def test_the_lens_is_that_of_the_file(tmp_path: Path, change: dict[str, Any], expected: tuple[float, ...]) -> None:
    write_json(tmp_path, NAMES)
    change_json(tmp_path, **change)
    lens = read(tmp_path)[0].frames[0].lens
    found = (lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_camera_of_the_upright_photograph_is_turned_to_the_file(tmp_path: Path, orientation: int) -> None:
    write_json(tmp_path, NAMES, cx=23.0, cy=34.0, w=HEIGHT, h=WIDTH, fl_x=50.0, p1=0.01, p2=0.02)
    change_json(tmp_path, cx=23.0, cy=34.0, w=HEIGHT, h=WIDTH, fl_x=50.0)
    for name in NAMES:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / name, exif=exif)
    frame = read(tmp_path)[0].frames[2]
    assert (frame.lens.width, frame.lens.height) == (WIDTH, HEIGHT)
    # The same point comes to the pixel of the file that the viewer of the photograph turns to where it was.
    point = np.array([0.2, -0.1, 0.15])
    x, y = project(point, frame.pose, frame.lens.matrix)
    upright = project(point, poses(8)[2], np.array([[50.0, 0, 23], [0, 60, 34], [0, 0, 1]]))
    turned = (HEIGHT - y, x) if orientation == 6 else (y, WIDTH - x)
    np.testing.assert_allclose(turned, upright, atol=1e-9)
    # The tangential vector (p2, p1) turns along.
    p1, p2 = frame.lens.distortion[4:]
    assert (p2, p1) == ((0.01, -0.02) if orientation == 6 else (-0.01, 0.02))


def project(point: np.ndarray, pose: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    local = (np.diag([1, -1, -1]) @ pose[:3, :3].T @ (point - pose[:3, 3])) @ matrix.T
    return local[:2] / local[2]


def test_cameras_of_several_kinds_and_sizes_are_each_their_own(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES)
    write_photographs(tmp_path, ["images/v1.png"], (100, 50))

    def mixed(frame: dict[str, Any]) -> dict[str, Any]:
        own = {"w": 100, "h": 50, "fl_x": 90.0, "cx": 50.0, "cy": 25.0, "k1": 0.01, "k4": 0.002}
        return frame | own | {"camera_model": "OPENCV_FISHEYE"} if frame["file_path"] == "images/v1.png" else frame

    change_json(tmp_path, frames=mixed, k1=0.1)
    first, second = read(tmp_path)[0].frames[:2]
    assert (first.lens.kind, first.lens.width, first.lens.distortion[0]) == ("perspective", 64, 0.1)
    assert (second.lens.kind, second.lens.width, second.lens.fx) == ("fisheye", 100, 90.0)
    assert second.lens.distortion == (0.01, 0, 0, 0.002, 0, 0)


def test_smaller_copies_are_read_where_the_photographs_are_large(tmp_path: Path) -> None:
    names = ["left/a.png", "right/a.png"]
    write_photographs(tmp_path / "images", names, (2000, 1500))
    write_photographs(tmp_path / "images_2", names, (1001, 750))
    write_model(tmp_path / "sparse/0", names, params=(1875.0, 1875.0, 1000.0, 750.0), text=True)
    path = tmp_path / "sparse/0/cameras.txt"
    path.write_text(path.read_text().replace("64 48", "2000 1500"))
    frame = read(tmp_path)[0].frames[1]
    assert frame.path == tmp_path / "images_2/right/a.png"
    assert (frame.lens.width, frame.lens.height) == (1001, 750)
    assert frame.lens.fx == pytest.approx(1875 * 1001 / 2000)


# -------------------------------------------------------------------------------------------- what cannot be understood


def _frames(**values: Any) -> dict[str, Any]:
    return {"frames": lambda frame: frame | values}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fl_x": None, "fl_y": None}, "has no focal length"),
        ({"fl_x": "wide"}, "fl_x is 'wide'"),
        ({"fl_x": -60.0}, "must be positive"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR: Gaussian splatting needs perspective"),
        ({"k4": 0.1}, "4th radial coefficient"),
        ({"p1": 3.0}, "leaves nothing"),
        ({"k1": 500.0}, "leaves nothing"),
        ({"w": 640, "h": 300}, "other proportions"),
        ({"w": 48, "h": 64, "cx": 24.0, "cy": 32.0}, "has been turned since"),
        ({"ply_file_path": "nowhere.ply"}, r"nowhere\.ply, named in"),
        ({"orientation_override": "sideways"}, "orientation_override"),
        ({"applied_transform": [[1, 0], [0, 1]]}, "applied_transform is no matrix"),
        ({"train_filenames": ["images/v99.png"]}, "v99.png, which is no frame"),
        (_frames(transform_matrix=[[1, 2], [3, 4]]), "is no matrix"),
        (_frames(transform_matrix=np.zeros((4, 4)).tolist()), "no rotation"),
        (_frames(transform_matrix=np.diag([1.0, 1, -1, 1]).tolist()), "no rotation"),
        (_frames(transform_matrix=np.full((4, 4), np.nan).tolist()), "not finite"),
        (_frames(transform_matrix=None), "no transform_matrix"),
        (_frames(file_path=7), "a file_path is 7"),
        (_frames(file_path="images/v0.png"), "same photograph, at two places"),
    ],
)
def test_what_cannot_be_understood_is_one_message_with_the_file(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write_json(tmp_path, NAMES)
    change_json(tmp_path, **change)
    with pytest.raises(GsegError, match=message) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_of_json_are_read(tmp_path: Path, encoding: str) -> None:
    write_json(tmp_path, NAMES)
    path = tmp_path / "transforms.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert len(read(tmp_path)[0].frames) == 8


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("cameras.bin", lambda raw: raw[:20], "ends too early"),
        ("images.bin", lambda raw: raw[:-30], "ends too early"),
        ("points3D.bin", lambda raw: raw[:-5], "ends too early"),
        ("cameras.bin", lambda raw: raw[:12] + b"\x63" + raw[13:], "model 99"),
    ],
)
def test_damaged_models_are_one_message_with_the_file(tmp_path: Path, file: str, damage: Any, message: str) -> None:
    write_photographs(tmp_path / "images", NAMES)
    path = write_model(tmp_path / "sparse/0", NAMES) / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GsegError, match=message) as caught:
        read(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "line"),
    [("cameras.txt", "1 PINHOLE wide 48 60 60 32 24"), ("images.txt", "1 1 0 0"), ("points3D.txt", "1 a b c 1 2 3 0")],
)
def test_damaged_text_models_are_one_message_with_the_line(tmp_path: Path, file: str, line: str) -> None:
    write_photographs(tmp_path / "images", NAMES)
    path = write_model(tmp_path / "sparse/0", NAMES, text=True) / file
    path.write_text(f"# broken\n{line}\n")
    with pytest.raises(GsegError, match=f"{file}, line 2"):
        read(tmp_path)


# --------------------------------------------------------------------------------------------------- more of the kinds


@pytest.mark.parametrize(
    "place", ["sparse_txt", "sparse/text", "dense/0/sparse", "colmap_output/sparse/0", "outputs/sfm_superpoint"]
)
def test_a_reconstruction_in_an_unusual_place_is_found(tmp_path: Path, place: str) -> None:
    write_photographs(tmp_path / "images", NAMES)
    write_model(tmp_path / place, NAMES, text=True)
    capture, cloud, _ = read(tmp_path)
    assert capture.source == tmp_path / place
    assert cloud is not None


def test_a_reconstruction_of_the_same_size_is_told_and_a_copy_is_not(tmp_path: Path) -> None:
    write_photographs(tmp_path / "images", NAMES)
    write_model(tmp_path / "sparse/0", NAMES)
    write_model(tmp_path / "sparse", NAMES)
    assert "reconstruction" not in read(tmp_path)[2]
    write_model(tmp_path / "sparse/1", [*NAMES[:-1], "another.png"])
    assert "Taking the reconstruction sparse/0. As many photographs has" in read(tmp_path)[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fl_x": 0.94, "fl_y": 1.25, "cx": 0.5, "cy": 0.5}, "seem to be parts of that size: give pixels"),
        ({"cx": 0, "cy": 0}, "cx 0, cy 0, which seem to be parts of that size: give pixels"),
        ({"cx": 0.5, "cy": 0.5}, "cx 0.5, cy 0.5, which seem to be parts"),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": 40.0}, "camera_angle_x is 40: it is an angle in radians"),
        ({"camera_angle_y": -1.0}, "camera_angle_y is -1"),
    ],
)
def test_intrinsics_in_other_units_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_json(tmp_path, NAMES)
    change_json(tmp_path, **change)
    with pytest.raises(GsegError, match=message):
        read(tmp_path)


def test_points_and_masks_of_another_machine_are_found_by_their_ends(tmp_path: Path) -> None:
    write_json(tmp_path, NAMES, ply_file_path="/home/somebody/scene/pts/points.ply")
    (tmp_path / "pts").mkdir()
    write_ply(tmp_path / "pts/points.ply", POINTS)
    (tmp_path / "region").mkdir()
    Image.new("L", (64, 48), 255).save(tmp_path / "region/v0.png")
    change_json(tmp_path, frames=lambda frame: frame | {"mask_path": "C:\\scene\\region\\v0.png"})
    capture, cloud, _ = read(tmp_path)
    assert cloud is not None
    assert len(cloud[0]) == len(POINTS)
    assert {frame.mask for frame in capture.frames} == {tmp_path / "region/v0.png"}
    change_json(tmp_path, frames=lambda frame: frame | {"mask_path": "/other/v0.png"})
    assert all(frame.mask != frame.path for frame in read(tmp_path)[0].frames), "a photograph is no mask of itself"


def test_smaller_copies_alone_are_enough(tmp_path: Path) -> None:
    write_photographs(tmp_path / "images_4", NAMES, (WIDTH // 4, HEIGHT // 4))
    write_model(tmp_path / "sparse/0", NAMES)
    told: list[str] = []
    capture = with_files(read_capture(tmp_path, told.append)[0], tmp_path, None, told.append)
    assert all(frame.path.parent.name == "images_4" for frame in capture.frames)
    assert capture.frames[0].lens.fx == 15
    assert "images_4" in told[-1]


@pytest.mark.parametrize("folder", ["photos", "frames", "input"])
def test_photographs_in_other_usual_folders(tmp_path: Path, folder: str) -> None:
    write_photographs(tmp_path / folder, NAMES)
    write_model(tmp_path / "sparse/0", NAMES)
    assert all(frame.path.is_file() for frame in read(tmp_path)[0].frames)


def test_a_part_of_a_scene_names_the_scene(tmp_path: Path) -> None:
    write_photographs(tmp_path / "images", NAMES)
    write_model(tmp_path / "sparse/0", NAMES)
    with pytest.raises(GsegError, match=r"a part of one: give .* with --data"):
        read(tmp_path / "images")


def test_names_as_the_web_writes_them(tmp_path: Path) -> None:
    (tmp_path / "my images").mkdir()
    (tmp_path / "my images" / "ä 1.png").write_bytes(b"")
    photographs = Photographs(tmp_path)
    assert photographs.find("my%20images/%C3%A4%201.png") == tmp_path / "my images" / "ä 1.png"
    assert photographs.find("100%.png") is None


@pytest.mark.parametrize("suffix", [".HEIC", ".avif", ".DNG"])
def test_photographs_of_other_formats_are_one_message(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"ftypheic")
    with pytest.raises(GsegError, match="convert it and the others to JPEG"):
        image_size(tmp_path / f"a{suffix}")
    assert Photographs(tmp_path).in_another_format("images/a.jpg") == tmp_path / f"a{suffix}"
