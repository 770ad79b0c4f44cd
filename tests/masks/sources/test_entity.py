from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet, write_label_map, write_mask_set
from gseg_ns.masks.images import SceneImage, read_image, scene_images
from gseg_ns.masks.sources.base import Photo
from gseg_ns.masks.sources.entity import EntityConfig

LABELS = torch.zeros(6, 8, dtype=torch.int32)
LABELS[:3] = 7
LABELS[3:, :4] = 300
LABELS[5, 7] = 255


def photo(name: str = "images/a.b.jpg", height: int = 6, width: int = 8) -> Photo:
    return Photo(PurePosixPath(name), np.zeros((height, width, 3), np.uint8))


def masks_of(folder: Path, shot: Photo | None = None, **options: object) -> MaskSet:
    config = EntityConfig(folder=folder, **options)  # type: ignore[arg-type]
    return config.setup("cpu").generate(shot or photo(), embed=False).masks


def test_label_map_with_scores_beside_it(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.b.png", LABELS)
    segments = [{"id": 7, "score": 0.4}, {"id": 300, "score": 0.9}, {"id": 255}]
    (tmp_path / "a.b.json").write_text(json.dumps({"segments_info": segments}))
    masks = masks_of(tmp_path)
    assert [record["id"] for record in masks.extra] == [255, 300, 7]
    assert masks.scores.tolist() == pytest.approx([1.0, 0.9, 0.4])
    assert masks.areas.tolist() == [1, 12, 24]
    assert len(masks_of(tmp_path, ignore=(255,))) == 2
    assert len(masks_of(tmp_path, min_score=0.5)) == 2
    assert len(masks_of(tmp_path, min_area=13)) == 1


def test_panoptic_colors_with_one_scores_file(tmp_path: Path) -> None:
    ids = LABELS.numpy()
    rgb = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=2).astype(np.uint8)
    (tmp_path / "masks").mkdir()
    Image.fromarray(rgb).save(tmp_path / "masks" / "a.b.png")
    annotations = [{"file_name": "a.b.png", "segments_info": [{"id": 300, "score": 0.25}]}]
    (tmp_path / "panoptic.json").write_text(json.dumps({"annotations": annotations}))
    masks = masks_of(tmp_path / "masks", scores=tmp_path / "panoptic.json")
    assert {r["id"]: s for r, s in zip(masks.extra, masks.scores.tolist(), strict=True)} == {7: 1, 255: 1, 300: 0.25}


def test_sa1b_folder_and_other_size(tmp_path: Path) -> None:
    write_mask_set(tmp_path / "a.b.json", MaskSet.from_labels(LABELS))
    masks = masks_of(tmp_path, photo(height=12, width=16))
    assert masks.areas.sum() == 4 * (LABELS > 0).sum()


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match=r"--entity\.folder"):
        EntityConfig().setup("cpu")
    with pytest.raises(GsegError, match="does not exist"):
        EntityConfig(folder=tmp_path / "none").setup("cpu")
    write_label_map(tmp_path / "a.b.png", LABELS)
    with pytest.raises(GsegError, match=r"other\.jpg"):
        masks_of(tmp_path, photo("images/other.jpg"))
    with pytest.raises(GsegError, match="turned"):
        masks_of(tmp_path, photo(height=8, width=6))
    (tmp_path / "a.b.json").write_text("[{]")
    with pytest.raises(GsegError, match=r"a\.b\.json"):
        masks_of(tmp_path)


def test_settings_notice_other_files(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.png", LABELS)
    before = EntityConfig(folder=tmp_path).settings()
    assert EntityConfig(folder=tmp_path).settings() == before
    write_label_map(tmp_path / "b.png", LABELS)
    assert EntityConfig(folder=tmp_path).settings() != before


def turned_scene(folder: Path, orientation: int, upright: bool, lists: bool) -> tuple[list[SceneImage], np.ndarray]:
    """Photographs of two bright things with an orientation noted, and masks of them: on turned copies, or as stored."""
    labels = np.zeros((40, 60), np.int32)
    labels[4:16, 6:20] = 1
    labels[22:36, 8:52] = 2
    image = Image.fromarray(np.where(labels[..., None] == [1, 2, 2], 220, 40).astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    (folder / "images").mkdir(parents=True)
    (folder / "made").mkdir()
    for name in ("a", "b", "c"):
        image.save(folder / f"images/{name}.jpg", exif=exif, quality=95)
        shown = Image.fromarray(labels.astype(np.uint8), mode="L")
        if upright:
            shown = ImageOps.exif_transpose(Image.open(_with_tag(shown, folder / "t.png", orientation)))
        ids = torch.from_numpy(np.array(shown).astype(np.int32))
        if lists:
            write_mask_set(folder / f"made/{name}.json", MaskSet.from_labels(ids))
        else:
            write_label_map(folder / f"made/{name}.png", ids)
    return scene_images(folder), labels


def _with_tag(image: Image.Image, path: Path, orientation: int) -> Path:
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("lists", [False, True], ids=["label maps", "run lengths"])
@pytest.mark.parametrize("upright", [True, False], ids=["turned", "stored"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_on_turned_copies_are_turned_back(tmp_path: Path, orientation: int, upright: bool, lists: bool) -> None:
    images, labels = turned_scene(tmp_path, orientation, upright, lists)
    told: list[str] = []
    config = EntityConfig(folder=tmp_path / "made").placed_on(images, told.append)
    shot = Photo(images[0].name, read_image(images[0].path), orientation)
    masks = config.setup("cpu").generate(shot, embed=False).masks
    assert {int(mask.sum()): mask for mask in masks.decode().numpy()}.keys() == {168, 616}
    assert np.array_equal(masks.decode().numpy().any(axis=0), labels > 0)
    assert told == []
    assert EntityConfig(folder=tmp_path / "made", upright=upright).placed_on(images, told.append).upright == upright


def test_what_does_not_show_is_told(tmp_path: Path) -> None:
    images, _ = turned_scene(tmp_path, 3, upright=True, lists=False)
    for image in images:  # without a single edge
        _with_tag(Image.new("RGB", (60, 40), (90, 90, 90)), image.path, 3)
    told: list[str] = []
    config = EntityConfig(folder=tmp_path / "made").placed_on(images, told.append)
    assert config.upright is False
    assert "3 photographs, such as a.jpg, are to be turned by their EXIF tags" in told[0]
