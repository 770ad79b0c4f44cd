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


def plain(scores: int) -> IdentityClassifier:
    """A classifier for which the numbers of an encoding are the scores."""
    classifier = IdentityClassifier(scores, scores)
    with torch.no_grad():
        classifier.weight.copy_(torch.eye(scores))
    return classifier


def test_cross_entropy_by_hand_with_class_zero_left_out() -> None:
    scores = torch.tensor([[100.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    loss = identity_loss(plain(3), scores, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)) / math.log(2))


@pytest.mark.parametrize("train_unlabelled", [False, True])
def test_it_is_torchs_cross_entropy(train_unlabelled: bool) -> None:
    scores, targets = torch.randn(50, 5), torch.randint(0, 5, (50,))
    left = 0 if train_unlabelled else 1
    ignored = -100 if train_unlabelled else -1
    expected = torch.nn.functional.cross_entropy(scores[:, left:], targets - left, ignore_index=ignored)
    found = identity_loss(plain(5), scores, targets, train_unlabelled)
    torch.testing.assert_close(found, expected / math.log(5 - left))


@pytest.mark.parametrize("classes", [1, 3])
def test_a_view_without_labels_gives_zero_loss_and_a_graph(classes: int) -> None:
    classifier, encodings = plain(classes), torch.randn(4, classes, requires_grad=True)
    loss = identity_loss(classifier, encodings, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    for leaf in (encodings, classifier.weight, classifier.bias):
        assert leaf.grad is not None
        assert not leaf.grad.any()


def test_relabelling_groups_permutes_the_loss_not() -> None:
    scores = torch.randn(20, 5)
    targets = torch.randint(1, 5, (20,))
    order = torch.tensor([0, 3, 1, 4, 2])
    permuted = torch.empty_like(scores)
    permuted[:, order] = scores
    torch.testing.assert_close(
        identity_loss(plain(5), scores, targets), identity_loss(plain(5), permuted, order[targets])
    )


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
