"""One command from a splat to named objects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from gseg_ns.cli.segment import Segment, _Input
from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet, write_mask_set
from gseg_ns.masks.generate import SETTINGS_FILE
from gseg_ns.masks.sources.classical import ClassicalConfig
from gseg_ns.neighbours import PointTree
from gseg_ns.rendering import Camera
from gseg_ns.runs.edited_run import EditedRun
from gseg_ns.runs.run import load_run
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply, write_ply


@pytest.fixture(scope="module")
def splat(small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene's points as opaque balls of their color, in the capture's coordinates."""
    vertices = PlyData.read(str(small_scene / "points3D.ply"))["vertex"]
    means = torch.from_numpy(np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32))
    rgb = torch.from_numpy(np.stack([vertices[c] for c in ("red", "green", "blue")], axis=1).astype(np.float32)) / 255
    radius = PointTree(means).others(1)[0].median()
    path = tmp_path_factory.mktemp("splat") / "room.ply"
    splats = Splats(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1),
        scales=radius.log().expand(len(means), 3).contiguous(),
        opacities=torch.full((len(means),), 3.0),
        sh=((rgb - 0.5) / 0.28209479177387814)[:, None],
    )
    write_ply(path, splats)
    return path


@pytest.fixture(scope="module")
def words(small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene with masks of its objects that say what they show: two mugs, a chair, and a thing without a word."""
    scene = tmp_path_factory.mktemp("words") / "scene"
    shutil.copytree(small_scene, scene)
    called = {1: "mug", 2: "Chair", 3: "mug"}
    for path in sorted((small_scene / "gt/object").glob("*.png")):
        labels = torch.from_numpy(np.asarray(Image.open(path)).astype(np.int64))
        ids = labels.unique().tolist()
        records = [{"label": called.get(i, ""), "track": i} for i in ids]
        masks = MaskSet.from_arrays(torch.stack([labels == i for i in ids]), None, records)
        write_mask_set(scene / "said" / f"{path.stem}.json", masks)
    return scene


def test_a_splat_with_its_photographs_becomes_a_result_and_a_file_an_object(
    splat: Path, words: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "out"
    Segment(splat, scene=words, masks=Path("said"), association="given", output_dir=folder).main()
    said = capsys.readouterr().out
    assert "mug" in said
    assert "gseg view" in said
    run = load_run(folder / "room.gseg")
    # It lies where the splat does.
    torch.testing.assert_close(run.model.means.detach().cpu(), read_ply(splat).means, atol=1e-4, rtol=1e-4)
    names = EditedRun(run).names
    assert sorted(names.values())[:3] == ["Chair", "mug", "mug 2"]
    listed = json.loads((folder / "objects/objects.json").read_text())["objects"]
    assert {entry["name"] for entry in listed} >= {"Chair", "mug", "mug 2"}
    assert all((folder / "objects" / entry["file"]).is_file() for entry in listed)
    assert len(list(run.views("train"))) == 14
    with pytest.raises(GsegError, match=r"room\.gseg is there already"):
        Segment(splat, scene=words, masks=Path("said"), output_dir=folder).main()


def test_words_leave_what_they_name(splat: Path, words: Path, tmp_path: Path, capsys: Any) -> None:
    options: dict[str, Any] = {"scene": words, "masks": Path("said"), "association": "given"}
    Segment(splat, ("MUG", "ghost"), output_dir=tmp_path / "out", **options).main()
    said = capsys.readouterr().out
    assert "Nothing is called 'ghost'" in said
    assert "2 objects of" in said
    run = load_run(tmp_path / "out/room.gseg")
    assert set(EditedRun(run).names.values()) == {"mug", "mug 2"}
    assert len(run.model.gaussian_groups().unique()) == 3
    assert len(list((tmp_path / "out/objects/objects").glob("*.ply"))) == 2
    with pytest.raises(GsegError, match=r"Nothing is called 'ghost'\. What masks call objects: Chair, mug"):
        Segment(splat, ("ghost",), output_dir=tmp_path / "other", **options).main()
    with pytest.raises(GsegError, match="Masks of classical do not say what they show"):
        Segment(splat, ("mug",), scene=words, source="classical", output_dir=tmp_path / "third").main()


def test_a_bare_splat_has_its_pictures_taken_and_is_not_photographed_twice(
    splat: Path, small_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import gseg_ns.views
    from gseg_ns.views import ViewOptions, ViewPlan

    frames = json.loads((small_scene / "transforms.json").read_text())
    asked = []

    def choose(splats: Splats, options: ViewOptions, tell: Any) -> ViewPlan:
        asked.append(options)
        shared = {name: value for name, value in frames.items() if name != "frames"}
        cameras = []
        for frame in frames["frames"][:8]:
            values = {**shared, **frame}
            intrinsics = torch.tensor(
                [[values["fl_x"], 0, values["cx"]], [0, values["fl_y"], values["cy"]], [0, 0, 1]]
            ).float()
            pose = torch.tensor(values["transform_matrix"]).float()[:3]
            cameras.append(Camera.from_c2w(pose, intrinsics, values["w"], values["h"]))
        return ViewPlan(cameras, (0.0, 0.0, 1.0), False, "a guess", "room", 1.0, 1.0, 0.01, 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(gseg_ns.views, "choose_views", choose)
    segment = Segment(splat, output_dir=tmp_path / "out", views=8, width=96, classical=ClassicalConfig(work_side=96))
    segment.main()
    said = capsys.readouterr().out
    assert "Up is a guess" in said
    assert "no substitute for SAM" in said
    assert (asked[0].count, asked[0].width, asked[0].height) == (8, 96, 72)
    run = load_run(tmp_path / "out/room.gseg")
    torch.testing.assert_close(run.model.means.detach().cpu(), read_ply(splat).means, atol=1e-4, rtol=1e-4)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/views").rglob("*.*")}
    shutil.rmtree(tmp_path / "out/room.gseg")
    segment.main()
    assert len(asked) == 1
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "out/views").rglob("*.*")}
    shutil.rmtree(tmp_path / "out/room.gseg")
    with pytest.raises(GsegError, match="has views of another splat or with other options"):
        Segment(splat, output_dir=tmp_path / "out", views=9, width=96).main()


def test_what_cannot_be_segmented_is_told(splat: Path, small_scene: Path, tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="does not exist: give a splat"):
        Segment(tmp_path / "none.ply").main()
    with pytest.raises(GsegError, match="is a scene: name the splat that was trained on it with --splat"):
        Segment(small_scene).main()
    with pytest.raises(GsegError, match="is a splat itself: leave --splat out"):
        Segment(splat, splat=splat).main()
    with pytest.raises(GsegError, match=r"The masks .*nowhere do not exist"):
        Segment(splat, scene=small_scene, masks=Path("nowhere"), output_dir=tmp_path / "out").main()
    (tmp_path / "empty").mkdir()
    with pytest.raises(GsegError, match="is no splat"):
        Segment(tmp_path / "empty").main()
    assert not (tmp_path / "out").exists()


def test_which_masks_of_a_scene_are_taken(splat: Path, small_scene: Path, tmp_path: Path) -> None:
    from gseg_ns.cli.masks import Masks
    from gseg_ns.masks.sources.sam3 import Sam3Config

    scene = tmp_path / "scene"
    shutil.copytree(small_scene, scene)
    assert Segment(splat)._masks(scene, False) == Path("masks")  # somebody's
    small = ClassicalConfig(work_side=48)
    assert Segment(splat, source="classical", classical=small)._masks(scene, False) == Path("masks-classical")
    assert len(list((scene / "masks-classical").glob("frame*.json"))) == 16
    shutil.rmtree(scene / "masks")
    Masks(scene, classical=ClassicalConfig(work_side=64)).main()
    assert Segment(splat, classical=small)._masks(scene, False) == Path("masks")  # with whatever settings
    next((scene / "masks").glob("frame*.json")).unlink()
    with pytest.raises(GsegError, match=r"has no masks of 1 of 16 photographs: run its `gseg masks` again"):
        Segment(splat, classical=small)._masks(scene, False)
    assert Segment(splat, sam3=Sam3Config(words=("mug",))).chosen_source().name == "sam3"


def test_tracks_are_followed_whenever_the_masks_were_made(
    splat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def lift(config: Any) -> Any:
        taken.append(config.pipeline.model.association)
        return SimpleNamespace(config_path=tmp_path / "config.yml")

    monkeypatch.setattr("gseg_ns.runs.lifted.lift_run", lift)
    masks = tmp_path / "masks"
    masks.mkdir()
    for recorded in ("video", "sam3-video", "grounded", "unheard-of", None):
        (masks / SETTINGS_FILE).unlink(missing_ok=True)
        if recorded is not None:
            (masks / SETTINGS_FILE).write_text(json.dumps({"source": recorded}))
        for given in (Path("masks"), masks):
            Segment(splat)._lift(_Input("a", splat, tmp_path, True), tmp_path, given, tmp_path / "lift", False)
    assert taken == ["tracks"] * 4 + ["consensus"] * 6


def test_words_that_cannot_be_answered_are_told_before_pictures_are_taken(splat: Path, tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="Masks of classical do not say what they show"):
        Segment(splat, ("mug",), output_dir=tmp_path / "out").main()
    assert not (tmp_path / "out").exists()


def test_options_of_pictures_are_refused_where_none_are_taken(splat: Path, words: Path, tmp_path: Path) -> None:
    with pytest.raises(GsegError, match=r"--views, --up: .* has its photographs"):
        Segment(splat, scene=words, views=9, up=(0, 0, 1), output_dir=tmp_path / "out").main()
    assert not (tmp_path / "out").exists()
