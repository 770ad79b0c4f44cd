from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.protocols import PROTOCOLS, ProtocolOptions
from gseg_ns.evaluation.quality import psnr

Save = Callable[[Path, np.ndarray], None]
MIP = PROTOCOLS["mipnerf360"]


def photograph(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 200, (16, 24, 3)).astype(np.uint8)


def garden(root: Path, save: Save) -> Path:
    scene = root / "garden"
    (scene / "sparse" / "0").mkdir(parents=True)
    for i in range(17):
        save(scene / "images_4" / f"DSC{i:05d}.png", photograph(i))
        save(scene / "images_2" / f"DSC{i:05d}.png", photograph(i).repeat(2, 0).repeat(2, 1))
    return scene


def test_every_eighth_view_is_tested(tmp_path: Path, save: Save) -> None:
    loaded = MIP.load(garden(tmp_path / "data", save).parent, "garden")
    assert loaded.test == ("DSC00000.png", "DSC00008.png", "DSC00016.png")
    assert len(loaded.train) == 14
    sparse = MIP.load(tmp_path / "data", "garden", ProtocolOptions(train_percent=30))
    assert len(sparse.train) == 4


def test_scores(tmp_path: Path, save: Save) -> None:
    scene = garden(tmp_path / "data", save)
    for i in (0, 8, 16):
        save(tmp_path / "pred" / f"DSC{i:05d}.png", photograph(i) + 5)
    scores = MIP.evaluate(scene, tmp_path / "pred").scenes["garden"]
    assert scores.values["PSNR"] == pytest.approx(psnr(photograph(0) + 5, photograph(0)))
    assert scores.values["SSIM"] < 1
    assert set(scores.values) == {"PSNR", "SSIM"}
    with pytest.raises(GsegError, match=r"24 x 16, but .* 48 x 32"):
        MIP.evaluate(scene, tmp_path / "pred", ProtocolOptions(images="images_2"))


def test_what_is_missing_is_named(tmp_path: Path, save: Save) -> None:
    scene = garden(tmp_path / "data", save)
    save(tmp_path / "pred" / "DSC00000.png", photograph(0))
    with pytest.raises(GsegError, match=r"lacks DSC00008\.png, DSC00016\.png"):
        MIP.evaluate(scene, tmp_path / "pred")
    with pytest.raises(GsegError, match="images_8 is missing"):
        MIP.load(scene, "garden", ProtocolOptions(images="images_8"))
    with pytest.raises(GsegError, match="holds no scene"):
        MIP.scenes(scene / "images_4")
