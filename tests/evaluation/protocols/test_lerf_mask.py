from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.protocols import PROTOCOLS
from gseg_ns.evaluation.protocols.lerf_mask import PROMPTS, best_id, ground_prompts, select_ids

Save = Callable[[Path, np.ndarray], None]
LERF = PROTOCOLS["lerf-mask"]


def box(top: int, left: int) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[top : top + 12, left : left + 15] = True
    return mask


def scene_of(root: Path, save: Save, name: str = "desk") -> Path:
    """Five views, three of them held out; view 1 has no masks, as in teatime."""
    scene = root / "lerf_mask" / name
    for i in range(5):
        save(scene / "images" / f"frame_{i:05d}.jpg", np.zeros((40, 60, 3), np.uint8))
        if i in (1, 3):
            save(scene / "images_train" / f"frame_{i:05d}.jpg", np.zeros((40, 60, 3), np.uint8))
    for view, shift in (("0", 0), ("2", 5)):
        save(scene / "test_mask" / view / "green apple.png", box(2, 2 + shift))
        save(scene / "test_mask" / view / "tea in a glass.png", box(20, 30 + shift))
    return scene


def test_views_prompts_and_targets(tmp_path: Path, save: Save) -> None:
    loaded = LERF.load(scene_of(tmp_path, save).parent, "desk")
    assert loaded.train == ("frame_00001.jpg", "frame_00003.jpg")
    assert loaded.test == ("frame_00000.jpg", "frame_00002.jpg", "frame_00004.jpg")
    assert [prompt.name for prompt in loaded.prompts] == ["green apple", "tea in a glass"]
    assert loaded.targets["2/green apple.png"].image == "frame_00004.jpg"
    assert LERF.renderings(loaded) == {"0.png": "frame_00000.jpg", "2.png": "frame_00004.jpg"}
    assert [len(PROMPTS[name]) for name in ("figurines", "ramen", "teatime")] == [7, 6, 10]


def test_masks_with_both_treatments_of_missing_ones(tmp_path: Path, save: Save) -> None:
    scene = scene_of(tmp_path, save)
    save(tmp_path / "pred" / "0" / "green apple.png", box(2, 2))
    save(tmp_path / "pred" / "2" / "green apple.png", box(2, 7)[::2, ::2])  # half the size
    save(tmp_path / "pred" / "0" / "tea in a glass.png", box(20, 30))
    scores = LERF.evaluate(scene, tmp_path / "pred").scenes["desk"]
    assert scores.missing == ("2/tea in a glass.png",)
    assert scores.values["mIoU_skip"] > 95
    assert scores.values["mIoU"] == pytest.approx((scores.details["green apple"]["IoU"] + 50) / 2)
    assert scores.values["mBIoU"] < scores.values["mBIoU_skip"]


def test_perfect_and_empty(tmp_path: Path, save: Save) -> None:
    scene = scene_of(tmp_path, save)
    perfect = LERF.evaluate(scene, scene / "test_mask").mean
    assert (perfect["mIoU"], perfect["mBIoU"], perfect["mIoU_skip"]) == (100, 100, 100)
    for key in LERF.load(scene, "desk").targets:
        save(tmp_path / "pred" / key, np.zeros((40, 60), bool))
    empty = LERF.evaluate(scene, tmp_path / "pred").mean
    assert (empty["mIoU"], empty["mBIoU"]) == (0, 0)


def test_ids_are_picked_on_one_view_and_logged(tmp_path: Path, save: Save) -> None:
    scene = scene_of(tmp_path, save)
    for view, shift in (("0", 0), ("2", 5)):
        ids = np.full((40, 60), 9, np.uint16)
        ids[box(2, 2 + shift)] = 1
        ids[20:32, 30 + shift : 37 + shift], ids[20:32, 37 + shift : 45 + shift] = 301, 302  # the glass in two parts
        save(tmp_path / "pred" / f"{view}.png", ids)
    scores = LERF.evaluate(scene, tmp_path / "pred").scenes["desk"]
    assert scores.values["mIoU"] == 100
    assert scores.values["mIoU_unseen"] == 100
    assert "tea in a glass: ids [301, 302] picked on view 0" in scores.notes


def test_the_rules_for_picking_ids() -> None:
    ids = np.zeros((10, 10), int)
    ids[:, :4], ids[:, 4:8] = 5, 6
    mask = np.zeros((10, 10), bool)
    mask[:, :6] = True
    assert select_ids(ids, mask) == [5]
    assert select_ids(ids, mask, threshold=0.4) == [5, 6]
    assert best_id(ids, mask) == 5
    assert best_id(ids, np.roll(mask, 8, axis=1) & (ids == 0)) is None
    assert select_ids(ids, ~mask & (ids == 0)) == []


def test_bad_layouts(tmp_path: Path, save: Save) -> None:
    scene = scene_of(tmp_path, save)
    (tmp_path / "none").mkdir()
    with pytest.raises(GsegError, match="no prediction of desk"):
        LERF.evaluate(scene, tmp_path / "none")
    with pytest.raises(GsegError, match="not a folder of predictions"):
        LERF.evaluate(scene, tmp_path / "nowhere")
    save(scene / "test_mask" / "3" / "green apple.png", box(0, 0))
    with pytest.raises(GsegError, match="3 is no test view"):
        LERF.load(scene, "desk")
    with pytest.raises(GsegError, match="no mask for the prompts chopsticks, egg"):
        LERF.load(scene_of(tmp_path / "b", save, "ramen"), "ramen")
    lost = scene_of(tmp_path / "c", save)
    for path in (lost / "images_train").iterdir():
        path.unlink()
    with pytest.raises(GsegError, match="images_train holds no image"):
        LERF.load(lost, "desk")
    with pytest.raises(GsegError, match="is missing"):
        LERF.scenes(tmp_path / "nowhere")


def test_a_mask_of_zeros_and_ones_is_refused(tmp_path: Path, save: Save) -> None:
    scene = scene_of(tmp_path, save)
    save(tmp_path / "pred" / "0" / "green apple.png", box(2, 2).astype(np.uint8))
    with pytest.raises(GsegError, match="0 and 255"):
        LERF.evaluate(scene, tmp_path / "pred")


def test_texts_found_on_one_view_answer_all_views(tmp_path: Path, save: Save) -> None:
    scene = scene_of(tmp_path, save)
    for view, shift in (("0", 0), ("2", 5)):
        ids = np.full((40, 60), 9, np.uint16)
        ids[box(2, 2 + shift)], ids[box(20, 30 + shift)] = 1, 2
        save(tmp_path / "pred" / "desk" / f"{view}.png", ids)
    seen = []

    def ground(picture: np.ndarray, text: str) -> torch.Tensor:
        seen.append((picture.shape, text))
        # The glass is not found, the apple a little too large.
        return torch.from_numpy(
            np.pad(box(2, 2), 1)[2:, 2:] | box(2, 2) if text == "green apple" else box(0, 0) & False
        )

    loaded = LERF.load(scene.parent, "desk")
    picture = np.zeros((40, 60, 3), np.uint8)
    chosen = ground_prompts(loaded, tmp_path / "pred" / "desk", picture, "0", ground)
    assert chosen == {"green apple": [1], "tea in a glass": []}
    assert seen == [((40, 60, 3), "green apple"), ((40, 60, 3), "tea in a glass")]
    scores = LERF.evaluate(scene.parent, tmp_path / "pred").scenes["desk"]
    assert scores.values["mIoU"] == 50  # one found in both views, one in none
    assert scores.values["mIoU_picked"] == 100  # the ground truth chooses the ids
