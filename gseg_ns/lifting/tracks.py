"""Tracks of masks through the views, as evidence: cut where the Gaussians say so, and then believed as one more view.

A tracker (DEVA, SAM 2 and SAM 3 on video) numbers masks so that one object keeps its number from picture to picture,
mostly. Where a track jumps to another object, its masks before and after hardly share a Gaussian, though both views see
the Gaussians of either; there it is cut. Where two views share nothing, the track is all that is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import coo_array
from torch import Tensor

from gseg_ns.lifting.votes import ViewVotes

LOOK_BACK = 6
"""Masks of a track, the last ones, that its next mask is compared with."""

SAME = 0.5
"""Two masks show one object where one of them has this part of what both views see of the other."""

LEAST = 4.0
"""Pixels of a mask that another view must see, to say anything of it."""

FEWEST = 2
"""Masks of a piece of a track that says anything: one mask alone agrees with none."""


def cut_tracks(views: Sequence[ViewVotes], tracks: Sequence[Tensor]) -> list[Tensor]:
    """Cut tracks where they jump.

    Each mask goes on with that piece of its track whose last masks have most in common with it. It begins a new one
    where the views of all of them see the same Gaussians, and these lie elsewhere.

    Args:
        views: what each view says, one vote a Gaussian (`foremost`), in the order in which a tracker saw them.
        tracks: of each view, the track of each of its labels [L + 1] int64; 0 = none.

    Returns:
        the piece of each label of each view [L + 1] int64, from 1; 0 = none.
    """
    pieces: list[list[tuple[int, int]]] = []
    """Of each piece, its masks: view and label."""
    of_track: dict[int, list[int]] = {}
    """Track -> its pieces, the one that went on last in the end."""
    result = []
    shared: dict[tuple[int, int], _Shared] = {}
    for view, labels in enumerate(tracks):
        found = torch.zeros(len(labels), dtype=torch.long)
        last = {piece: pieces[piece][-LOOK_BACK:] for some in of_track.values() for piece in some}
        needed = {other for masks in last.values() for other, _ in masks}
        shared = {key: table for key, table in shared.items() if key[1] in needed}
        taken: set[int] = set()
        for label in range(1, len(labels)):
            track = int(labels[label])
            if track == 0:
                continue
            best, likeness, known = -1, 0.0, False
            for piece in reversed(of_track.get(track, [])):
                for other, mask in reversed(last.get(piece, ())):
                    if (view, other) not in shared:
                        shared[view, other] = _Shared(views[view], views[other])
                    alike = shared[view, other].likeness(label, mask)
                    if alike is None:
                        continue
                    known = True
                    if alike > likeness and piece not in taken:
                        best, likeness = piece, alike
            if not known and of_track.get(track):
                best = of_track[track][-1]
            elif likeness < SAME:
                best = -1
            if best < 0:
                best = len(pieces)
                pieces.append([])
            else:
                of_track[track].remove(best)
            pieces[best].append((view, label))
            of_track.setdefault(track, []).append(best)
            taken.add(best)
            found[label] = best + 1
        result.append(found)
    return result


def track_votes(views: Sequence[ViewVotes], pieces: Sequence[Tensor]) -> ViewVotes:
    """What tracks say of each Gaussian, as if all views were one: the piece that most of it lies in over the views.

    Args:
        views: one vote a Gaussian.
        pieces: see `cut_tracks`; those of fewer than two masks say nothing.

    Returns:
        one vote for each Gaussian that is on a track; weights are the sums over the views.
    """
    count = max((int(piece.max()) for piece in pieces if len(piece)), default=0)
    masks = torch.zeros(count + 1, dtype=torch.long)
    for piece in pieces:
        masks += torch.bincount(piece, minlength=count + 1)
    table = torch.where(masks >= FEWEST, torch.arange(count + 1), 0)
    rows, columns, values = [], [], []
    for view, piece in zip(views, pieces, strict=True):
        known = torch.zeros(int(view.labels.max()) + 1 if len(view.labels) else 1, dtype=torch.long)
        known[: len(piece)] = table[piece][: len(known)]
        on = known[view.labels.long()]
        kept = on > 0
        rows.append(view.gaussians[kept].numpy())
        columns.append(on[kept].numpy())
        values.append(view.weights[kept].numpy())
    none = np.zeros(0, np.int32)
    gaussians = np.concatenate([none, *rows])
    height = int(gaussians.max(initial=-1)) + 1
    sums = coo_array(
        (np.concatenate([none, *values]).astype(np.float32), (gaussians, np.concatenate([none, *columns]))),
        shape=(height, count + 1),
    ).tocsr()
    filled = np.flatnonzero(np.diff(sums.indptr))
    if len(filled) == 0:
        return ViewVotes(torch.zeros(0).int(), torch.zeros(0).int(), torch.zeros(0))
    most = np.maximum.reduceat(sums.data, sums.indptr[filled])
    owner = np.repeat(np.arange(len(filled)), np.diff(sums.indptr)[filled])
    winners = np.flatnonzero(sums.data == most[owner])
    first = winners[np.append(True, np.diff(owner[winners]) > 0)]
    return ViewVotes(
        torch.from_numpy(filled).int(), torch.from_numpy(sums.indices[first]).int(), torch.from_numpy(most)
    )


class _Shared:
    """What two views have in common: by pairs of their masks."""

    def __init__(self, one: ViewVotes, other: ViewVotes) -> None:
        _, here, there = np.intersect1d(
            one.gaussians.numpy(), other.gaussians.numpy(), assume_unique=True, return_indices=True
        )
        weights = np.minimum(one.weights.numpy()[here], other.weights.numpy()[there]).astype(np.float64)
        rows, columns = one.labels.numpy()[here].astype(np.int64), other.labels.numpy()[there].astype(np.int64)
        self._width = int(columns.max(initial=0)) + 1
        height = int(rows.max(initial=0)) + 1
        self._both = np.bincount(rows * self._width + columns, weights, height * self._width).reshape(height, -1)
        self._of_one, self._of_other = self._both.sum(axis=1), self._both.sum(axis=0)

    def likeness(self, label: int, other: int) -> float | None:
        """The larger part of two masks, of what both views see of each, that lies in the other; None: not seen."""
        known = label < len(self._of_one), other < self._width
        one = self._of_one[label] if known[0] else 0.0
        two = self._of_other[other] if known[1] else 0.0
        both = self._both[label, other] if all(known) else 0.0
        parts = [both / whole for whole in (one, two) if whole >= LEAST]
        return max(parts) if parts else None
