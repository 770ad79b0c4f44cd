from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.protocols import PROTOCOLS

Save = Callable[[Path, np.ndarray], None]
OVS = PROTOCOLS["3d-ovs"]


def half(left: bool) -> np.ndarray:
    mask = np.zeros((10, 20), bool)
    mask[:, :10] = left
    mask[:, 10:] = not left
    return mask


def bed(root: Path, save: Save) -> Path:
    scene = root / "bed"
    for i in range(5):
        save(scene / "images" / f"{i:02d}.jpg", np.zeros((10, 20, 3), np.uint8))
    for view in ("00", "03"):
        save(scene / "segmentations" / view / "banana.png", half(True))
        save(scene / "segmentations" / view / "white sheet.png", half(False))
    (scene / "segmentations" / "classes.txt").write_text("white sheet\nbanana\n\n")
    return scene


def test_classes_views_and_scores(tmp_path: Path, save: Save) -> None:
    scene = bed(tmp_path / "data", save)
    loaded = OVS.load(tmp_path / "data", "bed")
    assert [p.name for p in loaded.prompts] == ["banana", "white sheet"]
    assert loaded.test == ("00.jpg", "03.jpg")
    assert len(loaded.train) == 5
    assert OVS.evaluate(scene, scene / "segmentations").mean["mIoU"] == 100
    save(tmp_path / "pred" / "00" / "banana.png", half(True))
    save(tmp_path / "pred" / "00" / "white sheet.png", half(False))
    save(tmp_path / "pred" / "03" / "white sheet.png", np.ones((10, 20), bool))
    scores = OVS.evaluate(scene, tmp_path / "pred").scenes["bed"]
    assert scores.details["banana"]["IoU"] == 50
    assert scores.details["white sheet"]["IoU"] == 75
    assert scores.values["mIoU"] == pytest.approx(62.5)
    assert scores.missing == ("03/banana.png",)


def test_what_is_missing_is_named(tmp_path: Path, save: Save) -> None:
    scene = bed(tmp_path / "data", save)
    (tmp_path / "pred").mkdir()
    with pytest.raises(GsegError, match="no prediction of bed"):
        OVS.evaluate(scene, tmp_path / "pred")
    (scene / "segmentations" / "03" / "banana.png").unlink()
    with pytest.raises(GsegError, match=r"banana\.png is missing"):
        OVS.load(scene, "bed")
    (scene / "segmentations" / "07").mkdir()
    save(scene / "segmentations" / "03" / "banana.png", half(True))
    with pytest.raises(GsegError, match="07 names no image"):
        OVS.load(scene, "bed")
    (scene / "segmentations" / "classes.txt").write_text("\n")
    with pytest.raises(GsegError, match="names no class"):
        OVS.load(scene, "bed")
