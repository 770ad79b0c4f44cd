from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.protocols import PROTOCOLS

Save = Callable[[Path, np.ndarray], None]
NVOS, SPIN = PROTOCOLS["nvos"], PROTOCOLS["spin-nerf"]
RGB = np.zeros((20, 30, 3), np.uint8)


def box(left: int) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[5:15, left : left + 10] = True
    return mask


def nvos(root: Path, save: Save) -> Path:
    for scene, folder in (("fern", "fern"), ("horns_center", "horns"), ("horns_left", "horns")):
        for i in range(3):
            save(root / "llff_data" / folder / "images" / f"IMG_{i}.JPG", RGB)
        save(root / "llff_masks" / "reference_image" / scene / "IMG_0.JPG", RGB)
        save(root / "llff_masks" / "scribbles" / scene / "pos_0.png", box(3))
        save(root / "llff_masks" / "scribbles" / scene / "neg_0.png", box(18))
        save(root / "llff_masks" / "masks" / scene / "IMG_2.JPG", RGB)
        save(root / "llff_masks" / "masks" / scene / "IMG_2_mask.png", box(4))
    return root


def test_nvos(tmp_path: Path, save: Save) -> None:
    root = nvos(tmp_path / "data", save)
    assert NVOS.scenes(root) == ("fern", "horns_center", "horns_left")
    loaded = NVOS.load(root, "horns_left")
    assert loaded.root == root / "llff_data" / "horns"
    assert loaded.test == ("IMG_2.JPG",)
    (prompt,) = loaded.prompts
    assert (prompt.kind, prompt.image) == ("scribble", "IMG_0.JPG")
    assert (prompt.positive[0].name, prompt.negative[0].name) == ("pos_0.png", "neg_0.png")
    save(tmp_path / "pred" / "fern" / "IMG_2.png", box(4))
    save(tmp_path / "pred" / "horns_left" / "IMG_2.png", box(9))
    report = NVOS.evaluate(root, tmp_path / "pred")
    assert report.not_predicted == ("horns_center",)
    assert report.scenes["fern"].values["mIoU"] == 100
    assert report.scenes["horns_left"].values["mIoU"] == pytest.approx(100 * 50 / 150)
    assert report.scenes["horns_left"].values["mAcc"] == pytest.approx(100 * 500 / 600)
    assert report.mean["mIoU"] == pytest.approx((100 + 100 / 3) / 2)


def test_nvos_names_what_is_missing(tmp_path: Path, save: Save) -> None:
    root = nvos(tmp_path / "data", save)
    (tmp_path / "pred" / "fern").mkdir(parents=True)
    with pytest.raises(GsegError, match=r"lacks IMG_2\.png"):
        NVOS.evaluate(root, tmp_path / "pred")
    with pytest.raises(GsegError, match="no folder for any of the scenes"):
        NVOS.evaluate(root, tmp_path / "data")
    (root / "llff_data" / "fern" / "images" / "IMG_2.JPG").unlink()
    with pytest.raises(GsegError, match="view IMG_2, which"):
        NVOS.load(root, "fern")
    (root / "llff_masks" / "scribbles" / "horns_left" / "pos_0.png").unlink()
    with pytest.raises(GsegError, match=r"no pos_\*\.png"):
        NVOS.load(root, "horns_left")
    (root / "llff_masks" / "masks" / "horns_center" / "IMG_2_mask.png").unlink()
    with pytest.raises(GsegError, match="_mask"):
        NVOS.load(root, "horns_center")
    with pytest.raises(GsegError, match="is missing"):
        NVOS.scenes(tmp_path)


def spin(root: Path, save: Save, scene: str, images: list[str], masks: list[str]) -> Path:
    for name in images:
        save(root / "SPIn-NeRF_data" / scene / "images" / name, RGB)
    for i, name in enumerate(masks):
        save(root / "SPIn-NeRF_masks" / scene / name, box(3 + i))
        save(root / "SPIn-NeRF_masks" / scene / name.replace(".png", "_cutout.png"), RGB)
        save(root / "SPIn-NeRF_masks" / scene / name.replace(".png", "_pseudo.png"), RGB)
    (root / "SPIn-NeRF_masks" / scene / "notes.json").write_text("{}")
    return root


def test_spin_nerf_with_and_without_the_reference(tmp_path: Path, save: Save) -> None:
    root = spin(tmp_path / "data", save, "fork", [f"{i}.jpg" for i in range(3)], [f"image{i}.png" for i in range(3)])
    loaded = SPIN.load(root, "fork")
    assert [t.image for t in loaded.targets.values()] == ["0.jpg", "1.jpg", "2.jpg"]
    assert loaded.prompts[0].image == "0.jpg"
    save(tmp_path / "pred" / "image1.png", box(4))
    save(tmp_path / "pred" / "image2.png", box(0) & False)
    scores = SPIN.evaluate(root, tmp_path / "pred").scenes["fork"]
    assert scores.values["mIoU"] == 50
    assert "mIoU_reference" not in scores.values
    assert scores.missing == ("image0.png",)
    save(tmp_path / "pred" / "image0.png", box(3))
    scores = SPIN.evaluate(root, tmp_path / "pred").scenes["fork"]
    assert scores.values["mIoU_reference"] == pytest.approx(200 / 3)
    assert scores.values["mIoU"] == 50


def test_masks_find_their_images(tmp_path: Path, save: Save) -> None:
    images = [f"{i:06d}.jpg" for i in range(4)]
    truck = spin(tmp_path / "a", save, "truck", images, ["truck_000001.png", "truck_000003.png"])
    assert SPIN.load(truck, "truck").test == ("000001.jpg", "000003.jpg")
    orchids = spin(
        tmp_path / "b", save, "orchids", [f"IMG_{i:02d}.jpg" for i in range(17)], [f"m{i:02d}.png" for i in range(16)]
    )
    assert SPIN.load(orchids, "orchids").test[13:] == ("IMG_13.jpg", "IMG_15.jpg", "IMG_16.jpg")
    many = spin(tmp_path / "c", save, "fern", ["0.jpg"], ["m0.png", "m1.png"])
    with pytest.raises(GsegError, match="2 masks, but"):
        SPIN.load(many, "fern")


def test_ground_truth_of_zeros_and_ones_is_read(tmp_path: Path, save: Save) -> None:
    root = spin(tmp_path / "data", save, "fork", ["0.jpg", "1.jpg"], ["0.png", "1.png"])
    save(root / "SPIn-NeRF_masks" / "fork" / "1.png", box(4).astype(np.uint8))
    save(tmp_path / "pred" / "1.png", box(4))
    assert SPIN.evaluate(root, tmp_path / "pred").mean["mIoU"] == 100
    with pytest.raises(GsegError, match="is missing"):
        SPIN.load(root, "room")
