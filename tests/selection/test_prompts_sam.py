from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.selection import prompts_sam
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.prompts_sam import SamPrompts, guided_queries, sam_embedding, sam_mask, select_guided


class Predictor:
    """Three masks of a single point, the second the best; one of several."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []

    def set_image(self, picture: np.ndarray) -> None:
        self.pictures.append(picture)

    def predict(self, points: np.ndarray, labels: np.ndarray, multimask_output: bool) -> tuple[Any, ...]:
        masks = np.zeros((3 if multimask_output else 1, *self.pictures[-1].shape[:2]), bool)
        for number, mask in enumerate(masks):
            mask[: number + len(points), : int(labels.sum())] = True
        return masks, np.array([0.2, 0.9, 0.3])[: len(masks)], None


POINT = Prompt(positive=torch.tensor([[3.0, 4.0]]))
PICTURE = torch.zeros(6, 8, 3, dtype=torch.uint8)


def test_the_best_mask_of_a_point_and_the_mask_of_points() -> None:
    assert sam_mask(PICTURE, POINT, Predictor()).nonzero().tolist() == [[0, 0], [1, 0]]
    several = Prompt(positive=torch.tensor([[3.0, 4.0], [5.0, 1.0]]), negative=torch.tensor([[0.0, 0.0]]))
    mask = sam_mask(PICTURE, several, Predictor())
    assert mask.shape == (6, 8)
    assert int(mask.sum()) == 3 * 2


def test_a_checkpoint_is_loaded_and_a_picture_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: dict[Path, Predictor] = {}

    def load(checkpoint: Path, device: str) -> Predictor:
        assert checkpoint not in loaded
        if checkpoint.name == "missing.pth":
            raise GsegError("The checkpoint missing.pth does not exist.")
        loaded[checkpoint] = Predictor()
        return loaded[checkpoint]

    monkeypatch.setattr(prompts_sam, "load_predictor", load)
    sam, first, second = SamPrompts("cpu"), Path("a.pth"), Path("b.pth")
    other = PICTURE.clone()
    for picture, count in ((PICTURE, 1), (PICTURE, 1), (other, 2), (PICTURE, 3)):
        assert int(sam.mask(first, picture, POINT).sum()) == 2
        assert len(loaded[first].pictures) == count
    sam.mask(second, PICTURE, POINT)
    assert len(loaded[second].pictures) == 1
    for _ in range(2):
        with pytest.raises(GsegError, match="missing"):
            sam.mask(Path("missing.pth"), PICTURE, POINT)


def test_a_real_checkpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "sam.pth").write_bytes(b"not a model")
    for name in ("sam.pth", "nowhere.pth"):
        with pytest.raises(GsegError, match=name) as error:
            SamPrompts("cpu").mask(tmp_path / name, PICTURE, POINT)
        assert "\n" not in str(error.value)


# -------------------------------------------------------------------- version 1: queries of SAM's own features


def test_an_embedding_is_of_the_picture_without_its_padding() -> None:
    class Encoder(Predictor):
        input_size = (512, 1024)  # of a square of 1024
        model = SimpleNamespace(image_encoder=SimpleNamespace(img_size=1024))

        def get_image_embedding(self) -> torch.Tensor:
            return torch.arange(3 * 8 * 8.0).view(1, 3, 8, 8)

    found = sam_embedding(Encoder())
    assert found is not None
    assert torch.equal(found, torch.arange(3 * 8 * 8.0).view(3, 8, 8)[:, :4].permute(1, 2, 0))
    assert sam_embedding(Predictor()) is None


def _halves(left: list[float], right: list[float], height: int, width: int) -> torch.Tensor:
    image = torch.tensor(left).expand(height, width, -1).clone()
    image[:, width // 2 :] = torch.tensor(right)
    return image


def test_a_mean_that_finds_the_mask_again_is_the_query() -> None:
    projected = _halves([2.0, 0.0], [-3.0, 0.0], 2, 4)
    features = _halves([1.0, 0.5], [-1.0, 0.5], 8, 16)
    mask = torch.zeros(8, 16, dtype=torch.bool)
    mask[:, :8] = True
    assert torch.equal(guided_queries(projected, features, mask), torch.tensor([[2.0, 0.0]]))
    # A mask of one pixel covers no cell: the cell that it is in answers.
    mask = torch.zeros(8, 16, dtype=torch.bool)
    mask[0, 9] = True
    assert torch.equal(guided_queries(projected, -features.abs(), mask), torch.tensor([[-3.0, 0.0]]))


def test_a_mask_of_several_components_has_a_query_of_each() -> None:
    projected = _halves([4.0, 0.0], [-1.0, 1.0], 2, 4)
    features = _halves([1.0, -1.0], [-1.0, 1.0], 8, 16)  # the mean (1.5, 0.5) finds the left half alone
    mask = torch.ones(8, 16, dtype=torch.bool)
    found = guided_queries(projected, features, mask)
    assert sorted(found.tolist()) == [[-1.0, 1.0], [4.0, 0.0]]


def test_guided_selection_is_above_mean_and_deviation_of_dot_products() -> None:
    features = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    # Scores 3, 2, 1, 0: mean 1.5, deviation 1.118.
    assert select_guided(features, queries).tolist() == [True, False, False, False]
