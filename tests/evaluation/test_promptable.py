from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from gseg_ns.evaluation.promptable import evaluate_masks, lerf_mask_scores


def mask(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gt, pred = rng.random((3, 20, 30)) < 0.4, rng.random((3, 20, 30)) < 0.5
    scores = evaluate_masks(list(pred), list(gt))
    expected = [jaccard_score(g.ravel(), p.ravel()) for p, g in zip(pred, gt, strict=True)]
    assert scores.view_iou == pytest.approx([100 * value for value in expected])
    assert scores.iou == pytest.approx(100 * np.mean(expected))
    assert scores.accuracy == pytest.approx(100 * accuracy_score(gt.ravel(), pred.ravel()))


def test_worked_by_hand_with_an_empty_view() -> None:
    gt = [mask("##..", "##.."), mask("....", "....")]
    pred = [mask(".##.", ".##."), mask("....", "....")]
    scores = evaluate_masks(pred, gt)
    assert scores.iou == pytest.approx(100 / 3)
    assert scores.accuracy == pytest.approx((50 + 100) / 2)
    assert math.isnan(scores.view_iou[1])
    claimed = evaluate_masks([pred[0], pred[0]], gt)
    assert claimed.iou == pytest.approx(50 / 3)


def test_perfect_empty_and_resized() -> None:
    gt = mask("##..", "##..", "....", "....")
    assert (evaluate_masks([gt], [gt]).iou, evaluate_masks([gt], [gt]).accuracy) == (100, 100)
    assert evaluate_masks([gt & False], [gt]).iou == 0
    assert evaluate_masks([gt[::2, ::2]], [gt]).iou == 100
    assert math.isnan(evaluate_masks([gt & False], [gt & False]).iou)
    with pytest.raises(ValueError, match="0 predicted"):
        evaluate_masks([], [gt])


def test_lerf_mask_means_prompts_and_treats_missing_both_ways() -> None:
    left, wide = mask("##..", "##.."), mask("####", "####")
    gt = {("0", "apple"): left, ("1", "apple"): left, ("0", "tea in a glass"): wide}
    pred = {("0", "apple"): left, ("1", "apple"): wide}
    zero = lerf_mask_scores(pred, gt)
    assert zero.prompts["apple"][0] == pytest.approx(75)
    assert zero.miou == pytest.approx(37.5)
    assert zero.missing == (("0", "tea in a glass"),)
    skip = lerf_mask_scores(pred, gt, missing="skip")
    assert skip.miou == pytest.approx(75)
    assert list(skip.prompts) == ["apple"]
    assert skip.missing == zero.missing


def test_lerf_mask_perfect_and_nothing() -> None:
    gt = {("0", "a"): mask("##", ".."), ("2", "b"): mask("..", "..")}
    perfect = lerf_mask_scores(gt, gt)
    assert (perfect.miou, perfect.mbiou) == (100, 100)  # the empty pair is undefined, not NaN for all
    nothing = lerf_mask_scores({}, gt)
    assert (nothing.miou, nothing.mbiou) == (0, 0)
    assert lerf_mask_scores({}, gt, missing="skip").miou == 0
    with pytest.raises(ValueError, match="ground-truth"):
        lerf_mask_scores({}, {})
