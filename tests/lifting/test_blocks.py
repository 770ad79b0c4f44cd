from __future__ import annotations

import pytest
import torch

from gseg_ns.lifting import blocks
from gseg_ns.lifting.blocks import decide, highest_score
from gseg_ns.lifting.identity import IdentityClassifier


def test_blocks_decide_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(5, 7, 6)
    sizes = []

    def choose(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return rows.argmax(dim=-1)

    monkeypatch.setattr(blocks, "SCORES", 60)
    assert torch.equal(decide(choose, features, 6), features.argmax(dim=-1))
    assert sizes == [10, 10, 10, 5]
    assert decide(choose, features[:0], 6).shape == (0, 7)


def test_the_highest_score_is_found_without_all_of_them() -> None:
    generator = torch.Generator().manual_seed(0)
    weights, biases = torch.randn((300, 16), generator=generator), torch.randn(300, generator=generator)
    regions = torch.randn((9, 16), generator=generator)
    # An image of a few objects with soft borders, noise, and pixels that are empty.
    image = regions[torch.arange(64 * 50) // 357] * torch.rand((64 * 50, 1), generator=generator).round()
    image = (image + 0.02 * torch.randn((64 * 50, 16), generator=generator)).view(50, 64, 16)
    for features in (image, torch.randn((777, 16), generator=generator), image[:0]):
        scores = features.double() @ weights.double().T + biases.double()
        found = highest_score(features, weights, biases)
        assert found.shape == features.shape[:-1]
        best = scores.gather(-1, found[..., None])[..., 0]
        assert bool((best >= scores.amax(dim=-1) - 1e-4).all())
        assert (found != scores.argmax(dim=-1)).float().sum() <= 1


def test_of_equal_scores_the_first_class_wins_and_broken_rows_get_an_answer() -> None:
    weights = torch.tensor([[0.0, 1], [1, 0], [1, 0], [0, -1]])
    rows = torch.tensor([[1.0, 0]] * 40 + [[0, 0]] * 40 + [[torch.nan, 1], [torch.inf, 0], [-1, 0.5]])
    found = highest_score(rows, weights)
    assert found[:40].tolist() == [1] * 40
    assert found[64:80].tolist() == [0] * 16
    assert found[-1] == 0
    assert bool(((found >= 0) & (found < 4)).all())


def test_a_classifier_is_silent_where_encodings_are() -> None:
    classifier = IdentityClassifier(16, 40)
    torch.nn.init.normal_(classifier.weight)
    torch.nn.init.normal_(classifier.bias)
    encodings = torch.randn(9, 11, 16)
    encodings[4] *= 1e-4
    scores = classifier(encodings)
    assert torch.equal(classifier.predict(encodings, train_unlabelled=True), scores.argmax(dim=-1))
    expected = scores[..., 1:].argmax(dim=-1) + 1
    expected[4] = 0
    assert torch.equal(classifier.predict(encodings), expected)
    assert not IdentityClassifier(16, 1).predict(encodings).any()
