from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from gseg_ns.cli.masks import Masks
from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskFolder, MaskSet, read_mask_set, write_mask_set

NAMES = ("img.0001.jpg", "with space.png", "größe.png", "img.0001.png")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Names with dots, spaces, other letters and equal stems; colors of all kinds; a photograph held upright."""
    root = tmp_path / "a scene"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = np.full((48, 64, 3), 120, np.uint8)
    pixels[10:30, 20:50] = (200, 30, 30)
    pixels = (pixels + rng.integers(0, 9, pixels.shape)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(root / "images" / NAMES[0], exif=exif)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(root / "images" / NAMES[1])
    Image.fromarray(np.concatenate([pixels, pixels[..., :1]], axis=2)).save(root / "images" / NAMES[2])
    Image.fromarray(pixels[::-1, :, 0]).save(root / "images" / NAMES[3])
    frames = [{"file_path": f"images/{name}"} for name in NAMES]
    (root / "transforms.json").write_text(json.dumps({"frames": frames}))
    return root


def gseg_masks(*arguments: object) -> None:
    tyro.cli(Masks, args=[str(argument) for argument in arguments]).main()


def test_masks_of_every_photograph(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gseg_masks("--data", scene, "--preview")
    printed = capsys.readouterr().out
    assert "no substitute for SAM" in " ".join(printed.split())
    found = MaskFolder(scene / "masks").match([Path("images") / name for name in NAMES])
    assert [file.path.name for file in found if file] == [
        "img.0001.jpg.json",
        "with space.json",
        "größe.json",
        "img.0001.png.json",
    ]
    for file in found:
        assert file is not None
        masks = read_mask_set(file.path)
        assert (masks.height, masks.width) == (48, 64)
        assert len(masks) > 0
    assert (scene / "masks_preview.png").is_file()
    before = {path: path.stat().st_mtime_ns for path in (scene / "masks").iterdir()}
    gseg_masks("--data", scene, "--check", "masks")
    gseg_masks("--data", scene)
    assert {path: path.stat().st_mtime_ns for path in (scene / "masks").iterdir()} == before
    with pytest.raises(GsegError, match=r"other settings.*scale"):
        gseg_masks("--data", scene, "--classical.scale", 50)
    gseg_masks("--data", scene, "--classical.scale", 50, "--overwrite")


def test_shards(scene: Path) -> None:
    gseg_masks("--data", scene, "--output-dir", "whole")
    gseg_masks("--data", scene, "--output-dir", "shared", "--shard", "2/2")
    assert len(MaskFolder(scene / "shared")) == 2
    gseg_masks("--data", scene, "--output-dir", "shared", "--shard", "1/2")
    whole = {path.name: path.read_bytes() for path in (scene / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (scene / "shared").iterdir()} == whole
    with pytest.raises(GsegError, match="--shard"):
        gseg_masks("--data", scene, "--shard", "3/2")
    with pytest.raises(GsegError, match="--overwrite"):
        gseg_masks("--data", scene, "--shard", "1/2", "--overwrite")


def test_a_bad_photograph_is_named_and_done_later(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene / "images" / NAMES[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    with pytest.raises(GsegError, match="1 of 4 images"):
        gseg_masks("--data", scene)
    assert "with space.png" in capsys.readouterr().out
    assert len(MaskFolder(scene / "masks")) == 3
    path.write_bytes(whole)
    gseg_masks("--data", scene)
    assert len(MaskFolder(scene / "masks")) == 4


def test_entity_folder(scene: Path) -> None:
    for image in ("img.0001.jpg", "img.0001.png", "with space", "größe"):
        write_mask_set(scene / "theirs" / f"{image}.json", MaskSet.from_labels(two_bands()))
    gseg_masks("--data", scene, "--entity.folder", scene / "theirs")
    assert len(read_mask_set(scene / "masks" / "größe.json")) == 2


def two_bands() -> torch.Tensor:
    labels = torch.zeros(48, 64, dtype=torch.int32)
    labels[:10], labels[30:] = 3, 900
    return labels


def test_check_tells_what_is_wrong(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gseg_masks("--data", scene)
    (scene / "masks" / "größe.json").write_text("[")
    (scene / "masks" / "with space.json").unlink()
    with pytest.raises(GsegError, match="has faults"):
        gseg_masks("--data", scene, "--check", "masks")
    printed = capsys.readouterr().out
    assert "missing: images/with space.png" in printed
    assert "größe.json is damaged" in printed.replace("\n", " ")


def test_choice_of_source(tmp_path: Path) -> None:
    assert Masks(data=tmp_path).chosen_source().name == "classical"
    options = Masks(data=tmp_path)
    options.sam.checkpoint = tmp_path / "sam.pth"
    assert options.chosen_source().name == "sam"
    options.sam2.model = "facebook/sam2.1-hiera-large"
    with pytest.raises(GsegError, match="--source"):
        options.chosen_source()
    options.source = "sam2"
    assert options.chosen_source().name == "sam2"


def test_wrong_options(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="does not exist"):
        gseg_masks("--data", tmp_path / "none")
    with pytest.raises(GsegError, match="no image embeddings"):
        gseg_masks("--data", scene, "--embeddings")
    with pytest.raises(GsegError, match="--workers"):
        gseg_masks("--data", scene, "--workers", 0)
    with pytest.raises(GsegError, match=r"--sam\.checkpoint"):
        gseg_masks("--data", scene, "--source", "sam")
    with pytest.raises(GsegError, match=r"none\.pth does not exist"):
        gseg_masks("--data", scene, "--sam.checkpoint", tmp_path / "none.pth")
    assert not (scene / "masks").exists()
    (scene / "file").touch()
    with pytest.raises(GsegError, match="Cannot write"):
        gseg_masks("--data", scene, "--output-dir", "file/masks")


def test_the_scene_s_own_training_masks_are_left_alone(scene: Path) -> None:
    frames = [{"file_path": f"images/{name}", "mask_path": f"masks/{name}"} for name in NAMES]
    (scene / "transforms.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(GsegError, match="own training masks"):
        gseg_masks("--data", scene, "--overwrite")
    gseg_masks("--data", scene, "--output-dir", "objects")
