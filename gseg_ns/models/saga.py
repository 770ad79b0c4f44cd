"""SAGA: Segment Any 3D Gaussians (Cen et al., AAAI 2025), with scale-gated affinity features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from gseg_ns import terminal
from gseg_ns.lifting.affinity import ScaleGate
from gseg_ns.lifting.affinity_training import AffinityOptions, AffinityViews, view_scales
from gseg_ns.lifting.scales import ScaleQuantiles
from gseg_ns.lifting.tree import level_of
from gseg_ns.masks import MaskSet
from gseg_ns.models.affinity import AFFINITY_DIM, STALE, AffinityModel, AffinityModelConfig
from gseg_ns.models.trees import TreeModel


@dataclass
class SagaModelConfig(AffinityModelConfig):
    """SAGA: geometry first, then affinity features with a scale gate, from overlapping masks of all sizes."""

    _target: type = field(default_factory=lambda: SagaModel)
    tree: bool = True
    """Put the masks into one tree of parts, objects and groups first. It says which pixels belong together, in place of
    masks of single views that contradict each other, and answers wherever it has a node; features answer elsewhere.
    Off: features alone (paper and code)"""
    affinity: AffinityOptions = field(default_factory=AffinityOptions)
    """How affinity features are trained"""
    scale_gate: bool = True
    """Features are gated by a scale. Off: one granularity for all scales (the paper's ablation)"""


class SagaModel(TreeModel, AffinityModel):
    """Geometry phase, then features on frozen geometry."""

    config: SagaModelConfig
    has_scales = True

    def populate_modules(self) -> None:
        """Build the model, its gate and the map from metric scales to [0, 1]."""
        super().populate_modules()
        self.smoothing = self.config.affinity.neighbours
        self.scale_gate = ScaleGate(AFFINITY_DIM, self.config.scale_gate)
        self.scale_quantiles = ScaleQuantiles()
        self._views: AffinityViews | None = None
        self._drawing: Tensor | None = None
        """State of what the views draw from, of a checkpoint."""
        self._groups: dict[tuple[float, int], Tensor] = {}
        """By scale and hundreds of steps, since clusters take long."""

    def initial_feature(self, name: str, count: int, dim: int) -> Tensor:
        """Small random vectors, as the official code: [count, dim]."""
        return 1e-2 * torch.randn((count, dim))

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups, the features and the gate."""
        return {**super().get_param_groups(), "scale_gate": list(self.scale_gate.parameters())}

    def start_feature_phase(self) -> None:
        """Grow the tree, measure all masks in 3D and cache what the sampled pixels see."""
        if self.config.tree and len(self.tree_parents) == 0 and not self.masks().config.masks_are_consistent:
            self.plant()
            self._answer_by_tree()
        count = len(self.masks().train_dataset)
        self._views = AffinityViews(
            self.means.detach(),
            terminal.track(self._mask_views(), "Measuring masks", count),
            count,
            self.scale_quantiles,
            self.config.affinity,
            seed=self.geometry_steps,
        )
        if self._drawing is not None:
            self._views.generator.set_state(self._drawing)
            self._drawing = None
        self.kept_neighbours = self._views.kept

    def _mask_views(self) -> Iterator[tuple[int, dict[str, Any], Tensor, MaskSet]]:
        for view in range(len(self.masks().train_dataset)):
            if not self.masks().has_masks(view):
                continue
            meta, masks = self.project_view(view), self.masks().mask_set(view)
            if masks is None:
                continue
            if self.has_tree:
                masks = self.node_masks(meta, masks)
            if len(masks):
                yield view, meta, self.view_camera(view).K, masks

    def _answer_by_tree(self) -> None:
        """Let the tree answer where there is one: groups and clicks, too, are its nodes."""
        self._groups = {}
        self.prompts_by_feature = not self.has_tree

    def forget_findings(self) -> None:
        """As in the base; masks are measured anew."""
        super().forget_findings()
        self._views = self._drawing = None
        self._answer_by_tree()

    def finish(self) -> None:
        """As in the base; what followed from the features before is stale."""
        super().finish()
        self._groups = {}

    def feature_losses(self, view: int) -> dict[str, Tensor]:
        """The correspondence loss at drawn scales, and the norm regularisation (Eq. 13)."""
        assert self._views is not None
        return self._views.losses(view, self.gauss_params["affinity"], self.scale_gate)

    # ------------------------------------------------------------------------------------------------- inference

    @torch.no_grad()
    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian at a scale: the tree's node, beyond them clusters of features; 0 = none."""
        if not self.has_tree:
            return super().gaussian_groups(scale)
        if self.origin is not None:  # a part of a cluster may lie in another node than most of it
            model, source = self.origin
            groups = model.gaussian_groups(scale)[source.clamp_min(0)]
            return torch.where(source >= 0, groups, 0)
        key = (self.default_scale if scale is None else scale, self.step // STALE)
        if key not in self._groups:
            tree = self.tree()
            assert tree is not None
            labels = tree.labels(level_of(key[0])).to(self.device)
            clusters = super().gaussian_groups(scale) if self.in_feature_phase else torch.zeros_like(labels)
            kept = {other: found for other, found in self._groups.items() if other[1] == key[1]}
            self._groups = {**kept, key: joined(labels, clusters, len(tree))}
        return self._groups[key]

    @property
    def by_vote(self) -> bool:
        """With a tree, which is one of votes."""
        return self.has_tree

    def gate(self, scale: float) -> Tensor:
        """The scale gate [D] at a scale in [0, 1]."""
        return self.scale_gate.at(scale)

    def get_extra_state(self) -> dict[str, Any]:
        """What the views draw from, beside what every method saves."""
        drawing = None if self._views is None else self._views.generator.get_state()
        return {**super().get_extra_state(), "drawing": drawing}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` saved."""
        super().set_extra_state(state)
        drawing = state.get("drawing")
        self._drawing = None if drawing is None else drawing.cpu()

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint; older ones have no tree."""
        super().load_state_dict(dict, **kwargs)
        self._answer_by_tree()

    @torch.no_grad()
    def mask_gates(self, meta: dict[str, Any], K: Tensor, masks: MaskSet) -> Tensor:
        """The gate of each mask's own scale: [M, D]."""
        return self.scale_gate(self.scale_quantiles(view_scales(meta, K, masks)))


def joined(nodes: Tensor, clusters: Tensor, count: int) -> Tensor:
    """What a tree and features say together of each Gaussian: [N].

    Features answer where the tree has no node: a cluster most of which is in none is a group of its own. Strays of a
    cluster that is mostly in one node are that node's.

    Args:
        nodes: [N] int64, 0 = none.
        clusters: [N] int64, 0 = none.
        count: nodes of the tree; clusters are numbered beyond them.
    """
    known = clusters > 0
    if not bool((known & (nodes == 0)).any()):
        return nodes
    pairs, sizes = torch.stack([clusters[known], nodes[known]]).unique(dim=1, return_counts=True)
    answer = torch.zeros(int(clusters.max()) + 1, dtype=nodes.dtype, device=nodes.device)
    rising = sizes.argsort(stable=True)
    for cluster, node in pairs[:, rising].T.tolist():  # later writes win: the most common
        answer[cluster] = node if node else count + cluster
    return torch.where(nodes > 0, nodes, answer[clusters])
