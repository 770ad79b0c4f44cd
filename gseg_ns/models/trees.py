"""Methods that may answer by a tree of parts, objects and groups, grown out of overlapping masks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.lifting.association import NO_GROUPS
from gseg_ns.lifting.consensus import foremost
from gseg_ns.lifting.remote import ask_masks
from gseg_ns.lifting.tree import Tree, grow_tree
from gseg_ns.lifting.tree.asking import MaskVotes, mask_votes
from gseg_ns.lifting.tree.tree import last_below
from gseg_ns.lifting.votes import VoteStore
from gseg_ns.masks import LabelRuns, MaskSet
from gseg_ns.masks.mask_set import encode
from gseg_ns.models.heaviest import HeaviestModel
from gseg_ns.rendering import top_contributors


class AskedMasks(NamedTuple):
    """What all views say of their overlapping masks: first what `grow_tree` takes."""

    votes: VoteStore
    members: list[Tensor]
    foremost: list[Tensor]
    views: list[int]
    """The views that have masks."""
    painted: VoteStore
    """The foremost of what they say of their label maps, where they were asked."""


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

    def tree_masks(self, view: int) -> MaskSet | None:
        """The overlapping masks of a training view that the tree grows from, or None."""
        return self.masks().mask_set(view)

    @torch.no_grad()
    def ask_masks(self, labels: Callable[[int], Tensor | None] = lambda view: None) -> AskedMasks:
        """Ask all training views about their overlapping masks: each is projected once.

        Args:
            labels: the label map of a view that it is asked about, too.
        """
        masks = self.masks()
        views = [view for view in range(len(masks.train_dataset)) if masks.has_masks(view)]
        asked = AskedMasks(VoteStore(), [], [], [], VoteStore())

        def questions() -> Iterator[tuple[int, Tensor, Tensor | None]]:
            for view in views:
                found = self.tree_masks(view)
                if found is None:
                    continue
                region, covers = found.regions
                asked.members.append(covers)
                asked.views.append(view)
                yield view, region, labels(view)

        for answer in terminal.track(self._said_of_masks(questions()), "Asking views", len(views)):
            asked.votes.append(answer.regions)
            asked.foremost.append(answer.foremost)
            if answer.painted is not None:
                asked.painted.append(foremost(answer.painted))
        return asked

    def _said_of_masks(self, questions: Iterator[tuple[int, Tensor, Tensor | None]]) -> Iterator[MaskVotes]:
        """What each view says of its regions and labels, in their order: asked here, or on a cluster."""
        if self.cluster is None:
            for view, region, painted in questions:
                here = None if painted is None else painted.to(self.device)
                yield mask_votes(self.project_view(view), region.to(self.device), here)
            return
        items = (
            (self.view_camera(view).to("cpu"), LabelRuns.of(region), None if painted is None else LabelRuns.of(painted))
            for view, region, painted in questions
        )
        yield from self.cluster.in_order(ask_masks, items, self.splats().to("cpu"))

    @torch.no_grad()
    def plant(self, labels: Callable[[int], Tensor | None] = lambda view: None) -> tuple[Tree, AskedMasks]:
        """Put the overlapping masks of all training views into one tree, and answer by it.

        Args:
            labels: see `ask_masks`.

        Returns:
            The tree, and what the views said.
        """
        started = time.perf_counter()
        asked = self.ask_masks(labels)
        tree = grow_tree(asked.votes, asked.members, asked.foremost, self.num_points)
        self.tree_nodes, self.tree_parents = tree.nodes.int().to(self.device), tree.parents.int().to(self.device)
        self.tree_evidence, self.tree_objects = tree.evidence.to(self.device), tree.objects.to(self.device)
        self.voted_confidence = tree.confidence.to(self.device)
        terminal.say(
            f"Put the masks of {len(asked.votes)} views into a tree of {len(tree)} things, "
            f"{int(tree.objects.sum())} of them objects, in {time.perf_counter() - started:.1f} s."
        )
        if len(tree) == 0:
            terminal.warn(NO_GROUPS)
        return tree, asked

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

    def forget_findings(self) -> None:
        """As in the base; the tree is one of these Gaussians."""
        super().forget_findings()
        self.fell()

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
