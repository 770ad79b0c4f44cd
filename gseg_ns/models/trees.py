"""Methods that may answer by a tree of parts, objects and groups, grown out of overlapping masks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.lifting.association import NO_GROUPS
from gseg_ns.lifting.tree import WIDTH, Tree, grow_tree
from gseg_ns.lifting.tree.tree import last_below
from gseg_ns.lifting.votes import VoteStore, view_votes
from gseg_ns.masks import MaskSet
from gseg_ns.masks.mask_set import encode
from gseg_ns.models.heaviest import HeaviestModel
from gseg_ns.rendering import top_contributors


class AskedMasks(NamedTuple):
    """What all views say of their overlapping masks, as `grow_tree` takes it."""

    votes: VoteStore
    members: Sequence[Tensor]
    foremost: Sequence[Tensor]


class TreeModel(HeaviestModel):
    """A method that may have a tree; without one it answers as it does."""

    gaussian_buffers: tuple[str, ...] = (*HeaviestModel.gaussian_buffers, "tree_nodes")
    _tree_tables = ("tree_parents", "tree_evidence", "tree_objects")

    tree_nodes: Tensor
    tree_parents: Tensor
    tree_evidence: Tensor
    tree_objects: Tensor

    def populate_modules(self) -> None:
        """Build the model, without a tree; see `Tree` for its tables."""
        super().populate_modules()
        self.register_buffer("tree_nodes", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("tree_parents", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("tree_evidence", torch.zeros(0))
        self.register_buffer("tree_objects", torch.zeros(0, dtype=torch.bool))

    @torch.no_grad()
    def ask_masks(self, also: Callable[[int, dict[str, Any]], None] = lambda view, meta: None) -> AskedMasks:
        """Ask all training views about their overlapping masks: each is projected and composited once.

        Args:
            also: is told of each view and its projection.
        """
        masks = self.masks()
        views = [view for view in range(len(masks.train_dataset)) if masks.has_masks(view)]
        votes, members, foremost = VoteStore(), [], []
        for view in terminal.track(views, "Asking views", len(views)):
            found = masks.mask_set(view)
            if found is None:
                continue
            region, covers = found.regions
            meta = self.project_view(view)
            votes.append(view_votes(meta, region.to(self.device)))
            members.append(covers)
            step = -(-region.shape[1] // WIDTH)
            foremost.append(top_contributors(meta)[0][::step, ::step].int().cpu())
            also(view, meta)
        return AskedMasks(votes, members, foremost)

    @torch.no_grad()
    def plant(self, also: Callable[[int, dict[str, Any]], None] = lambda view, meta: None) -> Tree:
        """Put the overlapping masks of all training views into one tree, and answer by it.

        Args:
            also: see `ask_masks`.
        """
        started = time.perf_counter()
        asked = self.ask_masks(also)
        tree = grow_tree(*asked, self.num_points)
        self.tree_nodes, self.tree_parents = tree.nodes.int().to(self.device), tree.parents.int().to(self.device)
        self.tree_evidence, self.tree_objects = tree.evidence.to(self.device), tree.objects.to(self.device)
        self.voted_confidence = tree.confidence.to(self.device)
        terminal.say(
            f"Put the masks of {len(asked.votes)} views into a tree of {len(tree)} things, "
            f"{int(tree.objects.sum())} of them objects, in {time.perf_counter() - started:.1f} s."
        )
        if len(tree) == 0:
            terminal.warn(NO_GROUPS)
        return tree

    @property
    def has_tree(self) -> bool:
        """Whether there is a tree with anything in it, of these Gaussians."""
        return len(self.tree_parents) > 1 and len(self.tree_nodes) == self.num_points

    @torch.no_grad()
    def tree(self) -> Tree | None:
        """The tree of parts, objects and groups, where masks were associated so. A method: see `masks`."""
        if len(self.tree_parents) == 0 or len(self.tree_nodes) != self.num_points:
            return None
        sure = self.voted_confidence.cpu()
        return Tree(
            self.tree_parents.long().cpu(), self.tree_nodes.long(), self.tree_evidence.cpu(), sure,
            self.tree_objects.cpu(),
        )  # fmt: skip

    def fell(self) -> None:
        """Forget the tree."""
        for name in ("tree_nodes", *self._tree_tables):
            setattr(self, name, getattr(self, name)[:0])

    def node_masks(self, meta: dict[str, Any], given: MaskSet) -> MaskSet:
        """What a view shows of each node of the tree, by its foremost Gaussians: no view contradicts another.

        Args:
            meta: projection of the view.
            given: its own masks, of which those stay that lie mostly where the tree has no node.
        """
        foremost = top_contributors(meta)[0]
        nodes = torch.where(foremost >= 0, self.tree_nodes[foremost.clamp_min(0).long()], 0).cpu()
        parents = self.tree_parents.tolist()
        found: set[int] = set()
        for node in nodes.unique().tolist():
            while node and node not in found:
                found.add(node)
                node = parents[node]
        last = last_below(parents)
        masks = [encode(((nodes >= node) & (nodes <= last[node])).numpy()) for node in sorted(found)]
        shown = MaskSet(nodes.shape[0], nodes.shape[1], masks, torch.ones(len(masks)))
        region, members = given.regions
        free = torch.bincount(region.flatten().long(), (nodes == 0).flatten().double(), len(members)) @ members.double()
        others = given.select(free > 0.5 * given.areas.clamp_min(1))
        return replace(shown, rles=[*masks, *others.rles], scores=torch.cat([shown.scores, others.scores]), extra=[])

    # ----------------------------------------------------------------------------------------------- checkpoints

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """As many nodes as the checkpoint has."""
        super().resize_for(state)
        for name in self._tree_tables:
            setattr(self, name, getattr(self, name).new_zeros(state[name].shape))

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint; older ones have no tree."""
        none = {name: getattr(self, name).new_zeros(0) for name in self._tree_tables}
        super().load_state_dict({**none, **dict}, **kwargs)
