"""Which neighbours a Gaussian's affinity feature is smoothed over: those that the masks do not part from it.

SAGA averages the 16 nearest (section 3.3), which removes outliers in space. On a thin part, a handle say, most of the
16 belong to what the part is fixed to, and the average is the feature of that. The masks that supervise the features
also say where parts end, so neighbours are asked about before any feature exists: a neighbour that lies in another
mask in most of what the views show of both is left out. A pair that no view shows is not parted: outliers that are
nowhere seen keep all of theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gseg_ns.lifting.kernels import add_pairs
from gseg_ns.lifting.votes import ViewVotes
from gseg_ns.masks import MaskSet
from gseg_ns.rendering import threads

MAX_NEIGHBOURS = 31
"""Neighbours whose flags fit into an int32 that is not negative."""


def finest_masks(masks: MaskSet, scales: Tensor) -> Tensor:
    """The smallest mask of each region of a view.

    Args:
        masks: M masks of a view.
        scales: [M] their 3D scales.

    Returns:
        [R] int32, for each region of `masks.partition`: 1 + mask, 0 where there is none.
    """
    members = masks.partition[2]
    if len(masks) == 0:
        return torch.zeros(len(members), dtype=torch.int32)
    size = torch.where(members, scales.cpu(), torch.inf)
    return torch.where(members.any(dim=1), size.argmin(dim=1) + 1, 0).int()


class NeighbourVotes:
    """How far the masks of all views put a Gaussian and each of its neighbours together."""

    def __init__(self, neighbours: Tensor) -> None:
        """Start without a view.

        Args:
            neighbours: [N, K] int64, each Gaussian itself among them or not.
        """
        self.neighbours = neighbours
        self._same = torch.zeros(neighbours.shape, device=neighbours.device)
        self._both = torch.zeros_like(self._same)

    @torch.no_grad()
    def add(self, view: ViewVotes) -> None:
        """Hear one view.

        A Gaussian is in the label that most of its contribution lies in, and a pair has the weight of the fainter one,
        so that what shines through a border by a fraction of a pixel decides nothing.

        Args:
            view: what it says, one vote a Gaussian (`gseg_ns.lifting.consensus.foremost`).
        """
        weight, label = torch.zeros(len(self._same)), torch.zeros(len(self._same), dtype=torch.int32)
        weight[view.gaussians.long()], label[view.gaussians.long()] = view.weights, view.labels
        if not self._same.is_cuda:
            threads.share(
                add_pairs, len(weight), self.neighbours.numpy(), weight.numpy(), label.numpy(), self._both.numpy(),
                self._same.numpy(), grain=1 << 14,
            )  # fmt: skip
            return
        label, weight = label.to(self._same.device), weight.to(self._same.device)
        both = torch.minimum(weight[:, None], weight[self.neighbours])
        self._both += both
        self._same += both * (label[:, None] == label[self.neighbours])

    def agreeing(self, least: float) -> Tensor:
        """Neighbours that share a mask in at least this part of what is seen of both: bool [N, K].

        Pairs that no view shows together are kept.
        """
        return self._same >= least * self._both


def pack_flags(kept: Tensor) -> Tensor:
    """Bool [N, K], K <= `MAX_NEIGHBOURS`, as the bits of int32 [N]."""
    place = torch.arange(kept.shape[1], dtype=torch.int32, device=kept.device)
    return (kept.int() << place).sum(dim=1, dtype=torch.int32)


def without_parted(neighbours: Tensor, flags: Tensor) -> Tensor:
    """Put a Gaussian itself in the place of each neighbour that is not kept.

    Args:
        neighbours: [N, K].
        flags: int32 [N], see `pack_flags`.

    Returns:
        [N, K].
    """
    place = torch.arange(neighbours.shape[1], dtype=torch.int32, device=neighbours.device)
    own = torch.arange(len(neighbours), device=neighbours.device)[:, None]
    return torch.where((flags[:, None] >> place) & 1 == 1, neighbours, own)
