from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.folders import read_ids
from gseg_ns.evaluation.protocols import PROTOCOLS, ProtocolOptions

Save = Callable[[Path, np.ndarray], None]
RGB = np.zeros((12, 16, 3), np.uint8)


def label_map(shift: int = 0) -> np.ndarray:
    ids = np.full((12, 16), 4, np.uint16)
    ids[2:8, 2 + shift : 9 + shift] = 300
    ids[9:12, :5] = 0
    return ids


def replica(root: Path, save: Save, frames: int = 10) -> Path:
    scene = root / "replica" / "office_0"
    for i in range(0, 5 * frames, 5):
        save(scene / "images" / f"train_rgb_{i:04d}.png", RGB)
        save(scene / "images" / f"test_rgb_{i + 2:04d}.png", RGB)
        save(scene / "semantic_instance" / f"train_semantic_instance_{i:04d}.png", label_map(i // 10))
        save(scene / "semantic_instance" / f"test_semantic_instance_{i + 2:04d}.png", label_map(i // 10))
    return scene


def test_replica_splits_and_scores(tmp_path: Path, save: Save) -> None:
    scene = replica(tmp_path, save)
    protocol = PROTOCOLS["replica-gaga"]
    assert protocol.scenes(tmp_path / "replica") == ("office_0",)
    loaded = protocol.load(tmp_path / "replica", "office_0")
    assert len(loaded.train) == len(loaded.test) == 10
    assert loaded.train[0] == "train_rgb_0000.png"
    assert loaded.targets["test_rgb_0002.png"].truth.name == "test_semantic_instance_0002.png"
    for name, target in loaded.targets.items():
        truth = read_ids(target.truth).numpy()
        save(tmp_path / "pred" / "office_0" / name, np.where(truth == 300, 9, 7).astype(np.uint8))
    report = protocol.evaluate(scene.parent, tmp_path / "pred")
    # The official script wants a third label for the unlabelled pixels; the paper's reading leaves them out.
    assert report.mean["Recall_paper"] == 100
    assert report.mean["IoU_paper"] == 100
    assert report.mean["Recall"] == pytest.approx(200 / 3)
    assert report.scenes["office_0"].missing == ()
    lift = PROTOCOLS["replica-unified-lift"].evaluate(scene, tmp_path / "pred")
    assert lift.mean == {"mIoU": pytest.approx(100), "F-score": pytest.approx(100)}


def test_missing_views_are_left_out_and_listed(tmp_path: Path, save: Save) -> None:
    scene = replica(tmp_path, save)
    protocol = PROTOCOLS["replica-gaga"]
    (tmp_path / "pred").mkdir()
    with pytest.raises(GsegError, match=r"no prediction of office_0, e\.g\. test_rgb_0002\.png"):
        protocol.evaluate(scene, tmp_path / "pred")
    save(tmp_path / "pred" / "test_rgb_0002.png", label_map())
    scores = protocol.evaluate(scene, tmp_path / "pred").scenes["office_0"]
    assert scores.values["IoU"] == 100
    assert len(scores.missing) == 9


@pytest.mark.parametrize(("percent", "count"), [(30, 54), (20, 36), (10, 18), (5, 9)])
def test_sparse_subsets_have_the_sizes_of_the_paper(tmp_path: Path, save: Save, percent: float, count: int) -> None:
    scene = replica(tmp_path, save, frames=180)
    options = ProtocolOptions(train_percent=percent, seed=3)
    loaded = PROTOCOLS["replica-gaga"].load(scene, "office_0", options)
    assert len(loaded.train) == count
    assert len(loaded.test) == 180
    assert list(loaded.train) == sorted(loaded.train)
    assert PROTOCOLS["replica-gaga"].load(scene, "office_0", options).train == loaded.train
    other = ProtocolOptions(train_percent=percent, seed=4)
    assert PROTOCOLS["replica-gaga"].load(scene, "office_0", other).train != loaded.train


def test_replica_says_which_file_is_missing(tmp_path: Path, save: Save) -> None:
    scene = replica(tmp_path, save)
    (scene / "semantic_instance" / "test_semantic_instance_0007.png").unlink()
    with pytest.raises(GsegError, match=r"test_semantic_instance_0007\.png is missing"):
        PROTOCOLS["replica-gaga"].load(scene, "office_0")
    with pytest.raises(GsegError, match="replica/<scene>/"):
        PROTOCOLS["replica-gaga"].scenes(tmp_path / "replica" / "office_0" / "images")
    with pytest.raises(GsegError, match="train_percent"):
        PROTOCOLS["replica-gaga"].load(replica(tmp_path / "b", save), "office_0", ProtocolOptions(train_percent=0))


def test_scannet(tmp_path: Path, save: Save) -> None:
    scene = tmp_path / "scannet" / "scene0010_00"
    for i in (3, 12, 101):
        save(scene / "images" / f"{i}.jpg", RGB)
        save(scene / "train" / "train_images" / f"{i}.jpg", RGB)
    for i in (7, 20, 55):
        save(scene / "test" / "test_images" / f"{i}.jpg", RGB)
        save(scene / "test" / "test_ins_full" / f"{i}.png", label_map())
        if i != 55:  # lost by COLMAP
            save(scene / "images" / f"{i}.jpg", RGB)
    protocol = PROTOCOLS["scannet-gaga"]
    loaded = protocol.load(tmp_path / "scannet", "scene0010_00")
    assert loaded.train == ("3.jpg", "12.jpg", "101.jpg")
    assert loaded.test == ("7.jpg", "20.jpg")
    for name in loaded.targets:
        save(tmp_path / "pred" / name, label_map() + 1)
    assert protocol.evaluate(scene, tmp_path / "pred").mean["IoU"] == 100
    (scene / "test" / "test_ins_full" / "20.png").unlink()
    with pytest.raises(GsegError, match=r"20\.png is missing"):
        protocol.load(scene, "scene0010_00")


def test_the_split_is_written_for_colmap_scenes(tmp_path: Path, save: Save) -> None:
    scene = replica(tmp_path, save, frames=2)
    model = scene / "sparse" / "0"
    model.mkdir(parents=True)
    names = ["train_rgb_0000.png", "test_rgb_0002.png", "test_rgb_0007.png"]  # one training view is lost
    data = struct.pack("<Q", len(names))
    for i, name in enumerate(names):
        data += struct.pack("<i7di", i + 1, *([0.0] * 7), 1) + name.encode() + b"\0"
        data += struct.pack("<Q", 2) + b"\1" * 48
    (model / "images.bin").write_bytes(data)
    protocol = PROTOCOLS["replica-gaga"]
    written = protocol.prepare(scene, "office_0")
    assert [path.name for path in written] == ["train_list.txt", "test_list.txt", "validation_list.txt"]
    assert written[0].read_text().split() == ["train_rgb_0000.png"]
    assert written[1].read_text().split() == ["test_rgb_0002.png", "test_rgb_0007.png"]
    (model / "images.bin").write_bytes(data[:60])
    with pytest.raises(GsegError, match=r"images\.bin is damaged"):
        protocol.prepare(scene, "office_0")
    (model / "images.bin").unlink()
    (model / "images.txt").write_text(
        "# comment\n1 1 0 0 0 0 0 0 1 train_rgb_0005.png\n\n2 1 0 0 0 0 0 0 1 test_rgb_0002.png\n\n"
    )
    assert protocol.prepare(scene, "office_0")[0].read_text().split() == ["train_rgb_0005.png"]
    (model / "images.txt").write_text("1 1 0 0 0 0 0 0 1 train_rgb_0005.png\n\n")
    with pytest.raises(GsegError, match="none of the test images"):
        protocol.prepare(scene, "office_0")
