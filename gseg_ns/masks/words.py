"""What records of masks say beside their pixels: a word for the object, and the track that a video model put it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.paint import PaintOrder, painted_masks
from gseg_ns.reading import is_one_line

WORD_KEYS = ("label", "class_name", "category_name", "category", "phrase")
"""Keys of a word, the first that has one: ours, LabelMe's and CVAT's; Grounded-SAM-2's; those of others."""
TRACK_KEYS = ("track", "track_id", "object_id", "obj_id")
"""Keys of the number of a track. COCO's `id` is none: it is another one in every image."""

SAYING = frozenset((*WORD_KEYS, *TRACK_KEYS))
"""Keys of a record by which it could say something."""

LONGEST = 64
"""Letters of a word; what is longer is cut."""
_LARGEST_TRACK = 2**20 - 1  # tables have a row a track


class Said(NamedTuple):
    """What is known of a mask."""

    word: str
    """For what it shows; empty: not said."""
    score: float
    """How sure its maker is of it."""
    track: int
    """The same in all views for one object, as far as a tracker can tell; 0: not said."""


def word_of(record: Mapping[str, Any]) -> str:
    """The word of a record in one line, as a group can be called; empty where it has none."""
    for key in WORD_KEYS:
        value = record.get(key)
        if isinstance(value, str) and value.strip():
            return clean_word(value)
    return ""


def clean_word(text: str) -> str:
    """A word in one line and few letters, without what names of files cannot have; empty where nothing is left."""
    shown = "".join(c if is_one_line(c) and c not in "/\\" else " " for c in text)
    return " ".join(shown.split())[:LONGEST].strip(" .")


def track_of(record: Mapping[str, Any]) -> int:
    """The track of a record, from 1; 0 where it says none. Trackers count from 0."""
    for key in TRACK_KEYS:
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_TRACK:
            return value + 1
    return 0


def said_of_labels(
    masks: MaskSet, order: PaintOrder = "confidence", min_score: float = 0.5, min_visible: float = 0.1
) -> list[Said]:
    """What is known of the labels 1, 2, ... of painted masks, in their order.

    Args:
        masks: of one image.
        order: as they are painted, see `paint`.
        min_score: see `paint`.
        min_visible: see `paint`.
    """
    return [
        Said(word_of(masks.extra[index]), float(masks.scores[index]), track_of(masks.extra[index]))
        for index in painted_masks(masks, order, min_score, min_visible).tolist()
    ]
