from __future__ import annotations

import pytest
import torch

from gseg_ns.lifting import blocks
from gseg_ns.lifting.blocks import decide
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


@pytest.mark.parametrize("train_unlabelled", [False, True])
def test_a_classifier_holds_few_scores(train_unlabelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = IdentityClassifier(16, 40)
    torch.nn.init.normal_(classifier.weight)
    encodings = torch.randn(9, 11, 16)
    expected = classifier.predict(encodings, train_unlabelled)
    monkeypatch.setattr(blocks, "SCORES", 400)
    assert torch.equal(classifier.predict(encodings, train_unlabelled), expected)
