from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.protocols import PROTOCOLS

Save = Callable[[Path, np.ndarray], None]
MESSY = PROTOCOLS["messy-rooms"]
K = [[-0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]


def instances(frame: int) -> np.ndarray:
    ids = np.zeros((24, 32), np.int64)
    ids[4:12, frame % 8 : frame % 8 + 8], ids[14:22, 18:28] = 1, 2
    return ids


def room(root: Path, save: Save, frames: int = 20) -> Path:
    scene = root / "messy_rooms" / "old_room_25"
    for folder in ("semantic", "instance"):
        (scene / folder).mkdir(parents=True)
    for i in range(frames):
        save(scene / "color" / f"{i}.png", np.zeros((24, 32, 3), np.uint8))
        np.save(scene / "instance" / f"{i}.npy", instances(i))
        np.save(scene / "semantic" / f"{i}.npy", (instances(i) > 0).astype(np.int64))
    half = np.sqrt(0.5)
    camera = {"K": K, "positions": [[i, 0, 2] for i in range(frames)], "quaternions": [[half, half, 0, 0]] * frames}
    (scene / "metadata.json").write_text(json.dumps({"camera": camera}))
    return scene


def test_the_last_fifth_by_number_is_tested(tmp_path: Path, save: Save) -> None:
    loaded = MESSY.load(room(tmp_path, save).parent, "old_room_25")
    assert loaded.train[-1] == "15.png"
    assert loaded.test == ("16.png", "17.png", "18.png", "19.png")


def test_scores(tmp_path: Path, save: Save) -> None:
    scene = room(tmp_path, save)
    for i in range(16, 20):
        save(tmp_path / "pred" / f"{i}.png", (instances(i) * 40 + 3).astype(np.uint16))
    assert MESSY.evaluate(scene, tmp_path / "pred").mean["PQ_scene"] == 100
    for i in range(16, 20):  # inconsistent ids: each object is a new one in every view
        save(tmp_path / "pred" / f"{i}.png", np.where(instances(i) > 0, instances(i) + 10 * i, 0).astype(np.uint16))
    scores = MESSY.evaluate(scene, tmp_path / "pred").scenes["old_room_25"]
    assert scores.details["foreground"]["PQ"] == 0
    assert scores.values["PQ_scene"] == pytest.approx(scores.details["background"]["PQ"] / 2)


def test_given_semantic_maps_are_used(tmp_path: Path, save: Save) -> None:
    scene = room(tmp_path, save)
    for i in range(16, 20):
        save(tmp_path / "pred" / f"{i}.png", instances(i).astype(np.uint16))
        if i < 19:
            save(tmp_path / "pred" / "semantic" / f"{i}.png", np.ones((24, 32), np.uint8))
    with pytest.raises(GsegError, match=r"19\.png is missing: give semantic maps"):
        MESSY.evaluate(scene, tmp_path / "pred")
    save(tmp_path / "pred" / "semantic" / "19.png", np.ones((24, 32), np.uint8))
    scores = MESSY.evaluate(scene, tmp_path / "pred").scenes["old_room_25"]
    assert scores.details["background"]["PQ"] == 0


def test_cameras_become_a_nerfstudio_scene(tmp_path: Path, save: Save) -> None:
    scene = room(tmp_path, save)
    (path,) = MESSY.prepare(scene, "old_room_25")
    meta = json.loads(path.read_text())
    assert (meta["fl_x"], meta["fl_y"], meta["cx"], meta["cy"]) == pytest.approx((0.9 * 32, 1.2 * 24, 16, 12))
    assert len(meta["frames"]) == 20
    assert meta["test_filenames"] == [f"color/{i}.png" for i in range(16, 20)]
    assert set(meta["train_filenames"]) | set(meta["test_filenames"]) == {f["file_path"] for f in meta["frames"]}
    # A quarter turn about x: a camera that looked down looks along y.
    matrix = np.array(meta["frames"][3]["transform_matrix"])
    np.testing.assert_allclose(matrix, [[1, 0, 0, 3], [0, 0, -1, 0], [0, 1, 0, 2], [0, 0, 0, 1]], atol=1e-12)


def test_what_is_missing_is_named(tmp_path: Path, save: Save) -> None:
    scene = room(tmp_path, save)
    save(tmp_path / "pred" / "16.png", instances(16).astype(np.uint8))
    with pytest.raises(GsegError, match=r"lacks 17\.png, 18\.png, 19\.png"):
        MESSY.evaluate(scene, tmp_path / "pred")
    (scene / "metadata.json").write_text('{"camera": {"K": 3}}')
    with pytest.raises(GsegError, match="not Messy Rooms metadata"):
        MESSY.prepare(scene, "old_room_25")
    (scene / "metadata.json").write_text(json.dumps({"camera": {"K": K, "positions": [[0, 0, 0]], "quaternions": []}}))
    with pytest.raises(GsegError, match="1 positions and 0 quaternions for 20 images"):
        MESSY.prepare(scene, "old_room_25")
    (scene / "instance" / "18.npy").unlink()
    with pytest.raises(GsegError, match=r"18\.npy is missing"):
        MESSY.load(scene, "old_room_25")
