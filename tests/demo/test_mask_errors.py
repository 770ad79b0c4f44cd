from __future__ import annotations

import numpy as np
import pytest
import torch

from gseg_ns.demo.mask_errors import MASK_ERRORS, MaskErrors, simulate_masks
from gseg_ns.masks import paint

# Two objects side by side on a floor; the first has two parts.
INSTANCE_OF = [1, 1, 2, 3]


def scene_parts() -> np.ndarray:
    parts = np.full((96, 128), 3, dtype=np.int32)
    parts[30:60, 20:50] = 0
    parts[60:80, 20:50] = 1
    parts[40:80, 50:90] = 2
    return parts


def simulate(errors: MaskErrors, seed: int = 0) -> list[tuple[np.ndarray, str]]:
    masks = simulate_masks(scene_parts(), INSTANCE_OF, 2, errors, np.random.default_rng(seed))
    return [(mask.numpy(), str(level)) for mask, level in zip(masks.decode(), masks.granularities, strict=True)]


def test_without_errors_masks_are_the_truth_in_any_order() -> None:
    parts = scene_parts()
    instances = np.array(INSTANCE_OF)[parts]
    found = simulate(MASK_ERRORS["none"])
    truth = [(instances == k, "whole") for k in (1, 2, 3)] + [(parts == k, "part") for k in (0, 1)]
    assert len(found) == len(truth)
    for mask, level in truth:
        assert any(level == other and np.array_equal(mask, candidate) for candidate, other in found)
    orders = {tuple(int(mask.sum()) for mask, _ in simulate(MASK_ERRORS["none"], seed)) for seed in range(8)}
    assert len(orders) > 1


def test_painted_by_confidence_whole_objects_win() -> None:
    masks = simulate_masks(scene_parts(), INSTANCE_OF, 2, MASK_ERRORS["none"], np.random.default_rng(1))
    labels = paint(masks)
    instances = torch.from_numpy(np.array(INSTANCE_OF)[scene_parts()])
    for instance in (1, 2, 3):
        assert len(labels[instances == instance].unique()) == 1


def test_drop_removes_all() -> None:
    masks = simulate_masks(scene_parts(), INSTANCE_OF, 2, MaskErrors(drop=1.0), np.random.default_rng(0))
    assert len(masks) == 0
    assert (masks.height, masks.width) == (96, 128)


def test_merge_takes_the_touching_neighbour() -> None:
    instances = np.array(INSTANCE_OF)[scene_parts()]
    wholes = [mask for mask, level in simulate(MaskErrors(merge=1.0)) if level == "whole"]
    assert sum(np.array_equal(mask, (instances == 1) | (instances == 2)) for mask in wholes) == 2
    assert any(np.array_equal(mask, instances == 3) for mask in wholes)


def test_split_pieces_make_up_the_whole() -> None:
    instances = np.array(INSTANCE_OF)[scene_parts()]
    pieces = [mask for mask, level in simulate(MaskErrors(split=1.0)) if level == "whole"]
    assert len(pieces) == 6
    second = [mask for mask in pieces if (mask & (instances == 2)).any()]
    assert len(second) == 2
    assert np.array_equal(second[0] ^ second[1], instances == 2)


def test_whole_missed_leaves_the_parts() -> None:
    levels = sorted(level for _, level in simulate(MaskErrors(whole_missed=1.0)))
    assert levels == ["part", "part", "whole", "whole"]


def test_fragment_keeps_the_largest_island() -> None:
    parts = scene_parts()
    parts[:, 10:14] = 2
    masks = simulate_masks(parts, INSTANCE_OF, 2, MaskErrors(fragment=1.0), np.random.default_rng(0)).decode().numpy()
    floor = next(mask for mask in masks if mask[0, 127])
    assert not floor[:, :10].any()


@pytest.mark.parametrize("ragged", [0.0, 1.0])
def test_jitter_moves_borders_a_little(ragged: float) -> None:
    instances = np.array(INSTANCE_OF)[scene_parts()]
    wholes = [mask for mask, level in simulate(MaskErrors(jitter=1.0, ragged=ragged)) if level == "whole"]
    ious = [
        max((mask & (instances == k)).sum() / (mask | (instances == k)).sum() for mask in wholes) for k in (1, 2, 3)
    ]
    assert min(ious) > 0.8
    assert max(ious) < 1.0


def test_hole_is_inside() -> None:
    instances = np.array(INSTANCE_OF)[scene_parts()]
    wholes = [mask for mask, level in simulate(MaskErrors(hole=1.0)) if level == "whole"]
    for mask in wholes:
        instance = np.bincount(instances[mask]).argmax()
        assert not (mask & (instances != instance)).any()
        assert 0.85 < mask.sum() / (instances == instance).sum() < 1.0


def test_scores_fall_with_quality() -> None:
    def mean_score(errors: MaskErrors) -> float:
        sets = [simulate_masks(scene_parts(), INSTANCE_OF, 2, errors, np.random.default_rng(k)) for k in range(6)]
        return float(torch.cat([masks.scores for masks in sets]).mean())

    assert mean_score(MASK_ERRORS["none"]) > mean_score(MASK_ERRORS["mild"]) > mean_score(MASK_ERRORS["hard"]) > 0.6
