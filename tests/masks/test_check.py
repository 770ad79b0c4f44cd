from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet, write_label_map, write_mask_set
from gseg_ns.masks.check import check
from gseg_ns.masks.images import SceneImage, scene_images
from gseg_ns.masks.preview import contact_sheet, draw


@pytest.fixture
def images(tmp_path: Path) -> list[SceneImage]:
    (tmp_path / "images").mkdir()
    for name in "abcdefgh":
        Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(tmp_path / "images" / f"{name}.1.png")
    return scene_images(tmp_path)


def one_mask(column: int, height: int = 12, width: int = 16) -> MaskSet:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[0, :, : column + 1] = True
    return MaskSet.from_arrays(mask)


def test_finds_every_fault(tmp_path: Path, images: list[SceneImage]) -> None:
    folder = tmp_path / "masks"
    write_mask_set(folder / "a.1.json", one_mask(1))
    write_mask_set(folder / "b.1.json", MaskSet(12, 16))
    write_mask_set(folder / "c.1.json", one_mask(2, 6, 8))
    write_mask_set(folder / "d.1.json", one_mask(2, 16, 12))
    (folder / "e.1.json").write_text("[{")
    write_mask_set(folder / "f.1.json", one_mask(1))
    write_label_map(folder / "g.1.png", torch.ones(12, 16, dtype=torch.int32))
    write_mask_set(folder / "g.1.json", one_mask(3))
    write_mask_set(folder / "z.json", one_mask(4))
    seen: list[int] = []
    report = check(folder, images, progress=seen.append)
    assert not report.ok
    assert report.files == 9
    assert report.missing == ["images/h.1.png"]
    assert report.empty == ["b.1.json"]
    assert report.resized == ["c.1.json: 8x6, the image is 16x12"]
    assert report.wrong_size == ["d.1.json: 12x16, the image is 16x12"]
    assert len(report.corrupt) == 1
    assert "e.1.json" in report.corrupt[0]
    assert report.duplicated == ["g.1: g.1.json, g.1.png", "f.1.json: the same masks as a.1.json"]
    assert report.extra == ["z.json"]
    assert seen[-1] == 8
    assert report.masks == [1, 0, 1, 1, 1, 1]


def test_good_folder(tmp_path: Path, images: list[SceneImage]) -> None:
    for column, image in enumerate(images):
        write_mask_set(tmp_path / "masks" / f"{image.key}.json", one_mask(column))
    report = check(tmp_path / "masks", images)
    assert report.ok
    assert report.coverage[0] == pytest.approx(1 / 16)


def test_no_folder(tmp_path: Path, images: list[SceneImage]) -> None:
    with pytest.raises(GsegError, match="does not exist"):
        check(tmp_path / "none", images)


def test_draw() -> None:
    pixels = np.full((4, 6, 3), 200, np.uint8)
    labels = torch.zeros(4, 6, dtype=torch.int32)
    labels[:, 3:] = 5
    drawn = draw(pixels, labels)
    assert drawn.shape == (4, 6, 3)
    assert (drawn[:, 0] == drawn[:, 0, :1]).all()  # unlabelled stays grey
    assert len(np.unique(drawn[1, 5])) > 1
    assert (drawn[:, 3].astype(int).sum(-1) < drawn[:, 5].astype(int).sum(-1)).all()  # outline


def test_contact_sheet(tmp_path: Path, images: list[SceneImage]) -> None:
    folder = tmp_path / "masks"
    for column, image in enumerate(images[:5]):
        write_mask_set(folder / f"{image.key}.json", one_mask(column))
    (folder / "b.1.json").write_text("[{")
    assert contact_sheet(images, folder, tmp_path / "sheet.png", count=3, width=64) == 3
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 64 * 4
    assert contact_sheet(images, folder, tmp_path / "sheet.png", count=99, width=64) == 5
    write_label_map(tmp_path / "maps" / "a.1.png", torch.ones(12, 16, dtype=torch.int32))
    assert contact_sheet(images, tmp_path / "maps", tmp_path / "sheet.png", width=64) == 1
    write_label_map(tmp_path / "other" / "x.png", torch.ones(12, 16, dtype=torch.int32))
    with pytest.raises(GsegError, match="nothing to draw"):
        contact_sheet(images, tmp_path / "other", tmp_path / "sheet.png")
