"""What the records of a scene's masks say: words of what they show, and the tracks that they are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.masks import LabelRuns, MaskFile, PaintOrder, Said, load_masks, said_of_labels
from gseg_ns.masks.words import SAYING

Records = dict[int, dict[int, Said]]
"""View -> label -> what is known of it."""

_ASKED_FIRST = 8
"""Views whose records are looked at for words and tracks; where none of them has a place for any, no other is."""


def read_records(files: Sequence[MaskFile | None], order: PaintOrder, min_score: float, min_visible: float) -> Records:
    """Read them, of all views where some view's have words or tracks; label maps have none.

    Args:
        files: of each view.
        order: as masks are painted, see `paint`.
        min_score: see there.
        min_visible: see there.

    Raises:
        GsegError: a file is damaged.
    """
    found: Records = {}
    asked = [(view, file) for view, file in enumerate(files) if file is not None and not file.is_label_map]
    could_say, any_says = False, False
    for place, (view, file) in enumerate(asked):
        if place >= _ASKED_FIRST and not could_say:
            return {}
        masks = load_masks(file)
        # An empty word is one: pictures without what was looked for may come first.
        could_say |= any(not SAYING.isdisjoint(record) for record in masks.extra)
        said = said_of_labels(masks, order, min_score, min_visible)
        any_says |= any(one.word or one.track for one in said)
        found[view] = dict(enumerate(said, start=1))
    return found if any_says else {}


def numbered_by_tracks(labels: Mapping[int, LabelRuns], records: Records) -> tuple[dict[int, LabelRuns], Records]:
    """Give masks that are on tracks the tracks' numbers; those that are on none are left out.

    Args:
        labels: label maps of views.
        records: of theirs.

    Returns:
        both by the new numbers; as they were where nothing is on a track.
    """
    if not any(one.track for said in records.values() for one in said.values()):
        return dict(labels), records
    numbered = dict(labels)
    for view, said in records.items():
        table = np.array([0, *(one.track for one in said.values())], dtype=np.uint32)
        numbered[view] = labels[view].renumbered(table)
    return numbered, {view: {one.track: one for one in said.values() if one.track} for view, said in records.items()}


def refuse_numbering(labels: Mapping[int, LabelRuns], files: Sequence[MaskFile | None], records: Records) -> None:
    """Refuse ids that cannot agree between views, since they are made when overlapping masks are painted.

    Args:
        labels: label maps of views.
        files: of each view.
        records: of the masks.

    Raises:
        GsegError: the masks are no label maps, and a view has several of them.
    """
    for view, runs in labels.items():
        file = files[view]
        tracked = any(one.track for one in records.get(view, {}).values())
        if file is not None and not file.is_label_map and not tracked and (runs.ids > 0).sum() > 1:
            raise GsegError(
                f"{file} ({file.dialect}) has masks without ids, which therefore cannot agree between the views: "
                "give label maps (PNG) or masks with a `track`, or let them be associated by consensus"
            )
