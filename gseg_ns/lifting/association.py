"""From the masks of all views to groups: which masks show one object.

One way for training, `gseg lift` and benchmarks. Masks of one object have another number in every view; a lookup a view
says which group each of its labels belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from gseg_ns.lifting.consensus import ConsensusOptions, find_groups, foremost, group_lookup
from gseg_ns.lifting.memory_bank import MemoryBank, MemoryBankOptions
from gseg_ns.lifting.tracks import cut_tracks, track_votes
from gseg_ns.lifting.votes import VoteStore
from gseg_ns.rendering import Camera

NO_GROUPS = (
    "No group was found: no two views agree on anything. Likely causes: masks of other photographs, or turned (look "
    "with `gseg masks --check` and `--preview`); a --geometry in another frame than the scene's (--geometry-frame); "
    "views that share nothing; a run that was hardly trained."
)
"""What to say where masks of no two views were found to show one object."""


@dataclass(frozen=True)
class AssociationOptions:
    """How masks of different views find together."""

    kind: Literal["none", "memory-bank", "consensus", "tracks"] = "consensus"
    """none: each view's ids as they are: they agree already (or not: the paper's "w/o mask association"); tracks: the
    consensus, to which tracks of masks are evidence"""
    memory_bank: MemoryBankOptions = field(default_factory=MemoryBankOptions)
    """Settings of the memory bank"""
    consensus: ConsensusOptions = field(default_factory=ConsensusOptions)
    """Settings of the agreement of views"""


class MaskedView(Protocol):
    """A training view with masks."""

    @property
    def camera(self) -> Camera:
        """Its camera."""
        ...

    @property
    def labels(self) -> Tensor:
        """Its label map [H, W] int, 0 = unlabelled."""
        ...


class Associated(NamedTuple):
    """What `associate` found."""

    lookups: list[Tensor]
    """Group of each label of each view, [L + 1] int64 on the CPU; 0 = none."""
    num_groups: int


@torch.no_grad()
def associate(
    options: AssociationOptions,
    means: Tensor,
    views: Sequence[MaskedView],
    votes: VoteStore,
    order: Sequence[int],
    tracks: Sequence[Tensor] | None = None,
) -> Associated:
    """Give the masks of all views groups.

    Args:
        options: how.
        means: [N, 3].
        views: the views; the agreement of views looks at none of them.
        votes: what they say.
        order: the order in which views are visited, which the memory bank and tracks depend on.
        tracks: of each view, the track of each of its labels [L + 1] int64, 0 = none; for `tracks`.

    Returns:
        lookups in the order of `views`.
    """
    lookups = [torch.zeros(1, dtype=torch.long)] * len(views)
    if options.kind == "none":
        lookups = [torch.arange(int(view.labels.max()) + 1) for view in views]
        return Associated(lookups, max((len(lookup) for lookup in lookups), default=1) - 1)
    if options.kind == "memory-bank":
        bank = MemoryBank(len(means), options.memory_bank, means.device)
        for view in order:
            labels = views[view].labels.to(means.device)
            lookups[view] = bank.add_view(means, views[view].camera, labels).cpu()
        return Associated(lookups, bank.num_groups)
    said = VoteStore()
    for view in order:
        said.append(foremost(votes[view]))
    alike = None
    if options.kind == "tracks" and tracks is not None:
        alike = track_votes(said, cut_tracks(said, [tracks[view] for view in order]))
    groups = find_groups(means, said, options.consensus, alike)
    count = int(groups.max()) if len(groups) else 0
    for answer, view in zip(said, order, strict=True):
        lookups[view] = group_lookup(answer, groups, count, options.consensus)
    return Associated(lookups, count)
