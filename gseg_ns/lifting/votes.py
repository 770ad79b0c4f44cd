"""The closed-form lift: rendering is linear in labels, so summed contributions decide each Gaussian's label.

For pixel p and Gaussian i, w_ip = alpha_i T_i. The vote of label k for Gaussian i is the sum of w_ip over the pixels
with that label in all views; its argmax is the optimal assignment of FlashSplat's (ECCV 2024) linear program.

What a view says is kept sparse (`ViewVotes`): it shows few of the Gaussians, and each of them in one or two masks. Kept
for each mask of each view, votes answer every question of a lift after one pass over the views: how masks associate,
and by a renumbering of the labels, what each Gaussian is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.lifting.memory_bank import relabel
from gseg_ns.rendering import Camera, sparse_vote, vote
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

IN_MEMORY = 1 << 29
"""Bytes of votes that are kept in memory, by default; the rest is in a temporary file."""

TABLE, SMALL_TABLE, TABLES = 1 << 25, 1 << 21, 64
"""Entries of the table in which votes are summed, for some Gaussians at a time (128 MiB). The small one (8 MiB) is
quicker, as it stays in the caches, but each table asks every view: no more than so many of them."""


class ViewVotes(NamedTuple):
    """What the Gaussians give to the labels of one view: the sums that are not zero, on the CPU."""

    gaussians: Tensor  # [nnz] int32, rising
    labels: Tensor  # [nnz] int32, rising for each Gaussian
    weights: Tensor  # [nnz] float32, pixels

    def of(self, first: int, last: int) -> ViewVotes:
        """Those of the Gaussians first..last."""
        begin, end = np.searchsorted(self.gaussians.numpy(), [first, last])
        return ViewVotes(*(part[begin:end] for part in self))


class Lift(NamedTuple):
    """Each Gaussian's label."""

    labels: Tensor  # [N] int64
    """0 for Gaussians that no labelled pixel saw."""
    confidence: Tensor  # [N] float32
    """The label's part of all that labelled pixels gave, in 0..1; of hidden ones that were named (`name_hidden`), the
    part of their neighbours that have it, where that is less."""


@torch.no_grad()
def view_votes(meta: dict[str, Any], labels: Tensor) -> ViewVotes:
    """Ask one view.

    Args:
        meta: the view's projection (`gseg_ns.rendering.project`).
        labels: its label map [H, W], 0 = unlabelled.
    """
    return ViewVotes(*(part.cpu() for part in sparse_vote(meta, labels)))


class VoteStore(Sequence[ViewVotes]):
    """The votes of many views: in memory up to a bound, beyond it in a temporary file that goes when they go.

    Memory does not grow with the number of views, and reading what a view said is far quicker than rendering it again.
    """

    def __init__(self, max_bytes: float = IN_MEMORY) -> None:
        """Start without a view.

        Args:
            max_bytes: bound on what is kept in memory.
        """
        self._kept: list[ViewVotes | tuple[int, int]] = []  # or the place in the file, and how many
        self._left = max_bytes
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, votes: ViewVotes) -> None:
        """Add a view.

        Raises:
            GsegError: the disk is full.
        """
        size = sum(part.numel() * part.element_size() for part in votes)
        if size <= self._left:
            self._left -= size
            self._kept.append(votes)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="gseg-votes-")
            place = self._file.seek(0, 2)
            for part in votes:
                self._file.write(part.contiguous().numpy().data)
        except OSError as error:
            raise GsegError(
                f"Cannot write votes into {tempfile.gettempdir()}: {error.strerror or error}. "
                "Set TMPDIR to a folder with more space."
            ) from error
        self._kept.append((place, len(votes.gaussians)))

    def __getitem__(self, view: int) -> ViewVotes:  # type: ignore[override]
        kept = self._kept[view]
        return kept if isinstance(kept, ViewVotes) else self._read(*kept, 0, kept[1])

    def of(self, view: int, first: int, last: int) -> ViewVotes:
        """The votes of the Gaussians first..last in a view."""
        kept = self._kept[view]
        if isinstance(kept, ViewVotes):
            return kept.of(first, last)
        begin, end = self._search(*kept, first), self._search(*kept, last)
        return self._read(*kept, begin, end)

    def _read(self, place: int, count: int, begin: int, end: int) -> ViewVotes:
        parts = []
        for number, kind in enumerate((np.int32, np.int32, np.float32)):
            assert self._file is not None
            self._file.seek(place + 4 * (number * count + begin))
            parts.append(torch.from_numpy(np.frombuffer(bytearray(self._file.read(4 * (end - begin))), kind)))
        return ViewVotes(*parts)

    def _search(self, place: int, count: int, gaussian: int) -> int:
        """The first entry of a view in the file whose Gaussian is not below this one."""
        assert self._file is not None
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            self._file.seek(place + 4 * middle)
            if int.from_bytes(self._file.read(4), "little") < gaussian:
                low = middle + 1
            else:
                high = middle
        return low


def lift(
    votes: VoteStore, lookups: Sequence[Tensor], num_groups: int, num_gaussians: int, count_unlabelled: bool = False
) -> Lift:
    """Sum the votes of all views for groups, and decide each Gaussian's.

    Summed for some Gaussians at a time, so that memory grows neither with the number of groups nor with that of views.

    Args:
        votes: of the views.
        lookups: group of each label of each view [L + 1] int64, 0 = none; labels beyond it have none.
        num_groups: the largest group.
        num_gaussians: N.
        count_unlabelled: let 0 win where most of a Gaussian lies in pixels without a group.

    Returns:
        group of each Gaussian and how sure it is, on the CPU.
    """
    result = Lift(torch.zeros(num_gaussians, dtype=torch.long), torch.zeros(num_gaussians))
    width = num_groups + 1
    step = max(min(TABLE, max(SMALL_TABLE, num_gaussians * width // TABLES)) // width, 1)
    for first in range(0, num_gaussians, step):
        last = min(first + step, num_gaussians)
        table = torch.zeros((last - first) * width)
        for view, lookup in enumerate(lookups):
            gaussians, labels, weights = votes.of(view, first, last)
            table.index_add_(0, (gaussians.long() - first) * width + relabel(labels, lookup.cpu()), weights)
        sums = table.view(-1, width)
        labels = labels_from_votes(sums, count_unlabelled)
        best = sums.gather(1, labels[:, None])[:, 0]
        total = sums.sum(dim=1) if count_unlabelled else sums[:, 1:].sum(dim=1)
        result.labels[first:last] = labels
        result.confidence[first:last] = torch.where(total > 0, best / total.clamp_min(1e-12), 0).clamp_max(1)
    return result


@torch.no_grad()
def lift_truth(splats: Splats, views: Sequence[tuple[Camera, Tensor]]) -> Tensor:
    """The object that each Gaussian belongs to by ground truth: where most of its contribution lies.

    For scores of single objects, where a selection pays for all that it covers beside its own: what is no object (0)
    wins Gaussians as any object does. `ClosedForm.ceiling` is for scores of label maps, which do not look at 0.

    Args:
        splats: the Gaussians.
        views: camera and label map [H, W] of each view.

    Returns:
        [N] int64 on the device of the splats, 0 = no object, or not seen.
    """
    ids = torch.cat([torch.zeros(1, dtype=torch.long), *(labels.unique().clamp_min(0) for _, labels in views)]).unique()
    votes = VoteStore()
    for camera, labels in views:
        dense = torch.searchsorted(ids, labels.long().clamp_min(0))
        votes.append(view_votes(project_splats(splats, camera.to(splats.device)), dense))
    same = [torch.arange(len(ids))] * len(votes)
    return ids[lift(votes, same, len(ids) - 1, len(splats), count_unlabelled=True).labels].to(splats.device)


def accumulate_votes(
    views: Iterable[tuple[dict[str, Any], Tensor]],
    num_gaussians: int,
    num_labels: int,
    device: torch.device | str = "cpu",
    progress: Callable[[], None] = lambda: None,
) -> Tensor:
    """Sum the contributions of every Gaussian to every label over the views, as a table: for few labels.

    Args:
        views: per view the projection `meta` of `gseg_ns.rendering.project` and its label map [H, W] int.
        num_gaussians: N.
        num_labels: K, one more than the largest label.
        device: where the sum is kept.
        progress: called after each view.

    Returns:
        votes [N, K] float32; column 0 is what unlabelled pixels gave.
    """
    votes = torch.zeros((num_gaussians, num_labels), device=device)
    for meta, labels in views:
        vote(meta, labels, num_labels, votes)
        progress()
    return votes


def labels_from_votes(votes: Tensor, count_unlabelled: bool = False) -> Tensor:
    """Decide each Gaussian's label.

    Args:
        votes: [N, K] summed contributions.
        count_unlabelled: let label 0 win where most of a Gaussian lies in unlabelled pixels.

    Returns:
        labels [N] int64; 0 for Gaussians that no labelled pixel saw.
    """
    if count_unlabelled:
        return votes.argmax(dim=1)
    best, label = votes[:, 1:].max(dim=1) if votes.shape[1] > 1 else (votes[:, 0] * 0, votes[:, 0].long() * 0)
    return torch.where(best > 0, label + 1, 0)
