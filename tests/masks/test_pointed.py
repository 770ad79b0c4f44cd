"""Points and boxes for models of transformers: tiny ones with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.pointed import load_pointed
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.prompts_sam import SamPrompts, load_predictor
from tiny_models import save_sam2, save_sam2_video, save_sam3_tracker

pytest.importorskip("transformers", minversion="5")

HEIGHT, WIDTH = 40, 56


@pytest.mark.parametrize("save", [save_sam2, save_sam2_video, save_sam3_tracker])
def test_points_and_boxes(save: Callable[[Path], None], tmp_path: Path) -> None:
    save(tmp_path / "model")
    model = load_predictor(tmp_path / "model", "cpu")
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    model.set_image(picture)
    masks, scores, _ = model.predict(np.array([[20.0, 20.0]]), np.array([1]), multimask_output=True)
    assert masks.shape == (3, HEIGHT, WIDTH)
    assert masks.dtype == bool
    assert scores.shape == (3,)
    masks, _, _ = model.predict(np.array([[20.0, 20.0], [3.0, 4.0]]), np.array([1, 0]), multimask_output=False)
    assert masks.shape == (1, HEIGHT, WIDTH)
    assert model.of_boxes([[1, 2, 20, 30], [3, 3, 9, 9.5]]).shape == (2, HEIGHT, WIDTH)


def test_clicks_take_a_model_in_a_folder(tmp_path: Path) -> None:
    save_sam3_tracker(tmp_path / "model")
    picture = torch.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=torch.uint8)
    mask = SamPrompts("cpu").mask(tmp_path / "model", picture, Prompt(positive=torch.tensor([[20.0, 20.0]])))
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask.dtype == torch.bool


def test_what_takes_no_points_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GsegError, match="Cannot load 'nobody/none' for points") as caught:
        load_predictor(Path("nobody/none"), "cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(GsegError, match=r"none\.pth does not exist"):
        load_predictor(tmp_path / "none.pth", "cpu")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(GsegError, match="is a clip, which takes no points"):
        load_pointed(tmp_path, "cpu")

    def gated(*_: object, **__: object) -> None:
        raise OSError("You are trying to access a gated repo.\n403 Client Error.")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", gated)
    with pytest.raises(GsegError, match="grants access by hand"):
        load_pointed("facebook/sam3", "cpu")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(GsegError, match=r"needs transformers.*\[sam2\]"):
        load_pointed("facebook/sam3", "cpu")
