"""SAM 3 by recorded answers: its weights are granted by hand, and none are here."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.hub import refused
from gseg_ns.masks.sources.base import Photo
from gseg_ns.masks.sources.sam3 import Sam3Config, Sam3Source

HEIGHT, WIDTH = 12, 16


class Inputs(dict[str, Any]):
    def to(self, device: Any) -> Inputs:
        return self


class Recorded:
    """A processor and a model that know two mugs and no chair."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.encoded = 0

    def __call__(self, images: Any = None, text: str | None = None, return_tensors: str = "", **asked: Any) -> Any:
        if images is not None:
            return Inputs(pixel_values=torch.zeros(1, 3, 8, 8))
        if text is not None:
            return Inputs(input_ids=text, attention_mask=None)
        assert asked["vision_embeds"] == "seen"
        return asked["input_ids"]

    def get_vision_features(self, pixel_values: torch.Tensor) -> str:
        self.encoded += 1
        return "seen"

    def post_process_instance_segmentation(self, outputs: str, target_sizes: Any, **_: Any) -> list[dict[str, Any]]:
        assert target_sizes == [[HEIGHT, WIDTH]]
        masks = torch.zeros(2 if outputs == "mug" else 0, HEIGHT, WIDTH)
        if len(masks):
            masks[0, :4, :4], masks[1, 6:, 8:] = 1, 1
        return [{"masks": masks, "scores": torch.tensor([0.7, 0.9])[: len(masks)]}]


def test_each_word_is_asked_of_a_photograph_that_is_encoded_once() -> None:
    model = Recorded()
    source = Sam3Source(model, model, ("chair", "mug"), 0.5)
    photo = Photo(PurePosixPath("a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    masks = source.generate(photo, embed=False).masks
    assert model.encoded == 1
    assert [record["label"] for record in masks.extra] == ["mug", "mug", ""]
    assert [round(score, 3) for score in masks.scores.tolist()] == [0.95, 0.85, 0.5]
    assert masks.areas.tolist() == [48, 16, HEIGHT * WIDTH - 64]


def test_what_is_missing_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GsegError, match="give some"):
        Sam3Config().setup("cpu")
    with pytest.raises(GsegError, match="between 0 and 1"):
        Sam3Config(words=("mug",), threshold=2).setup("cpu")
    told = refused("facebook/sam3", OSError("You are trying to access a gated repo.\n403 Client Error."))
    assert told is not None
    assert "grants access by hand" in told
    assert "\n" not in told
    assert refused("facebook/sam3", OSError("No space left on device")) is None
    monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace())
    with pytest.raises(GsegError, match=r"needs transformers 5.*\[sam3\]"):
        Sam3Config(words=("mug",), model=str(tmp_path)).setup("cpu")


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    pytest.importorskip("transformers", minversion="5")
    with pytest.raises(GsegError, match=r"Cannot load .* as SAM 3"):
        Sam3Config(words=("mug",), model=str(tmp_path)).setup("cpu")
