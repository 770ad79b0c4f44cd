from __future__ import annotations

import pytest
import torch

from gseg_ns.lifting.naming import group_words, numbered
from gseg_ns.lifting.votes import ViewVotes
from gseg_ns.masks import Said

LABELS = torch.tensor([1] * 40 + [2] * 60)


def view(labels: torch.Tensor) -> ViewVotes:
    return ViewVotes(torch.arange(len(labels)).int(), labels.int(), torch.ones(len(labels)))


def test_the_word_of_a_group_is_that_of_most_of_its_masks_by_what_they_show() -> None:
    views = [view(LABELS), view(LABELS), view(LABELS)]
    lookups = [torch.tensor([0, 1, 2])] * 3
    said = [
        [Said("mug", 0.9, 0), Said("Table", 0.8, 0)],
        [Said("Mug", 0.7, 0), Said("table", 0.9, 0)],
        [Said("cup", 0.95, 0), Said("", 1.0, 0)],
    ]
    words = group_words(views, lookups, said, LABELS)
    assert words[1] == ("mug", pytest.approx(0.8))
    assert words[2][0] == "table"


def test_masks_of_no_group_views_without_words_and_rare_words_say_nothing() -> None:
    views = [view(LABELS)] * 5
    lookups = [torch.tensor([0, 0, 2])] * 5
    said = [[Said("mug", 1.0, 0), Said("table", 1.0, 0)], None] + [[Said("", 1.0, 0), Said("", 1.0, 0)]] * 3
    assert group_words(views, lookups, said, LABELS) == {2: ("table", 1.0)}  # a quarter of what is said
    said = [*said[:2], *([[Said("", 1.0, 0), Said("", 1.0, 0)]] * 3)]
    views, lookups, said = views + views, lookups + lookups, said + [[Said("", 1.0, 0), Said("", 1.0, 0)]] * 5
    assert group_words(views, lookups, said, LABELS) == {}


def test_names_of_one_word_differ() -> None:
    words = {1: "mug", 2: "mug", 3: "mug 2", 4: "mug"}
    names = numbered(words, {1: 10, 2: 30, 3: 5, 4: 20})
    assert names == {2: "mug", 4: "mug 3", 1: "mug 4", 3: "mug 2"}


def test_names_that_are_taken_are_not_given_again() -> None:
    assert numbered({1: "mug", 2: "mug"}, {1: 5, 2: 9}, {"mug", "mug 3"}) == {2: "mug 2", 1: "mug 4"}
    assert numbered({1: "mug"}, {1: 5}, {"chair"}) == {1: "mug"}
