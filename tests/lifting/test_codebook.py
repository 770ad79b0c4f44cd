from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.errors import GsegError
from gseg_ns.lifting import codebook, cross_entropy
from gseg_ns.lifting.codebook import (
    PRESETS,
    assign,
    associate,
    classification_loss,
    concentration_loss,
    distinct_directions,
    joined_codes,
    mask_answers,
    mask_directions,
    matched_and_won,
    shared_masks,
)
from gseg_ns.lifting.contrastive import cluster


def best_mapping(probabilities: torch.Tensor, labels: torch.Tensor, area_aware: bool) -> dict[int, int]:
    """Eq. 5 / Eq. 3 by trying every mapping."""
    names = labels.unique().tolist()

    def value(codes: tuple[int, ...]) -> float:
        parts = [probabilities[labels == name, code] for name, code in zip(names, codes, strict=True)]
        return sum(float(p.sum() if area_aware else p.mean()) for p in parts)

    best = max(itertools.permutations(range(probabilities.shape[1]), len(names)), key=value)
    return dict(zip(names, best, strict=True))


@pytest.mark.parametrize("area_aware", [True, False])
@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_assignment_is_the_best_of_all(area_aware: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(60, 5, generator=generator).softmax(-1)
    labels = torch.randint(3, 7, (60,), generator=generator)
    codes = assign(cluster(probabilities, labels), area_aware)
    expected = best_mapping(probabilities, labels, area_aware)
    assert codes.tolist() == [expected[label] for label in labels.tolist()]


def test_area_decides_who_gets_a_contested_code() -> None:
    # A large mask that leans to code 0 a little and a small one that leans to it a lot.
    probabilities = torch.cat([torch.tensor([[0.55, 0.45]]).expand(90, 2), torch.tensor([[0.9, 0.1]]).expand(10, 2)])
    labels = torch.cat([torch.full((90,), 1), torch.full((10,), 2)])
    clusters = cluster(probabilities, labels)
    assert assign(clusters, area_aware=True)[0] == 0
    assert assign(clusters, area_aware=False)[0] == 1


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_permuting_codes_permutes_only_ids(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(80, 6, generator=generator)
    codebook = torch.randn(9, 6, generator=generator)
    labels = torch.randint(0, 5, (80,), generator=generator)
    order = torch.randperm(9, generator=generator)

    def losses(book: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        codes = assign(associate(features, book, labels))
        return codes, classification_loss(features, book, codes), concentration_loss(features, book, codes)

    codes, *before = losses(codebook)
    shuffled, *after = losses(codebook[order])
    assert torch.equal(order[shuffled], codes)
    torch.testing.assert_close(torch.stack(before), torch.stack(after))
    # So does relabelling the view: the mapping is from masks, whatever they are called.
    assert torch.equal(assign(associate(features, codebook, labels * 7 + 3)), codes)


def test_masks_are_the_codes_that_their_pixels_are_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    features, codebook = torch.randn(700, 6, generator=generator), torch.randn(9, 6, generator=generator)
    labels = torch.randint(2, 6, (700,), generator=generator)
    expected = cluster((features @ codebook.T).softmax(-1), labels)
    for together in (1 << 17, 9 * 100):
        monkeypatch.setattr(cross_entropy, "TOGETHER", together)
        found = associate(features, codebook, labels)
        torch.testing.assert_close(found.centroids, expected.centroids)
        for name in ("labels", "index", "sizes"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


def test_more_masks_than_codes_is_refused() -> None:
    with pytest.raises(GsegError, match=r"5 masks but the codebook has 4 codes.*num-codes"):
        assign(cluster(torch.rand(10, 4), torch.arange(10) % 5))


def test_a_view_without_masks_costs_nothing() -> None:
    empty, codebook = torch.zeros(0, 6), torch.randn(4, 6, requires_grad=True)
    codes = assign(associate(empty, codebook, torch.zeros(0, dtype=torch.long)))
    assert codes.shape == (0,)
    assert classification_loss(empty, codebook, codes).item() == 0
    assert concentration_loss(empty, codebook, codes).item() == 0


def test_losses_as_published() -> None:
    features, codebook = torch.randn(5, 3), torch.randn(4, 3)
    codes = torch.tensor([0, 1, 2, 3, 0])
    each = -(features @ codebook.T).log_softmax(-1)[torch.arange(5), codes]
    torch.testing.assert_close(classification_loss(features, codebook, codes, log_classes=False), each.mean())
    torch.testing.assert_close(classification_loss(features, codebook, codes), each.mean() / math.log(4))
    believed = torch.tensor([True, False, True, True, False])
    some = classification_loss(features, codebook, codes, log_classes=False, believed=believed)
    torch.testing.assert_close(some, each[believed].mean())
    nobody = classification_loss(features, codebook, codes, believed=torch.zeros(5, dtype=torch.bool))
    assert nobody.item() == 0
    l1 = (codebook[codes] - features / features.abs().sum(-1, keepdim=True)).abs().sum(-1).mean()
    torch.testing.assert_close(concentration_loss(features, codebook, codes, order=1), l1)
    assert PRESETS["paper"].concentration / PRESETS["paper"].classification == pytest.approx(100)
    assert PRESETS["official"].concentration / PRESETS["official"].classification == pytest.approx(1e4)


def test_a_code_wins_masks_that_decode_to_it() -> None:
    # Ten pixels of a mask matched to code 0, six of which it wins; four of one matched to code 2, which 0 wins.
    logits = torch.zeros(14, 4)
    logits[:6, 0] = 1.0
    logits[6:10, 3] = 1.0
    logits[10:, 0] = 1.0
    codes = torch.tensor([0] * 10 + [2] * 4)
    matched, won = matched_and_won(logits.argmax(dim=1), codes, 4)
    assert matched.tolist() == [10, 0, 4, 0]
    assert won.tolist() == [10, 0, 0, 0]
    logits[5, 3] = 2.0  # half is not most
    assert matched_and_won(logits.argmax(dim=1), codes, 4)[1].tolist() == [0, 0, 0, 0]


def test_codes_in_one_mask_are_told_from_codes_beside_each_other() -> None:
    # A floor matched to code 4 decodes to 4 and 7 and, at a border, to 2; a cup matched to code 2 decodes to 2.
    decoded = torch.tensor([4] * 6 + [7] * 5 + [2] * 1 + [2] * 3)
    codes = torch.tensor([4] * 12 + [2] * 3)
    joint, beside = shared_masks(decoded, codes, 9)
    present = torch.tensor([2, 4, 7])
    assert joint[present[:, None], present].tolist() == [[0, 0, 0], [0, 0, 5], [0, 5, 0]]
    assert beside[present[:, None], present].tolist() == [[0, 4, 4], [4, 0, 5], [4, 5, 0]]
    assert joint.sum() == 10
    assert beside.sum() == 26
    order = torch.randperm(len(decoded), generator=torch.Generator().manual_seed(0))
    for one, other in zip(shared_masks(decoded[order], codes[order], 9), (joint, beside), strict=True):
        assert torch.equal(one, other)


def test_a_few_stray_pixels_say_nothing_of_where_a_code_belongs() -> None:
    decoded = torch.tensor([4] * 28 + [7] * 2)
    joint, beside = shared_masks(decoded, torch.full((30,), 4), 9)
    assert joint.sum() == beside.sum() == 0


def test_a_mask_is_what_most_of_its_pixels_decode_to() -> None:
    labels = torch.tensor([[0, 1, 1, 1], [2, 2, 4, 4], [5, 5, 5, 5]])
    decoded = torch.tensor([[9, 7, 7, 3], [3, 9, 0, 0], [9, 9, 9, 0]])
    # 1: two of three; 2: a half is not most; 3: no pixels; 4: nothing is there; 5: three of four.
    assert mask_answers(labels, decoded).tolist() == [0, 7, 0, 0, 0, 9]
    assert mask_answers(labels.int(), torch.zeros_like(decoded)).tolist() == [0] * 6


def test_masks_point_where_their_believed_pixels_do_in_the_mean() -> None:
    features = torch.tensor([[2.0, 0.0], [0.0, 5.0], [0.0, -3.0], [4.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([7, 7, 7, 3, 3, 0, 0], dtype=torch.int32)
    believed = torch.tensor([True, True, False, True, True, True, True])
    found = mask_directions(features, labels, 1, believed)  # of masks 3 and 7: lengths of features do not count
    half = math.pi / 8
    expected = torch.tensor([[math.cos(half), math.sin(half)], [0.5**0.5, 0.5**0.5]])
    torch.testing.assert_close(found, expected)
    assert mask_directions(features, labels, 2, believed).shape == (0, 2)
    assert len(mask_directions(features, labels, 2)) == 1  # the three pixels of mask 7
    assert mask_directions(features, torch.zeros(7, dtype=torch.int32), 0).shape == (0, 2)


def at(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_what_most_masks_show_comes_first() -> None:
    # One object at about 0, seen three times, one at 90, seen twice, and one at 200 that one mask shows.
    shown = at(200, -5, 90, 0, 94, 5)
    found = distinct_directions(shown, 10, near=math.cos(math.radians(7)))
    torch.testing.assert_close(found, at(0, 92, 200))
    torch.testing.assert_close(distinct_directions(shown, 2, near=math.cos(math.radians(7))), at(0, 92))
    assert distinct_directions(shown[:0], 10).shape == (0, 2)


def test_a_mask_is_taken_by_the_middle_of_an_object_and_not_by_its_rim() -> None:
    # A chain from 0 to 24 degrees: its middle is near them all, its ends only to a half.
    found = distinct_directions(at(0, 6, 12, 18, 24), 10, near=math.cos(math.radians(13)))
    torch.testing.assert_close(found, at(12))


@given(seed=st.integers(0, 1000), objects=st.integers(1, 30))
@settings(max_examples=15, deadline=None)
def test_objects_that_stand_apart_get_a_code_each_in_any_order(seed: int, objects: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.linalg.qr(torch.randn(32, 32, generator=generator))[0][:objects]
    names = torch.cat([torch.arange(objects), torch.randint(objects, (60,), generator=generator)])
    noise = torch.nn.functional.normalize(torch.randn(len(names), 32, generator=generator), dim=1)
    shown = torch.nn.functional.normalize(centers[names] + 0.1 * noise, dim=1)  # at most 12 degrees between two
    found = distinct_directions(shown, 32)
    assert len(found) == objects
    assert (found @ centers.T).argmax(dim=1).unique().tolist() == list(range(objects))
    sizes = torch.bincount(names)[(found @ centers.T).argmax(dim=1)]
    assert (sizes[1:] <= sizes[:-1]).all()
    again = distinct_directions(shown[torch.randperm(len(shown), generator=generator)], 32)
    assert ((found @ again.T) > 0.999).sum() == objects


def test_many_masks_are_compared_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = torch.nn.functional.normalize(torch.randn(300, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    expected = distinct_directions(shown, 50, near=0.8)
    monkeypatch.setattr(codebook, "SCORES", 300 * 7)
    assert torch.equal(distinct_directions(shown, 50, near=0.8), expected)
    assert ((expected @ shown.T).amax(dim=0) > 0.6).all()  # nothing is far from all of them


def pairs(count: int, found: dict[tuple[int, int], tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of pairs of codes in one mask, and at all."""
    joint, beside = np.zeros((2, count, count), np.float32)
    for (one, other), (together, seen) in found.items():
        joint[one, other] = joint[other, one] = together
        beside[one, other] = beside[other, one] = seen
    return joint, beside


@pytest.mark.parametrize(
    ("together", "seen", "joined"),
    [
        (60, 100, True),  # more than a half
        (40, 100, False),  # less, by one view or two
        (19, 19, False),  # hardly met
        (280, 1000, True),  # more than a quarter, and met often
        (240, 1000, False),
        (175, 699, False),  # five masks of 140 pixels are 700
        (175, 700, True),
    ],
)
def test_codes_join_by_what_views_show_of_both(together: float, seen: float, joined: bool) -> None:
    found = joined_codes(*pairs(3, {(0, 2): (together, seen), (1, 2): (0, 500)}), 0.5, 20, 140)
    assert (found[0] == found[2]).item() == joined
    assert found[1] not in (found[0], found[2])


def test_pieces_that_join_are_asked_together() -> None:
    """0 and 1 are one by a half; with 2 they were met in 400 pixels each, which together is often."""
    found = joined_codes(*pairs(3, {(0, 1): (80, 100), (0, 2): (150, 400), (1, 2): (120, 400)}), 0.5, 20, 140)
    assert found.tolist() == [0, 0, 0]
    apart = joined_codes(*pairs(3, {(0, 1): (20, 100), (0, 2): (150, 400), (1, 2): (120, 400)}), 0.5, 20, 140)
    assert len(apart.unique()) == 3


def test_no_codes_are_no_objects() -> None:
    none = np.zeros((0, 0), np.float32)
    assert joined_codes(none, none, 0.5, 20, 140).shape == (0,)
