from __future__ import annotations

import numpy as np
import pytest
import torch

from gseg_ns.evaluation.boundary import (
    boundary,
    boundary_iou,
    boundary_width,
    iou_percent,
    label_boundary,
    mean_boundary_iou,
)


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(4):
        cy, cx, r = rng.integers(0, height), rng.integers(0, width), rng.integers(3, height // 3)
        mask |= (y - cy) ** 2 + (x - cx) ** 2 < r**2
    return mask


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0.008, 0.02, 0.05])
def test_equals_erosion_by_opencv(seed: int, ratio: float) -> None:
    cv2 = pytest.importorskip("cv2")
    mask = blobs(60, 81, seed)
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=boundary_width(60, 81, ratio))[1:-1, 1:-1]
    np.testing.assert_array_equal(boundary(mask, ratio).numpy(), mask & (eroded == 0))


def test_labels_together_equal_each_alone() -> None:
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(np.kron(rng.integers(0, 5, (6, 7)), np.ones((9, 8), int)))
    together = label_boundary(ids)
    for i in range(5):
        mask = ids == i
        assert torch.equal(together & mask, boundary(mask))


def test_worked_by_hand() -> None:
    # 10 x 10: the diagonal is 14.1 and the boundary one pixel wide.
    assert boundary_width(10, 10) == 1
    gt = np.zeros((10, 10), bool)
    gt[2:6, 2:6] = True  # outline: 16 - 4 = 12 pixels
    assert int(boundary(gt).sum()) == 12
    pred = np.zeros((10, 10), bool)
    pred[2:6, 2:7] = True  # outline: 20 - 6 = 14 pixels
    shared = 4 + 4 + 2  # two rows of four, and the left column between them
    assert boundary_iou(pred, gt) == pytest.approx(100 * shared / (12 + 14 - shared))
    assert iou_percent(torch.from_numpy(pred), torch.from_numpy(gt)) == pytest.approx(80)


def test_where_the_image_cuts_the_mask_is_boundary() -> None:
    full = np.ones((10, 12), bool)
    assert int(boundary(full).sum()) == 10 * 12 - 8 * 10
    assert boundary_iou(full, full) == 100


def test_tiny_and_empty_images() -> None:
    assert boundary(np.ones((1, 3), bool)).all()
    assert np.isnan(boundary_iou(np.zeros((4, 4), bool), np.zeros((4, 4), bool)))
    assert boundary_iou(np.zeros((4, 4), bool), np.ones((4, 4), bool)) == 0


def test_mean_over_instances() -> None:
    gt = np.ones((2, 20, 20), int)
    gt[:, 5:15, 5:15] = 2
    gt[1, 0:4, 0:4] = 3
    assert mean_boundary_iou(gt * 7, gt, {1: 7, 2: 14, 3: 21}) == pytest.approx(100)
    assert mean_boundary_iou(gt * 7, gt, {1: 7, 2: 14}) == pytest.approx(200 / 3)
    assert mean_boundary_iou(np.zeros_like(gt), gt, {}) == 0
    # Each pair of masks alone, in the views where either outline shows.
    pred = np.roll(gt, 1, axis=2)
    expected = []
    for i in (1, 2, 3):
        values = [boundary_iou(p == i, g == i) for p, g in zip(pred, gt, strict=True)]
        expected.append(np.nanmean(values))
    assert mean_boundary_iou(pred, gt, {1: 1, 2: 2, 3: 3}) == pytest.approx(np.mean(expected))


def test_void_is_not_looked_at_and_views_must_match() -> None:
    gt = np.zeros((1, 12, 12), int)
    gt[0, 2:8, 2:8] = 1
    pred = np.where(gt == 1, 1, 5)
    assert mean_boundary_iou(pred, gt, {1: 1}) == pytest.approx(100)
    with pytest.raises(ValueError, match="views"):
        mean_boundary_iou(pred, gt[:0], {})
