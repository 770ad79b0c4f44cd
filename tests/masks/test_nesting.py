"""Masks within larger ones, and masks that only touch, repeat or overlap."""

from __future__ import annotations

from pathlib import Path

import torch

from gseg_ns.masks import MaskFile, MaskSet, write_label_map, write_mask_set
from gseg_ns.masks.nesting import masks_nest, nested


def boxes(*corners: tuple[int, int, int, int]) -> MaskSet:
    """Rectangles [left, right) x [top, bottom) in an image of 20 x 12."""
    masks = torch.zeros(len(corners), 12, 20, dtype=torch.bool)
    for mask, (left, right, top, bottom) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return MaskSet.from_arrays(masks)


def test_what_lies_in_a_larger_mask() -> None:
    assert nested(boxes((0, 10, 0, 10), (2, 5, 2, 5), (12, 18, 0, 6))).tolist() == [False, True, False]
    assert nested(boxes((0, 10, 0, 10), (8, 14, 0, 10))).tolist() == [False, False]  # a border that both claim
    assert nested(boxes((0, 10, 0, 10), (0, 10, 0, 9))).tolist() == [False, False]  # two attempts at one thing
    assert nested(boxes((0, 10, 0, 10), (9, 13, 0, 2), (8, 14, 0, 10))).tolist() == [False, True, False]
    assert nested(MaskSet(12, 20)).tolist() == []


def test_most_photographs_decide(tmp_path: Path) -> None:
    files = []
    for view in range(30):
        path = tmp_path / f"{view}.json"
        write_mask_set(path, boxes((0, 10, 0, 10), (2, 5, 2, 5)) if view % 3 else boxes((0, 5, 0, 5), (5, 9, 0, 5)))
        files.append(MaskFile.of(path))
    assert masks_nest(files)
    assert not masks_nest(files[::3])
    assert not masks_nest([])
    write_label_map(tmp_path / "map.png", torch.tensor([[1, 1, 2], [1, 2, 2]]).int())
    assert not masks_nest([MaskFile.of(tmp_path / "map.png")])
