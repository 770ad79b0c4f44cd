from __future__ import annotations

import pytest
import torch

from gseg_ns.masks import MaskSet, paint, resize_labels


def painted_slowly(masks: torch.Tensor, key: torch.Tensor, scores: torch.Tensor, min_score: float, share: float):
    """Gaga's loop: paint in ascending order, keep what stays visible, number by falling score."""
    canvas = torch.full(masks.shape[1:], -1)
    for i in sorted(range(len(masks)), key=lambda i: (float(key[i]), -i)):
        if scores[i] >= min_score:
            canvas[masks[i]] = i
    out = torch.zeros(masks.shape[1:], dtype=torch.int32)
    number = 0
    for i in sorted(range(len(masks)), key=lambda i: (-float(scores[i]), i)):
        area = int(masks[i].sum())
        if scores[i] >= min_score and area and int((canvas == i).sum()) / area > share:
            number += 1
            out[canvas == i] = number
    return out


@pytest.mark.parametrize("order", ["confidence", "largest", "smallest"])
@pytest.mark.parametrize("seed", range(6))
def test_same_as_the_loop(order: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(25, 40, 30, dtype=torch.bool)
    for mask in masks:
        y, x, h, w = (int(v) for v in torch.randint(0, 25, (4,), generator=generator))
        mask[y : y + h, x : x + w] = True
    scores = (torch.rand(25, generator=generator) * 10).round() / 10  # ties
    areas = masks.sum(dim=(1, 2))
    key = {"confidence": scores, "largest": areas, "smallest": -areas}[order]
    expected = painted_slowly(masks, key, scores, 0.3, 0.2)
    result = paint(MaskSet.from_arrays(masks, scores), order, min_score=0.3, min_visible=0.2)  # type: ignore[arg-type]
    assert result.dtype == torch.int32
    assert torch.equal(result, expected)


def test_pixels_of_a_dropped_mask_are_not_handed_down() -> None:
    masks = torch.zeros(3, 10, 10, dtype=torch.bool)
    masks[0] = True
    masks[1, :5] = True
    masks[2, :5, :9] = True
    labels = paint(MaskSet.from_arrays(masks, [0.6, 0.8, 0.9]))
    assert labels[:5, :9].unique().tolist() == [1]
    assert labels[:5, 9].unique().tolist() == [0]  # mask 1 shows a tenth of itself: dropped
    assert labels[5:].unique().tolist() == [2]


def test_nothing_is_lost_above_255() -> None:
    labels = torch.arange(1, 1001, dtype=torch.int32).reshape(25, 40)
    assert paint(MaskSet.from_labels(labels)).unique().numel() == 1000


def test_no_masks() -> None:
    assert paint(MaskSet(4, 5)).shape == (4, 5)
    assert paint(MaskSet.from_arrays(torch.ones(1, 4, 5), [0.1])).max() == 0


def test_resize_labels() -> None:
    labels = torch.tensor([[1, 2], [3, 70000]], dtype=torch.int32)
    assert torch.equal(resize_labels(labels, 4, 4), labels.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert resize_labels(labels, 2, 2) is labels
