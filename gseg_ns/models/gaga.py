"""Gaga: Group Any Gaussians via 3D-aware Memory Bank (Lyu et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from gseg_ns.data.datamanager import MaskDatamanagerConfig
from gseg_ns.lifting.consensus import ConsensusOptions, group_lookup
from gseg_ns.lifting.identity import identity_loss
from gseg_ns.lifting.neighbourhood import NeighbourhoodLoss
from gseg_ns.lifting.tree import level_of
from gseg_ns.lifting.votes import Lift
from gseg_ns.masks import MaskSet
from gseg_ns.models.identity import IdentityModel, IdentityModelConfig
from gseg_ns.models.trees import TreeModel
from gseg_ns.rendering import PixelWeights, pixel_weights
from gseg_ns.transfer import upload
from gseg_ns.view_cache import ViewCache

_OF_LABEL_MAPS = ("mask_order", "mask_min_score", "mask_min_visible", "snap_masks")
"""Options of the label maps that masks are painted into: who gives one wants groups of those."""

POOL = 4
"""Of so many times the pixels of a step it is kept what they see; each visit draws among them. The same pixels at every
visit are learned by heart."""

LEAST_POOL = 2
"""The same where memory is short: beyond it the rest goes to the file."""

MOST_CODES = 2048
"""Groups up to which given labels are encoded, for pictures of features; beyond, codes take seconds to spread."""


@dataclass
class GagaModelConfig(IdentityModelConfig):
    """Gaga: geometry first, then masks associated by a 3D-aware memory bank, then identity encodings."""

    _target: type = field(default_factory=lambda: GagaModel)
    association: Literal["auto", "consensus", "memory-bank", "tree", "given", "tracks"] = "auto"  # type: ignore[assignment]
    """How masks of different views find together: by the agreement of all views (consensus; ours: independent of the
    order of views), by the paper's 3D-aware memory bank, as one tree of parts, objects and groups out of overlapping
    masks, which answers at the scales 0, 0.5 and 1 by its votes, not at all since their ids agree already (given), or
    by the agreement of views with ids as evidence that agree mostly (tracks). auto: a tree where masks lie within each
    other, without words or tracks, and no option says how they are painted, agree or answer (labels
    encodings); else the agreement of views"""
    identity_pixels: int = 8192
    """Pixels of a view that supervise the encodings, drawn anew at each visit; 0: all of them. The paper renders all in
    every step; with frozen geometry a sample gives the same gradients in the mean, at a fraction of the time."""
    cache_gib: float = 2.0
    """Memory for what the pixels of all views see of which these are drawn: four times as many, or down to twice as
    many where that has no room. Beyond it, it is kept in a temporary file"""
    cache_disk_gib: float = 32.0
    """Size of that file at most; beyond it, it is computed anew at each visit"""
    identity_weight: float = 1.0
    """Weight of the 2D cross entropy"""
    neighbour_weight: float = 2.0
    """Weight of the 3D neighbourhood loss (official code: 2, divided by the number of classes); 0 leaves it out"""
    neighbour_every: int = 5
    """Steps between two evaluations of the 3D neighbourhood loss (official code: 5)"""
    neighbour_samples: int = 1000
    """Gaussians drawn for it (official code: 1000)"""
    neighbour_count: int = 5
    """Neighbours of each (official code: 5, the Gaussian itself among them)"""


class GagaModel(TreeModel, IdentityModel):
    """Geometry phase, association, identity phase on frozen geometry."""

    config: GagaModelConfig
    gaussian_buffers = (*IdentityModel.gaussian_buffers, "tree_nodes")

    def populate_modules(self) -> None:
        """Build the model and its 3D loss."""
        super().populate_modules()
        self._neighbours = NeighbourhoodLoss(
            num_samples=self.config.neighbour_samples, k=self.config.neighbour_count, include_self=True
        )
        self._samples = self._empty_cache()

    def start_feature_phase(self) -> None:
        """Associate the masks and lift them in closed form; after a resume the association is already there."""
        self._samples = self._empty_cache()
        if not self.lookups:
            with self.projected_once():
                self.answer_by_vote(self._grow_tree() if self.association() == "tree" else self.lift_masks())
            self._refresh_projection(self.step)

    def association(self) -> str:
        """As in the base; "tree" only where one is to be grown."""
        kind, masks = self.config.association, self.masks()
        if masks.config.masks_are_consistent:
            return "given"
        if kind != "auto":
            return kind
        default = MaskDatamanagerConfig()
        told = any(getattr(masks.config, name) != getattr(default, name) for name in _OF_LABEL_MAPS)
        told |= self.config.consensus != ConsensusOptions()
        told |= self.config.labels != "vote"  # a tree is one of votes: encodings would train and never answer
        return "tree" if not told and masks.masks_nest() else "consensus"

    def tree_masks(self, view: int) -> MaskSet | None:
        """As in the base, without what is left out of label maps as unsure, too: strengths are fitted to these."""
        found = super().tree_masks(view)
        return None if found is None else found.select(found.scores >= self.masks().config.mask_min_score)

    def _grow_tree(self) -> Lift:
        """Put the overlapping masks of all training views into one tree; its objects are the groups of the training.

        Returns:
            The object of each Gaussian, and how sure it is.
        """
        names, views = self._names(), {view.index: view for view in self._masked_views()}
        tree, said = self.plant(lambda view: views[view].labels)
        painted, asked = said.painted, [views[view] for view in said.views]
        self.num_groups = len(tree)
        self.has_scales = tree.depth > 1
        labels = tree.labels("object")
        for view, answer in zip(asked, painted, strict=True):
            lookup = group_lookup(answer, labels, len(tree), self.config.consensus)
            self.lookups[names[view.index]] = lookup
        self._name_groups(painted, labels, asked)
        self._start_encodings(labels)
        return Lift(labels, tree.confidence)

    @torch.no_grad()
    def _sample(self, view: int) -> tuple[PixelWeights, Tensor] | None:
        """The pixels of a view that supervise it: who contributes how much, and their groups.

        Geometry is frozen, so what a pixel sees never changes: it is computed once.
        """
        if not self.masks().has_masks(view):
            return None
        crow, col, val, targets, starts = self._samples.get(view, lambda: self._pool(view))
        weights = PixelWeights(crow, col, val, self.num_points)
        count = self.config.identity_pixels or len(targets)
        if count < len(targets):
            generator = torch.Generator().manual_seed(torch.initial_seed() + self.step)
            chosen = torch.randperm(len(targets), generator=generator)[:count].sort().values
            length, rows = int(starts.diff()[chosen].sum()), upload(chosen, self.device)
            weights, targets = weights.rows(rows, length), targets[rows]
        return PixelWeights(weights.crow, weights.col.long(), weights.val, self.num_points), targets.long()

    def _pool(self, view: int) -> tuple[Tensor, ...]:
        """Rows of the weights of pixels of a view that may supervise it, their groups; on the CPU, where rows start."""
        groups = self.group_map(view)
        assert groups is not None
        targets = groups.flatten()
        usable = torch.arange(len(targets)) if self.config.train_unlabelled else targets.nonzero().squeeze(1)
        count = POOL * self.config.identity_pixels or len(usable)
        generator = torch.Generator().manual_seed(view)
        pixels = usable[torch.randperm(len(usable), generator=generator)[:count]].sort().values
        weights = pixel_weights(self.project_view(view), pixels)
        starts = weights.crow.cpu()
        # A weight has two numbers of 4 bytes; a row its place twice, and its group.
        room, size = self.config.cache_gib * 2**30 / self.num_train_data, 8 * len(weights.val) + 20 * len(pixels)
        least = LEAST_POOL * self.config.identity_pixels
        if size > room and 0 < least < len(pixels):
            kept = max(least, int(len(pixels) * room / size))
            rows = torch.randperm(len(pixels), generator=generator)[:kept].sort().values
            lengths, pixels = starts.diff()[rows], pixels[rows]
            starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
            weights = weights.rows(upload(rows, self.device), int(starts[-1]))
        return weights.crow, weights.col.int(), weights.val, upload(targets[pixels].int(), self.device), starts

    def _empty_cache(self) -> ViewCache:
        return ViewCache(self.config.cache_gib * 2**30, self.config.cache_disk_gib * 2**30)

    def feature_losses(self, view: int) -> dict[str, Tensor]:
        """2D cross entropy of the composited encodings, and every few steps the 3D neighbourhood loss."""
        encodings = self.gauss_params["identity"]
        # Keeps the graph alive in steps on views without a mask.
        losses: dict[str, Tensor] = {"identity_2d": encodings.sum() * 0}
        sample = self._sample(view)
        if sample is not None:
            weights, targets = sample
            encoded = weights.matmul(encodings)
            loss = identity_loss(self.classifier, encoded, targets, self.config.train_unlabelled)
            losses["identity_2d"] = losses["identity_2d"] + self.config.identity_weight * loss
        if self.config.neighbour_weight > 0 and self.step % self.config.neighbour_every == 0:
            neighbours = self._neighbours(self.means.detach(), encodings, self.classifier)
            losses["identity_3d"] = self.config.neighbour_weight * neighbours
        return losses

    def forget_findings(self) -> None:
        """As in the base; without a tree there are no levels."""
        super().forget_findings()
        self.has_scales = type(self).has_scales

    # ------------------------------------------------------------------------------------------------- inference

    @property
    def by_vote(self) -> bool:
        """As in the base; a tree is one of votes."""
        return super().by_vote or (0 < len(self.tree_parents) and 0 < len(self.voted_labels) == self.num_points)

    @torch.no_grad()
    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian: [N] int64, 0 = none."""
        tree = self.tree()
        if tree is not None:
            return tree.labels(level_of(self.default_scale if scale is None else scale))
        return super().gaussian_groups(scale)

    @torch.no_grad()
    def take_labels(self, labels: Tensor, confidence: Tensor | None = None) -> None:
        """Answer by given labels.

        Args:
            labels: [N] int64, the group of each Gaussian, 0 = none.
            confidence: [N] in 0..1, how sure they are.
        """
        self.fell()  # the tree would answer in place of the labels
        self.has_scales = type(self).has_scales
        self.num_groups = int(labels.max()) if len(labels) else 0
        before, self.voted_labels = self.voted_labels, labels.int().to(self.device)
        if len(self.strengths):  # fitted to what each Gaussian was before
            self.strengths = torch.where(self.voted_labels == before, self.strengths, 1.0)
        sure = torch.ones(len(labels)) if confidence is None else confidence.float()
        self.voted_confidence = sure.to(self.device)
        if self.num_groups < MOST_CODES:
            self._start_encodings(labels)
            self._refresh_projection(self.step)

    def loudness(self, scale: float | None = None) -> Tensor | None:
        """As they were fitted, to the objects: other cuts of a tree have other borders."""
        fitted = not self.has_tree or scale is None or level_of(scale) == "object"
        return super().loudness(scale) if fitted else None

    # ----------------------------------------------------------------------------------------------- checkpoints

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint; one with a tree has scales if there are several levels."""
        super().load_state_dict(dict, **kwargs)
        self.has_scales = bool((self.tree_parents > 0).any())

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """Splatfacto's metrics, and the number of groups once there are any."""
        metrics = super().get_metrics_dict(outputs, batch)
        if self.num_groups:
            metrics["groups"] = torch.tensor(float(self.num_groups))
        return metrics
