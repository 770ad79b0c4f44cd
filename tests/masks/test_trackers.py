"""Trackers of transformers, tiny and with random weights: what they are asked, and the shapes of what they answer."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.masks.trackers import VideoTracker, load_tracker
from tiny_models import save_sam2_video

pytest.importorskip("transformers", minversion="5")

HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracker") / "tiny"
    save_sam2_video(folder)
    return folder


@pytest.fixture(scope="module")
def tracker(folder: Path) -> VideoTracker:
    return load_tracker(folder, "cpu")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8))


def square() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, 10:30] = True
    return mask


def test_a_mask_is_carried_through_all_pictures(tracker: VideoTracker, pictures: list[np.ndarray]) -> None:
    masks = tracker.carry(pictures, square())
    assert [mask.shape for mask in masks] == [(HEIGHT, WIDTH)] * 4
    assert all(mask.dtype == bool for mask in masks)
    assert np.array_equal(masks[0], square())
    again = tracker.carry(pictures, square())
    assert all(np.array_equal(one, other) for one, other in zip(masks, again, strict=True))


def test_several_things_keep_their_numbers(tracker: VideoTracker, pictures: list[np.ndarray]) -> None:
    found = tracker.carry_all(pictures, {7: square(), 3: ~square()})
    assert set(found[0]) == {7, 3}
    assert all(set(masks) <= {7, 3} for masks in found)
    assert any(found[1:])


def test_points_on_a_picture(tracker: VideoTracker, pictures: list[np.ndarray]) -> None:
    mask = tracker.mask(pictures[0], np.array([[20.0, 20.0], [50.0, 5.0]]), np.array([True, False]))
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask.dtype == bool


def test_what_is_no_tracker_is_told_in_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GsegError, match="Cannot load 'nobody/none' as a tracker"):
        load_tracker("nobody/none", "cpu")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(GsegError, match="is a clip, which follows nothing"):
        load_tracker(tmp_path / "clip", "cpu")
    (folder / "half").mkdir()
    (folder / "half" / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(GsegError, match=r"Cannot load .* as a tracker") as caught:
        load_tracker(folder / "half", "cpu")
    assert "\n" not in str(caught.value)

    def gated(*_: object, **__: object) -> None:
        raise OSError("You are trying to access a gated repo.\n403 Client Error.")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", gated)
    with pytest.raises(GsegError, match="grants access by hand") as caught:
        load_tracker("facebook/sam3", "cpu")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(GsegError, match=r"needs transformers.*\[sam2\]"):
        load_tracker(folder, "cpu")
    monkeypatch.setitem(
        __import__("sys").modules,
        "transformers",
        SimpleNamespace(
            AutoConfig=SimpleNamespace(from_pretrained=lambda name, **_: SimpleNamespace(model_type="sam3"))
        ),
    )
    with pytest.raises(GsegError, match=r"needs transformers 5.*\[sam3\]"):
        load_tracker(folder, "cpu")
