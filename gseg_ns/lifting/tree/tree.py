"""One laminar tree of sets of Gaussians: parts in objects in groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from gseg_ns.errors import GsegError

Level = Literal["part", "object", "group"]
"""Where a tree is cut: at its leaves, where masks show as much above as below, or at its roots."""


@dataclass(frozen=True)
class Tree:
    """Nodes 1..n in pre-order; 0 stands for none. A Gaussian lies in its node and in all nodes above that.

    Raises:
        ValueError: the nodes are not in pre-order, or a table has another length.
    """

    parents: Tensor
    """[n + 1] int64, 0 for roots."""
    nodes: Tensor
    """[N] int64, the deepest node of each Gaussian."""
    evidence: Tensor
    """[n + 1] float32, the share of the views that see a node in which a mask fits it."""
    confidence: Tensor
    """[N] float32, the part of what views with masks of its node show of a Gaussian that lies in these masks."""
    objects: Tensor
    """[n + 1] bool, the nodes of the cut between leaves and roots (`balanced_cut`)."""

    def __post_init__(self) -> None:
        if not len(self.parents) == len(self.evidence) == len(self.objects):
            raise ValueError("the tables of nodes have different lengths")
        parents, last = self.parents.tolist(), self.last.tolist()
        for node in range(1, len(parents)):
            if not 0 <= parents[node] < node or (parents[node] and last[node] > last[parents[node]]):
                raise ValueError("the nodes are not in pre-order")

    def __len__(self) -> int:
        """n, the number of nodes."""
        return len(self.parents) - 1

    @cached_property
    def last(self) -> Tensor:
        """[n + 1] int64, the last node below each: those below node c are c + 1 .. last[c]."""
        return torch.tensor(last_below(self.parents.tolist()))

    @cached_property
    def depth(self) -> int:
        """Nodes on the longest path; 1 for a tree of objects without parts."""
        return max((len(self.path(node)) for node in range(1, len(self) + 1)), default=0)

    def path(self, node: int) -> list[int]:
        """The node and all above it, up to the root; empty for none."""
        found = []
        while node > 0:
            found.append(node)
            node = int(self.parents[node])
        return found

    def contains(self, node: int) -> Tensor:
        """Which Gaussians lie in a node: bool [N]."""
        return (self.nodes >= node) & (self.nodes <= self.last[node].to(self.nodes.device)) & (node > 0)

    def lookup(self, level: Level) -> Tensor:
        """What each node belongs to at a level: [n + 1] int64; 0 for nodes above the cut, which have no Gaussians."""
        if level == "part":
            return torch.arange(len(self) + 1)
        marked = (self.parents == 0 if level == "group" else self.objects).tolist()
        found = torch.zeros(len(self) + 1, dtype=torch.long)
        parents = self.parents.tolist()
        for node in range(1, len(found)):  # parents come first
            found[node] = node if marked[node] else found[parents[node]]
        return found

    def labels(self, level: Level) -> Tensor:
        """The node of a cut that each Gaussian lies in: [N] int64, 0 = none."""
        return self.lookup(level).to(self.nodes.device)[self.nodes]


def last_below(parents: list[int]) -> list[int]:
    """The last node below each of the nodes 1..n in pre-order, from their parents [n + 1]."""
    last = list(range(len(parents)))
    for node in range(len(parents) - 1, 0, -1):
        above = parents[node]
        last[above] = max(last[above], last[node])
    return last


def level_of(scale: float) -> Level:
    """The level of a tree that a scale in [0, 1] means: parts at 0, objects at 0.5, groups at 1.

    Raises:
        GsegError: it is outside.
    """
    if not 0 <= scale <= 1:
        raise GsegError(f"the scale {scale:g} is outside [0, 1]")
    return "part" if scale < 0.25 else "object" if scale <= 0.75 else "group"
