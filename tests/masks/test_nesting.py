"""Masks within larger ones, and masks that only touch, repeat or overlap."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gseg_ns.masks import MaskFile, MaskSet, load_masks, nesting, write_label_map, write_mask_set
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


def test_many_masks_at_once_and_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(0, 12, (40, 4), generator=generator)
    corners = [(min(a, b), max(a, b) + 1, min(c, d), max(c, d) + 1) for a, b, c, d in ends.tolist()]
    masks = boxes(*corners)
    dense = masks.decode().flatten(1).double()
    common, own = dense @ dense.T, dense.sum(dim=1)
    expected = ((common > 0.5 * own[:, None]) & (own[:, None] < 0.9 * own)).any(dim=1)
    assert 0 < int(expected.sum()) < 40
    assert torch.equal(nested(masks), expected)
    monkeypatch.setattr(nesting, "_BLOCK", 120)
    assert torch.equal(nested(masks), expected)


def test_masks_of_a_low_score_are_not_looked_at(tmp_path: Path) -> None:
    masks = boxes((0, 10, 0, 10), (2, 5, 2, 5))
    unsure = MaskSet(masks.height, masks.width, masks.rles, torch.tensor([0.9, 0.4]))
    write_mask_set(tmp_path / "0.json", unsure)
    files = [MaskFile.of(tmp_path / "0.json")]
    assert masks_nest(files)
    assert not masks_nest(files, 0.5)


@pytest.mark.parametrize(("nest", "looked_at"), [(True, 7), (False, 6)])
def test_nobody_looks_on_when_most_have_decided(
    nest: bool, looked_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mask_set(tmp_path / "0.json", boxes((0, 10, 0, 10), (2, 5, 2, 5)) if nest else boxes((0, 5, 0, 5)))
    seen = []
    monkeypatch.setattr(nesting, "load_masks", lambda file: seen.append(file) or load_masks(file))  # type: ignore[func-returns-value]
    assert masks_nest([MaskFile.of(tmp_path / "0.json")] * 12) == nest
    assert len(seen) == looked_at
