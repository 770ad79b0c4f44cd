from __future__ import annotations

import pytest
import torch

from gseg_ns.masks import MaskSet, paint, said_of_labels
from gseg_ns.masks.words import clean_word, track_of, word_of


def test_labels_of_painted_masks_keep_what_their_records_say() -> None:
    whole = torch.zeros(8, 8, dtype=torch.bool)
    left, right, hidden = whole.clone(), whole.clone(), whole.clone()
    left[:, :4], right[:, 4:], hidden[2:4, 1:3] = True, True, True
    masks = MaskSet.from_arrays(
        torch.stack([hidden, left, right]),
        [0.6, 0.7, 0.9],
        [{"label": "never seen"}, {"label": "red  chair", "track": 0}, {"class_name": "mug", "object_id": 7}],
    )
    labels = paint(masks)
    said = said_of_labels(masks)
    assert [(one.word, round(one.score, 4), one.track) for one in said] == [("mug", 0.9, 8), ("red chair", 0.7, 1)]
    assert labels[0, 7] == 1
    assert labels[0, 0] == 2
    assert len(said) == int(labels.max())
    assert said_of_labels(masks, min_score=0.95) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [("a/b\\c", "a b c"), ("  .hidden. ", "hidden"), ("two\nlines\x1b[2J", "two lines [2J"), ("x" * 99, "x" * 64)],
)
def test_words_can_be_names_of_files(text: str, word: str) -> None:
    assert clean_word(text) == word


def test_records_without_words_or_tracks_say_none() -> None:
    assert word_of({"label": 3, "category": ["mug"], "phrase": "  "}) == ""
    assert track_of({"id": 5, "track": True, "track_id": -1, "object_id": "7"}) == 0
