from __future__ import annotations

import numpy as np
import pytest
import torch

from gseg_ns.evaluation.panoptic import (
    instance_panoptic_quality,
    largest_id,
    messy_rooms_quality,
    panoptic_quality,
)

THINGS, STUFFS = {1, 2}, {0, 5}


def random_scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)

    def coarse(high: int) -> np.ndarray:
        return np.kron(rng.integers(0, high, (3, 3, 4)), np.ones((1, 5, 5), int))

    classes = np.array([0, 1, 2, 5])
    gt_semantic, gt_instance = classes[coarse(4)], coarse(3)
    pred_semantic, pred_instance = gt_semantic.copy(), gt_instance + 4
    noise = rng.random(gt_semantic.shape) < 0.25
    pred_semantic[noise] = classes[coarse(4)][noise]
    pred_instance[noise] = coarse(3)[noise]
    return pred_semantic, pred_instance, gt_semantic, gt_instance


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("void", [False, True])
def test_equals_torchmetrics(seed: int, void: bool) -> None:
    from torchmetrics.detection import PanopticQuality

    ps, pi, gs, gi = random_scene(seed)
    if void:
        gs = gs.copy()
        gs[:, :, 12:] = 99  # a class that is neither thing nor stuff
        pi[:, :, 13:] = 77  # an instance that lies mostly there
    metric = PanopticQuality(
        things=THINGS, stuffs=STUFFS, allow_unknown_preds_category=True, return_sq_and_rq=True, return_per_class=True
    )
    to_pairs = lambda s, i: torch.from_numpy(np.stack([s, i], -1).reshape(1, -1, 2))  # noqa: E731
    expected = metric(to_pairs(ps, pi), to_pairs(gs, gi))
    scores = panoptic_quality(ps, pi, gs, gi, THINGS, STUFFS)
    for row, name in enumerate([1, 2, 0, 5]):
        if name in scores.classes:
            mine = scores.classes[name]
            assert (mine.pq, mine.sq, mine.rq) == pytest.approx((100 * expected[row]).tolist(), abs=1e-4)
    average = PanopticQuality(things=THINGS, stuffs=STUFFS, allow_unknown_preds_category=True)
    assert scores.pq == pytest.approx(100 * float(average(to_pairs(ps, pi), to_pairs(gs, gi))), abs=1e-4)


def test_worked_by_hand() -> None:
    gt = np.array([[[1, 1, 1, 1, 2, 2, 3, 3]]])
    # 9 covers three of four pixels of 1 (IoU 3/4); 8 the rest and one of 2 (IoU 1/3); 7 is 3 exactly.
    pred = np.array([[[9, 9, 9, 8, 8, 0, 7, 7]]])
    scores = instance_panoptic_quality(pred, gt)
    one = scores.classes[1]
    assert (one.true_positives, one.false_positives, one.false_negatives) == (2, 1, 1)
    assert one.sq == pytest.approx(100 * (3 / 4 + 1) / 2)
    assert scores.pq == pytest.approx(100 * (3 / 4 + 1) / (2 + 0.5 + 0.5))


def test_ids_must_agree_between_views() -> None:
    gt = np.stack([np.full((4, 4), 3), np.full((4, 4), 3)])
    assert instance_panoptic_quality(np.stack([gt[0], gt[1]]), gt).pq == 100
    assert instance_panoptic_quality(np.stack([gt[0] * 2, gt[1] * 3]), gt).pq == 0  # each half is exactly 0.5


def test_perfect_permuted_empty() -> None:
    _, _, _, gi = random_scene(1)
    gi = gi + 1
    assert instance_panoptic_quality(gi, gi).pq == 100
    assert instance_panoptic_quality((gi * 7919) % 65521, gi).pq == 100
    empty = instance_panoptic_quality(np.zeros_like(gi), gi)
    assert (empty.pq, empty.classes[1].false_negatives) == (0, 3)


def test_messy_rooms_takes_the_largest_segment_for_background() -> None:
    gt_instance = np.zeros((2, 16, 16), int)
    gt_instance[:, :4, :4], gt_instance[:, 8:12, 8:12] = 1, 2
    gt_semantic = (gt_instance > 0).astype(int)
    pred = np.where(gt_instance == 0, 40, gt_instance * 10)
    assert largest_id([torch.from_numpy(p) for p in pred]) == 40
    scores = messy_rooms_quality(pred, gt_semantic, gt_instance)
    assert scores.pq == 100
    assert set(scores.classes) == {0, 1}
    merged = np.where(pred == 20, 10, pred)  # two objects of equal size in one segment: neither is above 0.5
    half = messy_rooms_quality(merged, gt_semantic, gt_instance)
    assert half.classes[1].pq == 0
    assert half.pq == pytest.approx(50)


def test_rare_classes_are_left_out_of_messy_rooms() -> None:
    gt_instance = np.zeros((1, 64, 64), int)
    gt_instance[0, :2, :2] = 1  # 0.1 % of the pixels
    semantic = (gt_instance > 0).astype(int)
    scores = messy_rooms_quality(np.full_like(gt_instance, 3), semantic, gt_instance)
    assert scores.classes[1].pq == 0
    assert scores.pq == pytest.approx(scores.classes[0].pq)


def test_bad_input() -> None:
    one = np.ones((1, 2, 2), int)
    with pytest.raises(ValueError, match="both thing and stuff"):
        panoptic_quality(one, one, one, one, {1}, {1})
    with pytest.raises(ValueError, match="semantic map"):
        panoptic_quality(one, one, one, np.ones((1, 3, 2), int), {1}, {0})
