"""Grounding DINO and SAM 2 of one layer with random weights, and by recorded answers."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.paint import paint
from gseg_ns.masks.sources.base import Photo
from gseg_ns.masks.sources.grounded import GroundedConfig, GroundedSource
from gseg_ns.masks.sources.worded import with_rest
from gseg_ns.masks.words import said_of_labels
from tiny_models import save_grounding_dino, save_sam2

pytest.importorskip("transformers", minversion="5")

HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_grounding_dino(folder / "dino")
    save_sam2(folder / "sam2")
    return folder


@pytest.fixture
def photo() -> Photo:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Photo(PurePosixPath("a.png"), pixels)


def config(models: Path, **options: Any) -> GroundedConfig:
    given = {"words": ("mug", "red chair"), "model": str(models / "dino"), "sam": str(models / "sam2")}
    return GroundedConfig(**{**given, **options})


def test_tiny_models_from_end_to_end(models: Path, photo: Photo) -> None:
    source = config(models, threshold=0.0).setup("cpu")
    masks = source.generate(photo, embed=False).masks
    assert (masks.height, masks.width) == (HEIGHT, WIDTH)
    words = {record["label"] for record in masks.extra}
    assert {"mug", "red chair"} <= words <= {"mug", "red chair", ""}
    assert masks.scores.tolist() == sorted(masks.scores.tolist(), reverse=True)
    for record in masks.extra:
        if record["label"]:
            x0, y0, x1, y1 = record["box"]
            assert 0 <= x0 < x1 <= WIDTH
            assert 0 <= y0 < y1 <= HEIGHT
    again = source.generate(photo, embed=False).masks
    assert [rle["counts"] for rle in again.rles] == [rle["counts"] for rle in masks.rles]
    only_rest = config(models, threshold=1.0).setup("cpu").generate(photo, embed=False).masks
    assert [record["label"] for record in only_rest.extra] == [""]
    assert only_rest.areas.tolist() == [HEIGHT * WIDTH]


def test_settings_tell_models_apart(models: Path) -> None:
    settings = config(models).settings()
    assert settings["model"] == "dino"
    assert settings["sam"]["model"] == "sam2"
    assert len(settings["weights"]) == len(settings["sam"]["weights"]) == 1
    assert config(models).is_asked
    assert not GroundedConfig().is_asked


class Inputs(dict[str, Any]):
    def to(self, device: Any) -> Inputs:
        return self


class Recorded:
    """Knows two mugs, found three times, and no chair."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.boxes: list[list[float]] = []

    def __call__(self, images: Any = None, text: str = "", **given: Any) -> Any:
        if images is not None:
            self.asked.append(text)
            return Inputs(input_ids=text)
        return given["input_ids"]

    def post_process_grounded_object_detection(self, outputs: str, ids: str, **asked: Any) -> list[dict[str, Any]]:
        assert asked["target_sizes"] == [(HEIGHT, WIDTH)]
        boxes = [[1, 1, 10, 10], [1, 1, 10.5, 10], [30, 20, 99, 30]] if outputs == "mug." else []
        boxes += [[5, 5, 5.2, 30]] if outputs == "mug." else []
        return [
            {"boxes": torch.tensor(boxes).reshape(-1, 4), "scores": torch.tensor([0.6, 0.8, 0.7, 0.9])[: len(boxes)]}
        ]

    def set_image(self, picture: np.ndarray) -> None:
        assert picture.shape == (HEIGHT, WIDTH, 3)

    def of_boxes(self, boxes: list[list[float]]) -> np.ndarray:
        self.boxes = boxes
        masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[int(y0) : int(y1), int(x0) : int(x1)] = True
        return masks


def test_boxes_of_one_thing_are_one_and_lie_in_the_picture(photo: Photo) -> None:
    model = Recorded()
    source = GroundedSource(model, model, model, GroundedConfig(words=("Mug.", "chair")))  # type: ignore[arg-type]
    masks = source.generate(photo, embed=False).masks
    assert model.asked == ["mug.", "chair."]
    assert model.boxes == [[1, 1, 10.5, 10], [30, 20, WIDTH, 30]]
    assert [record["label"] for record in masks.extra] == ["Mug.", "Mug.", ""]
    assert [record.get("confidence") for record in masks.extra] == [0.8, 0.7, None]
    assert [round(score, 2) for score in masks.scores.tolist()] == [0.9, 0.85, 0.5]
    assert masks.areas.tolist() == [81, 260, HEIGHT * WIDTH - 341]


def test_what_a_model_is_not_sure_of_is_in_the_label_map_too() -> None:
    """Commands that paint the masks know nothing of the least score of a box, which is less than that of a mask."""
    found = np.zeros((3, 4, 8), bool)
    for column, mask in enumerate(found):
        mask[:, 2 * column : 2 * column + 2] = True
    masks = with_rest(found, [0.0, 0.9, 0.31], [{"label": word} for word in "abc"], (4, 8))
    assert paint(masks)[0].tolist() == [3, 3, 1, 1, 2, 2, 4, 4]
    assert [said.word for said in said_of_labels(masks)] == ["b", "c", "a", ""]


def test_what_is_missing_is_told_in_one_line(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GsegError, match="give some"):
        GroundedConfig().setup("cpu")
    with pytest.raises(GsegError, match="between 0 and 1"):
        config(models, threshold=2).setup("cpu")
    for broken in ({"model": str(tmp_path)}, {"sam": str(tmp_path)}, {"sam": str(models / "dino")}):
        with pytest.raises(GsegError) as caught:
            config(models, **broken).setup("cpu")
        assert "\n" not in str(caught.value)

    def gated(*_: object, **__: object) -> None:
        raise OSError("403 Client Error.\nCannot access gated repo")

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", gated)
    with pytest.raises(GsegError, match="grants access by hand"):
        config(models).setup("cpu")
    monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace())
    with pytest.raises(GsegError, match=r"needs transformers.*\[sam2\]"):
        config(models).setup("cpu")
