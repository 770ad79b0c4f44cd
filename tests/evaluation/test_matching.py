from __future__ import annotations

import numpy as np
import pytest
import torch

from gseg_ns.evaluation.matching import evaluate_instances, mean_view_iou
from gseg_ns.evaluation.overlap import count_overlaps, resize_nearest


def random_maps(views: int, labels: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, labels + 1, size=(views, 4, 5))
    return np.kron(coarse, np.ones((1, 6, 6), dtype=np.int64))


def by_the_letter(pred: np.ndarray, gt: np.ndarray, variant: str) -> tuple[float, float, float]:
    """Algorithm 1 as printed, with loops over pairs and images; undefined IoU left out of the mean."""
    from scipy.optimize import linear_sum_assignment

    gt_ids, pred_ids = np.unique(gt), np.unique(pred)
    iou = np.zeros((len(gt_ids), max(len(gt_ids), len(pred_ids))))
    for i, g in enumerate(gt_ids):
        for j, p in enumerate(pred_ids):
            values = []
            for k in range(len(gt)):
                a, b = gt[k] == g, pred[k] == p
                if (a | b).any() if variant == "paper" else a.any():
                    values.append((a & b).sum() / (a | b).sum())
            iou[i, j] = np.mean(values) if values else 0
    rows, columns = linear_sum_assignment(iou, maximize=True)
    paired = iou[rows, columns]
    hits = (paired > 0.5).sum()
    return 100 * paired.mean(), 100 * hits / len(pred_ids), 100 * hits / len(gt_ids)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_algorithm_1_by_loops(variant: str, seed: int) -> None:
    gt = random_maps(3, 5, seed)
    pred = gt * 10
    noise = np.random.default_rng(seed + 100).random(gt.shape) < 0.3
    pred[noise] = random_maps(3, 7, seed + 50)[noise]
    scores = evaluate_instances(pred, gt, variant=variant)  # type: ignore[arg-type]
    assert (scores.iou, scores.precision, scores.recall) == pytest.approx(by_the_letter(pred, gt, variant))


def test_worked_by_hand() -> None:
    # One view, 4 x 4: object 1 is the left half, 2 the upper right quarter, 3 the lower right one.
    gt = np.array([[[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 3, 3], [1, 1, 3, 3]]])
    # 7 takes six of the eight pixels of 1; 8 the rest of 1 and all of 2; 9 is three pixels of 3; one pixel unlabelled.
    pred = np.array([[[8, 8, 8, 8], [7, 7, 8, 8], [7, 7, 9, 9], [7, 7, 9, 0]]])
    scores = evaluate_instances(pred, gt)
    assert scores.gt_iou == pytest.approx({1: 100 * 6 / 8, 2: 100 * 4 / 6, 3: 100 * 3 / 4})
    assert scores.iou == pytest.approx(100 * (6 / 8 + 4 / 6 + 3 / 4) / 3)
    assert [pair[:2] for pair in scores.pairs] == [(1, 7), (2, 8), (3, 9)]
    assert (scores.precision, scores.recall, scores.f_score) == pytest.approx((100, 100, 100))
    # The official script counts the unlabelled pixel as a fourth predicted instance.
    assert evaluate_instances(pred, gt, variant="official").precision == pytest.approx(75)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_perfect_permuted_and_empty(variant: str) -> None:
    gt = random_maps(4, 9, 3)
    gt[0][gt[0] == 4] = 5  # an object that one view does not show
    perfect = evaluate_instances(gt, gt, variant=variant)  # type: ignore[arg-type]
    assert (perfect.iou, perfect.precision, perfect.recall) == (100, 100, 100)
    permuted = (gt * 7919) % 65521
    assert evaluate_instances(permuted, gt, variant=variant).iou == 100  # type: ignore[arg-type]
    empty = evaluate_instances(np.zeros_like(gt), gt, variant="paper")
    assert (empty.iou, empty.precision, empty.recall, empty.num_pred, empty.pairs) == (0, 0, 0, 0, ())


def test_views_where_both_are_absent_do_not_count_and_spill_does() -> None:
    gt = np.zeros((10, 2, 2), dtype=np.int64)
    gt[:] = 1
    gt[0, 0] = 2
    pred = gt.copy()
    pred[1, 0] = 2  # spills into a view that does not show object 2
    assert evaluate_instances(pred, gt).gt_iou[2] == pytest.approx(50)
    assert evaluate_instances(pred, gt, variant="official").gt_iou[2] == pytest.approx(100)


def test_two_objects_seldom_in_view_are_not_matched_for_their_absence() -> None:
    gt = np.ones((50, 4, 4), dtype=np.int64)
    gt[0, :2] = 2
    pred = np.ones((50, 4, 4), dtype=np.int64)
    pred[49, :2] = 2
    scores = evaluate_instances(pred, gt)
    assert scores.gt_iou[2] == 0
    assert scores.recall == 50


def test_void_ground_truth_and_absent_prediction() -> None:
    gt = np.array([[[0, 0, 1, 1]]])
    pred = np.array([[[5, 5, 5, 0]]])
    scores = evaluate_instances(pred, gt)
    assert scores.iou == pytest.approx(50)  # the two pixels on void are not held against 5; the 0 is a miss
    assert (scores.num_gt, scores.num_pred) == (1, 1)
    strict = evaluate_instances(pred, gt, ignore_gt=())
    assert strict.gt_iou == pytest.approx({0: 100 * 2 / 3, 1: 0.0})


def test_fewer_predictions_than_objects() -> None:
    gt = np.array([[[1, 2, 3, 4]]])
    pred = np.array([[[1, 1, 3, 3]]])
    scores = evaluate_instances(pred, gt)
    assert scores.iou == pytest.approx(25)
    assert scores.num_pred == 2
    assert set(scores.gt_iou) == {1, 2, 3, 4}
    assert (scores.precision, scores.recall) == (0, 0)  # exactly 0.5 is not above 0.5


def test_other_sizes_are_resized_nearest() -> None:
    gt = np.kron(random_maps(2, 6, 1), np.ones((1, 2, 2), dtype=np.int64))
    scores = evaluate_instances(gt[:, ::2, ::2], list(gt))
    assert scores.iou == 100
    out = resize_nearest(torch.tensor([[1, 2], [3, 4]]), 4, 3)
    assert out.tolist() == [[1, 2, 2], [1, 2, 2], [3, 4, 4], [3, 4, 4]]


def test_torch_and_numpy_and_large_ids() -> None:
    gt = random_maps(2, 6, 2)
    large = gt * (2**33) - 5
    assert evaluate_instances(torch.from_numpy(large), torch.from_numpy(gt)).iou == 100
    overlaps = count_overlaps(large, gt)
    assert overlaps.total()[:, :-1].sum() == gt.size
    assert mean_view_iou(overlaps).max() == 1


@pytest.mark.parametrize(
    ("pred", "gt"),
    [
        (np.zeros((2, 3, 3), int), np.zeros((3, 3, 3), int)),
        (np.zeros((0, 3, 3), int), np.zeros((0, 3, 3), int)),
        (np.zeros((1, 3, 3)), np.zeros((1, 3, 3), int)),
        (np.zeros((1, 3), int), np.zeros((1, 3, 3), int)),
    ],
)
def test_what_cannot_be_compared(pred: np.ndarray, gt: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"view|integers|dimensions"):
        evaluate_instances(pred, gt)


@pytest.mark.parametrize("seed", range(3))
def test_counting_close_and_scattered_ids_agree(seed: int) -> None:
    gt, pred = random_maps(2, 6, seed) - 1, random_maps(2, 8, seed + 9) - 3
    near = count_overlaps(pred, gt, ignore_gt=(0, 99), ignore_pred=(-2,))
    far = count_overlaps(pred * 2**30, gt * 2**40, ignore_gt=(0,), ignore_pred=(-(2**31),))
    assert torch.equal(near.gt_ids * 2**40, far.gt_ids)
    assert torch.equal(near.pred_ids * 2**30, far.pred_ids)
    assert torch.equal(near.total(), far.total())
    assert torch.equal(near.view(1), far.view(1))


def test_predictions_on_void_only_are_no_instances() -> None:
    gt = np.array([[[0, 0, 1, 2]]])
    overlaps = count_overlaps(np.array([[[7, 8, 8, 9]]]), gt, ignore_gt=(0,))
    assert overlaps.pred_ids.tolist() == [8, 9]
    assert overlaps.total().tolist() == [[1, 0, 0], [0, 1, 0]]
