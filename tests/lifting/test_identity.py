from __future__ import annotations

import math

import pytest
import torch

from gseg_ns.lifting.identity import (
    IdentityClassifier,
    identity_loss,
    initialise_from_labels,
    spread_codes,
)


def test_cross_entropy_by_hand_with_class_zero_left_out() -> None:
    scores = torch.tensor([[100.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    loss = identity_loss(scores, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)) / math.log(2))


def test_class_zero_trained_as_the_official_codes_do() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]])
    targets = torch.tensor([1, 0])
    expected = torch.nn.functional.cross_entropy(scores, targets) / math.log(3)
    torch.testing.assert_close(identity_loss(scores, targets, train_unlabelled=True), expected)


def test_a_view_without_labels_gives_zero_loss_and_a_graph() -> None:
    scores = torch.randn(4, 3, requires_grad=True)
    loss = identity_loss(scores, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0


def test_relabelling_groups_permutes_the_loss_not() -> None:
    scores = torch.randn(20, 5)
    targets = torch.randint(1, 5, (20,))
    order = torch.tensor([0, 3, 1, 4, 2])
    permuted = torch.empty_like(scores)
    permuted[:, order] = scores
    torch.testing.assert_close(identity_loss(scores, targets), identity_loss(permuted, order[targets]))


@pytest.mark.parametrize("count", [1, 16, 200, 1000])
def test_codes_are_unit_vectors_far_apart(count: int) -> None:
    codes = spread_codes(count, 16)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(count), atol=1e-5, rtol=0)
    cosine = codes @ codes.T - 2 * torch.eye(count)
    limit = {1: 0.0, 16: 1e-5, 200: 0.45, 1000: 0.8}[count]
    assert cosine.max().item() <= limit


@pytest.mark.parametrize("groups", [3, 300])
def test_the_start_from_labels_is_the_closed_form_segmentation(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, groups + 1, (1000,), generator=generator)
    classifier = IdentityClassifier(16)
    weight = classifier.weight
    encodings = initialise_from_labels(labels, groups + 1, 16, classifier)
    assert classifier.weight is weight, "an optimizer made before must still hold the parameter"
    assert torch.equal(classifier.predict(encodings), labels)
    # A pixel that shows two groups is read as the one that shows more.
    first, second = encodings[labels == 1][0], encodings[labels == 2][0]
    assert classifier.predict(0.7 * first + 0.3 * second) == 1
    assert classifier.predict(torch.zeros(16)) == 0
