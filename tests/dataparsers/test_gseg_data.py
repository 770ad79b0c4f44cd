from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from gseg_ns.captures.capture import TO_NERFSTUDIO
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig, as_gseg_data
from gseg_ns.errors import GsegError
from posed_photographs import POINTS, write_json, write_model, write_photographs


def pose(angle: float) -> list[list[float]]:
    c, s = np.cos(angle), np.sin(angle)
    return [[c, 0, s, 3 * s], [0, 1, 0, 0], [-s, 0, c, 3 * c], [0, 0, 0, 1]]


def nerfstudio_scene(folder: Path, count: int = 6, **extra: object) -> Path:
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(count):
        Image.new("RGB", (16, 12), (40 * i, 0, 0)).save(folder / f"images/f{i}.png")
        frames.append({"file_path": f"images/f{i}.png", "transform_matrix": pose(i)})
    meta = {"fl_x": 20.0, "fl_y": 20.0, "cx": 8.0, "cy": 6.0, "w": 16, "h": 12, "frames": frames, **extra}
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def colmap_scene(folder: Path, model: str = "sparse/0", count: int = 9) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / model).mkdir(parents=True)
    with (folder / model / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<QiiQQ", 1, 1, 1, 16, 12) + struct.pack("<4d", 20.0, 20.0, 8.0, 6.0))
    with (folder / model / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", count))
        for i in range(count):
            Image.new("RGB", (16, 12), (20 * i, 0, 0)).save(folder / f"images/f{i}.png")
            half = 0.3 * i
            quaternion = (np.cos(half), 0.0, np.sin(half), 0.0)
            file.write(struct.pack("<i4d3di", i + 1, *quaternion, 0.0, 0.0, 3.0, 1))
            file.write(f"f{i}.png".encode() + b"\0" + struct.pack("<Q", 0))
    with (folder / model / "points3D.bin").open("wb") as file:
        file.write(struct.pack("<Q", 2))
        for i in range(2):
            file.write(struct.pack("<Q3d3BdQ", i + 1, 0.1 * i, 0.2, 0.3, 10, 20, 30, 0.5, 0))
    return folder


def test_a_nerfstudio_folder_with_train_and_test_lists_needs_no_val_list(tmp_path: Path) -> None:
    names = [f"images/f{i}.png" for i in range(6)]
    scene = nerfstudio_scene(tmp_path / "s", train_filenames=names[:4], test_filenames=names[4:])
    parser = GsegDataParserConfig(data=scene).setup()
    assert [p.name for p in parser.get_dataparser_outputs("train").image_filenames] == [
        "f0.png",
        "f1.png",
        "f2.png",
        "f3.png",
    ]
    for split in ("val", "test"):
        assert [p.name for p in parser.get_dataparser_outputs(split).image_filenames] == ["f4.png", "f5.png"]


@pytest.mark.parametrize("model", ["sparse/0", "colmap/sparse/0", "sparse"])
def test_a_colmap_folder_is_taken_as_it_is(tmp_path: Path, model: str) -> None:
    scene = colmap_scene(tmp_path / "s", model)
    parser = GsegDataParserConfig(data=scene).setup()
    train, test = parser.get_dataparser_outputs("train"), parser.get_dataparser_outputs("test")
    assert (len(train.image_filenames), len(test.image_filenames)) == (7, 2)
    assert train.metadata["points3D_xyz"].shape == (2, 3)
    assert train.metadata["points3D_rgb"][0].tolist() == [10, 20, 30]


def test_points_of_an_old_nerfstudio_folder_come_from_its_colmap_model_without_a_question(tmp_path: Path) -> None:
    names = [f"f{i}.png" for i in range(6)]
    scene = write_json(tmp_path / "s", names)
    write_model(scene / "colmap/sparse/0", names)
    outputs = GsegDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    points = torch.from_numpy(POINTS @ np.linalg.inv(TO_NERFSTUDIO)[:3, :3].T).float()
    matrix = outputs.dataparser_transform
    expected = (points @ matrix[:3, :3].T + matrix[:3, 3]) * outputs.dataparser_scale
    torch.testing.assert_close(outputs.metadata["points3D_xyz"], expected)


@pytest.mark.parametrize("kind", ["no points", "large photographs", "copies are missing", "a third of the size"])
@pytest.mark.parametrize("parser", ["ours", "named"])
def test_no_scene_makes_a_parser_ask(kind: str, parser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Nerfstudio's own would: it offers to make a point cloud, or smaller copies of the photographs."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("rich.prompt.PromptBase.__call__", asked)
    monkeypatch.setattr("builtins.input", asked)
    names = [f"f{i}.png" for i in range(6)]
    scene, options = tmp_path / "s", {}
    if kind == "no points":
        write_json(scene, names)
        write_model(scene / "colmap/sparse/0", names)
    else:
        write_photographs(scene / "images", names, (1920, 1440) if kind == "large photographs" else (64, 48))
        write_model(scene / "sparse/0", names)
        if kind != "large photographs":
            options = {"downscale_factor": 2 if kind == "copies are missing" else 3}
    named = NerfstudioDataParserConfig if kind == "no points" else ColmapDataParserConfig
    config: Any = (GsegDataParserConfig if parser == "ours" else named)(data=scene, **options)
    read = (config if parser == "ours" else as_gseg_data(config)).setup().get_dataparser_outputs
    if options:
        with pytest.raises(GsegError, match=f"images_{options['downscale_factor']}"):
            read("train")
        return
    outputs = read("train")
    assert len(outputs.image_filenames) >= 5


@pytest.mark.parametrize("kind", ["json", "colmap"])
def test_nerfstudios_own_parsers_say_the_same_of_a_scene_as_they_know_it(tmp_path: Path, kind: str) -> None:
    names = [f"f{i}.png" for i in range(9)]
    lens = {"k1": 0.1, "k2": 0.02, "p1": 0.001, "p2": -0.002, "camera_model": "OPENCV"}
    write_json(tmp_path, names, **lens)
    config: Any = NerfstudioDataParserConfig(data=tmp_path, eval_mode="interval")
    if kind == "colmap":
        (tmp_path / "transforms.json").unlink()
        write_model(tmp_path / "sparse/0", names, "OPENCV", (60.0, 61.0, 31.0, 25.0, 0.1, 0.02, 0.001, -0.002))
        config = ColmapDataParserConfig(data=tmp_path, colmap_path=Path("sparse/0"), downscale_factor=1)
    ours = GsegDataParserConfig(data=tmp_path).setup()
    theirs = config.setup()
    for split in ("train", "test"):
        mine, other = ours.get_dataparser_outputs(split), theirs.get_dataparser_outputs(split)
        assert mine.image_filenames == other.image_filenames
        torch.testing.assert_close(mine.cameras.camera_to_worlds, other.cameras.camera_to_worlds)
        for name in ("fx", "fy", "cx", "cy", "width", "height", "distortion_params", "camera_type"):
            torch.testing.assert_close(getattr(mine.cameras, name), getattr(other.cameras, name), check_dtype=False)
        torch.testing.assert_close(mine.dataparser_transform, other.dataparser_transform)
        assert mine.dataparser_scale == pytest.approx(other.dataparser_scale)
        torch.testing.assert_close(mine.scene_box.aabb, other.scene_box.aabb)
        if kind == "colmap":
            torch.testing.assert_close(mine.metadata["points3D_xyz"], other.metadata["points3D_xyz"])
            torch.testing.assert_close(mine.metadata["points3D_rgb"], other.metadata["points3D_rgb"])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda scene: (scene / "transforms.json").unlink(), "neither transforms.json nor a COLMAP model"),
        (lambda scene: (scene / "transforms.json").write_text("{"), "not a Nerfstudio scene"),
        (lambda scene: (scene / "transforms.json").write_text('{"frames": []}'), "lists no frames"),
        (lambda scene: (scene / "images/f1.png").unlink(), "f1.png does not exist"),
    ],
)
def test_a_broken_folder_gives_one_message_that_names_it(tmp_path: Path, break_it, message: str) -> None:
    scene = nerfstudio_scene(tmp_path / "s")
    break_it(scene)
    with pytest.raises(GsegError, match=message):
        GsegDataParserConfig(data=scene).setup().get_dataparser_outputs("train")


@pytest.mark.parametrize("strays", [0, 1, 2])
def test_a_camera_that_the_scene_would_be_scaled_by_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], strays: int
) -> None:
    path = nerfstudio_scene(tmp_path, count=9) / "transforms.json"
    meta = json.loads(path.read_text())
    for frame in meta["frames"][:strays]:
        frame["transform_matrix"][0][3] = 1e6
    path.write_text(json.dumps(meta))
    parser = GsegDataParserConfig(data=tmp_path).setup()
    parser.get_dataparser_outputs("train")
    parser.get_dataparser_outputs("test")
    said = capsys.readouterr()
    assert (said.out + said.err).count("The scene is scaled by it") == (strays > 0)
    assert ("and of 1 more" in said.out + said.err) == (strays == 2)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="nowhere does not exist"):
        GsegDataParserConfig(data=tmp_path / "nowhere").setup().get_dataparser_outputs("train")


def test_a_background_is_added_around_the_points_of_an_object(tmp_path: Path) -> None:
    colmap_scene(tmp_path)
    plain = GsegDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train")
    wider = GsegDataParserConfig(data=tmp_path, background_points=500).setup().get_dataparser_outputs("train")
    points, colors = wider.metadata["points3D_xyz"], wider.metadata["points3D_rgb"]
    torch.testing.assert_close(points[:2], plain.metadata["points3D_xyz"])
    assert points.shape == colors.shape == (502, 3)
    assert colors.dtype == plain.metadata["points3D_rgb"].dtype

    centre = points[:2].mean(dim=0)
    distance = (points[2:] - centre).norm(dim=1)
    cameras = (wider.cameras.camera_to_worlds[:, :3, 3] - centre).norm(dim=1).max()
    inner = (points[:2] - centre).norm(dim=1).quantile(0.95)
    outer = torch.maximum(4 * cameras, 1.01 * inner)
    assert distance.min() >= inner * 0.999
    assert distance.max() <= outer * 1.001
    middle = (inner * outer) ** 0.5
    assert 0.4 < (distance < middle).float().mean() < 0.6  # equally many at each order of distance


def test_a_background_needs_points_to_lie_around(tmp_path: Path) -> None:
    bare, scene = nerfstudio_scene(tmp_path / "bare"), colmap_scene(tmp_path / "colmap")

    def parse(data: Path, count: int) -> None:
        GsegDataParserConfig(data=data, background_points=count).setup().get_dataparser_outputs("train")

    with pytest.raises(GsegError, match="of which there are 0"):
        parse(bare, 500)
    with pytest.raises(GsegError, match="background-points is -5"):
        parse(scene, -5)
    with (scene / "sparse/0/points3D.bin").open("wb") as file:
        file.write(struct.pack("<Q", 1) + struct.pack("<Q3d3BdQ", 1, 0.1, 0.2, 0.3, 10, 20, 30, 0.5, 0))
    with pytest.raises(GsegError, match="of which there are 1 "):
        parse(scene, 500)


def test_parsers_that_are_named_are_read_by_ours(tmp_path: Path) -> None:
    names = [f"f{i}.png" for i in range(9)]
    scene = write_json(tmp_path / "s", names)
    write_model(scene / "sparse/0", names, chosen=[0, 1, 2])
    write_model(scene / "sparse/1", names)
    named: Any = NerfstudioDataParserConfig(data=scene, eval_mode="all", load_3D_points=True, scale_factor=0.5)
    ours = as_gseg_data(named)
    assert isinstance(ours, GsegDataParserConfig)
    assert (ours.eval_mode, ours.scale_factor, ours.colmap_path) == ("all", 0.5, None)
    ours = as_gseg_data(ColmapDataParserConfig(data=scene))
    outputs = ours.setup().get_dataparser_outputs("train")  # the model, and the larger one
    assert len(outputs.image_filenames) == 7
    assert outputs.dataparser_transform.shape == (3, 4)
    ours = as_gseg_data(ColmapDataParserConfig(data=scene, colmap_path=Path("sparse/0")))
    assert len(ours.setup().get_dataparser_outputs("train").image_filenames) == 2
    assert as_gseg_data(ours) is ours


def test_photometric_masks_of_a_named_colmap_parser(tmp_path: Path) -> None:
    scene = colmap_scene(tmp_path / "s")
    ours = as_gseg_data(ColmapDataParserConfig(data=scene, masks_path=Path("keep")))
    with pytest.raises(GsegError, match="--masks-path"):
        ours.setup().get_dataparser_outputs("train")
    names = [path.name for path in (scene / "images").iterdir()]
    (scene / "keep").mkdir()
    for name in names:
        Image.new("L", (64, 48), 255).save(scene / "keep" / f"{Path(name).stem}.png")
    outputs = ours.setup().get_dataparser_outputs("train")
    assert outputs.mask_filenames is not None
    assert all(path.is_file() for path in outputs.mask_filenames)
    with pytest.raises(GsegError, match="leave one of them out"):
        as_gseg_data(ColmapDataParserConfig(orientation_method="none", assume_colmap_world_coordinate_convention=False))


@pytest.mark.parametrize("kind", ["nerfstudio", "colmap"])
@pytest.mark.parametrize("fault", ["suffix", "backslashes", "gone"])
def test_named_parsers_understand_what_ours_does(tmp_path: Path, kind: str, fault: str) -> None:
    names = [f"f{i}.png" for i in range(9)]
    scene = write_json(tmp_path / "s", names)
    written = {"suffix": "f{}", "backslashes": "sub\\f{}.png", "gone": "g{}.png"}[fault]
    listed = [written.format(i) for i in range(9)]
    if fault == "backslashes":
        (scene / "images/sub").mkdir()
        for name in names:
            (scene / "images" / name).rename(scene / "images/sub" / name)
    if kind == "colmap":
        (scene / "transforms.json").unlink()
        write_model(scene / "sparse/0", listed)
    else:
        meta = json.loads((scene / "transforms.json").read_text())
        for frame, name in zip(meta["frames"], listed, strict=True):
            frame["file_path"] = f"images/{name}"
        (scene / "transforms.json").write_text(json.dumps(meta))
    config: Any = NerfstudioDataParserConfig(data=scene) if kind == "nerfstudio" else ColmapDataParserConfig(data=scene)
    parser = as_gseg_data(config).setup()
    if fault == "gone":
        with pytest.raises(GsegError, match=r"g\d.png does not exist"):
            parser.get_dataparser_outputs("train")
        return
    assert all(path.is_file() for path in parser.get_dataparser_outputs("train").image_filenames)


def test_a_few_photographs_are_enough_for_nerfstudios_split(tmp_path: Path) -> None:
    scene = write_json(tmp_path / "scene", [f"v{number}.png" for number in range(4)])
    parser = as_gseg_data(NerfstudioDataParserConfig(data=scene)).setup()
    assert len(parser.get_dataparser_outputs("train").image_filenames) == 4
    assert len(parser.get_dataparser_outputs("val").image_filenames) == 4
