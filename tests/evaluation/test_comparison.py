from __future__ import annotations

import torch

from gseg_ns.evaluation.comparison import WRONG, comparison
from gseg_ns.palette import colors


def test_matched_predictions_have_the_color_of_the_truth_and_errors_are_red() -> None:
    truth = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]])
    predicted = torch.tensor([[2, 7, 7, 7], [2, 7, 7, 7], [2, 2, 1, 1], [2, 2, 1, 1]])
    rgb = torch.full((4, 4, 3), 0.5)
    photo, right, shown, errors = comparison(rgb, truth, predicted, {7: 1, 2: 2}, 3)
    assert torch.equal(photo, rgb)
    assert torch.equal(shown[0, 2], right[0, 2])
    assert torch.equal(shown[3, 0], colors(torch.tensor(2)) / 255)  # white outlines lie elsewhere
    assert not torch.equal(shown[3, 3], colors(torch.tensor(1)) / 255)  # an unmatched 1 is not the truth's 1
    red = (errors == torch.tensor(WRONG)).all(dim=-1)
    assert red.nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]  # void pixels are neither right nor wrong


def test_renaming_ids_changes_nothing_that_is_matched() -> None:
    truth = torch.randint(0, 4, (6, 8), generator=torch.Generator().manual_seed(0))
    rgb = torch.rand(6, 8, 3)
    first = comparison(rgb, truth, truth + 10, {i + 10: i for i in range(4)}, 4)
    second = comparison(rgb, truth, 50 - truth, {50 - i: i for i in range(4)}, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not (first[3] == torch.tensor(WRONG)).all(dim=-1).any()


def test_what_is_not_matched_has_one_color_in_all_views() -> None:
    """A view that lacks the highest labels of the ground truth does not lend their colors to others."""
    truth = [torch.ones(6, 8, dtype=torch.long), torch.full((6, 8), 7)]
    predicted = torch.full((6, 8), 5)
    shown = [comparison(torch.rand(6, 8, 3), labels, predicted, {}, 8)[2][3, 3] for labels in truth]
    assert torch.equal(shown[0], shown[1])
    assert all(not torch.equal(shown[0], colors(torch.tensor(label)) / 255) for label in range(8))
