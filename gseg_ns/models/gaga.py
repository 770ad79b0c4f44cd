"""Gaga: Group Any Gaussians via 3D-aware Memory Bank (Lyu et al. 2024)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.lifting.consensus import foremost, group_lookup
from gseg_ns.lifting.identity import identity_loss
from gseg_ns.lifting.neighbourhood import NeighbourhoodLoss
from gseg_ns.lifting.strengths import StrengthOptions, fit_strengths
from gseg_ns.lifting.votes import Lift, VoteStore, view_votes
from gseg_ns.models.identity import IdentityModel, IdentityModelConfig
from gseg_ns.models.trees import TreeModel, level_of
from gseg_ns.rendering import PixelWeights, pixel_weights
from gseg_ns.transfer import upload
from gseg_ns.view_cache import ViewCache

# A value of the class, not a factory: configurations of earlier runs, which lack the field, find it there.
_STRENGTHS = StrengthOptions()


MOST_CODES = 2048
"""Groups up to which given labels are encoded, for pictures of features; beyond, codes take seconds to spread."""


@dataclass
class GagaModelConfig(IdentityModelConfig):
    """Gaga: geometry first, then masks associated by a 3D-aware memory bank, then identity encodings."""

    _target: type = field(default_factory=lambda: GagaModel)
    association: Literal["consensus", "memory-bank", "tree", "given", "tracks"] = "consensus"  # type: ignore[assignment]
    """How masks of different views find together: by the agreement of all views (ours: independent of the order of
    views), by the paper's 3D-aware memory bank, as one tree of parts, objects and groups out of overlapping masks,
    which answers at the scales 0, 0.5 and 1 by its votes, not at all since their ids agree already (given), or by the
    agreement of views with ids as evidence that agree mostly (tracks)"""
    labels: Literal["encodings", "vote"] = "vote"
    """What says which group a Gaussian is in: the closed-form vote, or the encoding that is trained from there (the
    paper). By the vote, label images are exact for any number of groups: the label of the largest summed weight times
    strength at each pixel. It measures better, and needs no steps"""
    use_strengths: bool = True
    """Fit after the vote how loud each Gaussian is in label images; what it is in does not change. False: all alike"""
    strengths: StrengthOptions = _STRENGTHS
    """Settings of that fit"""
    identity_pixels: int = 8192
    """Pixels of each view that supervise the encodings, drawn once; 0: all of them. The paper renders all in every
    step; with frozen geometry a fixed sample gives the same gradients in the mean, at a fraction of the time."""
    cache_gib: float = 2.0
    """Memory for what these pixels of all views see; beyond it, it is kept in a temporary file"""
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
    gaussian_buffers = (*TreeModel.gaussian_buffers, "voted_labels", "strengths")

    voted_labels: Tensor
    strengths: Tensor

    def populate_modules(self) -> None:
        """Build the model and its 3D loss."""
        super().populate_modules()
        self._neighbours = NeighbourhoodLoss(
            num_samples=self.config.neighbour_samples, k=self.config.neighbour_count, include_self=True
        )
        self._samples = self._empty_cache()
        # [N], the closed-form label, known when the feature phase has begun.
        self.register_buffer("voted_labels", torch.zeros(0, dtype=torch.int32))
        # [N], how loud each is in label images; none where they were not fitted.
        self.register_buffer("strengths", torch.zeros(0))

    def start_feature_phase(self) -> None:
        """Associate the masks and lift them in closed form; after a resume the association is already there."""
        self._samples = self._empty_cache()
        if not self.lookups:
            grown = self.config.association == "tree" and not self.masks().config.masks_are_consistent
            lifted = self._grow_tree() if grown else self.lift_masks()
            self.voted_labels = lifted.labels.int().to(self.device)
            self.voted_confidence = lifted.confidence.to(self.device)
            if self.config.use_strengths:
                self._fit_strengths()
            self._refresh_projection(self.step)

    def _fit_strengths(self) -> None:
        """Fit how loud each Gaussian is, and tell what came of it."""
        started = time.perf_counter()
        views = [view for view in range(self.num_train_data) if self.masks().labels(view) is not None]

        def ask(number: int) -> tuple[dict[str, Any], Tensor]:
            groups = self.group_map(views[number])
            assert groups is not None
            return self.project_view(views[number]), groups

        found = fit_strengths(self.voted_labels, len(views), ask, self.config.strengths)
        self.strengths = found.values
        terminal.say(
            f"Strengths of Gaussians in label images: {found.steps} steps, followed to {found.followed:.0%}; what "
            f"held-out views contradict of mixed pixels went from {found.before:.1%} to {found.after:.1%} "
            f"({time.perf_counter() - started:.1f} s)."
        )

    def _grow_tree(self) -> Lift:
        """Put the overlapping masks of all training views into one tree; its objects are the groups of the training.

        Returns:
            The object of each Gaussian, and how sure it is.
        """
        names, views = self._names(), {view.index: view for view in self._masked_views()}
        painted, asked = VoteStore(), []

        def paint(view: int, meta: dict[str, Any]) -> None:
            painted.append(foremost(view_votes(meta, views[view].labels.to(self.device))))
            asked.append(views[view])

        tree = self.plant(paint)
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
        crow, col, val, targets = self._samples.get(view, lambda: self._drawn(view))
        return PixelWeights(crow, col.long(), val, self.num_points), targets.long()

    def _drawn(self, view: int) -> tuple[Tensor, ...]:
        """Rows of the weights of the pixels of a view that supervise it, and their groups."""
        groups = self.group_map(view)
        assert groups is not None
        targets = groups.flatten()
        usable = torch.arange(len(targets)) if self.config.train_unlabelled else targets.nonzero().squeeze(1)
        count = self.config.identity_pixels or len(usable)
        generator = torch.Generator().manual_seed(view)
        pixels = usable[torch.randperm(len(usable), generator=generator)[:count]].sort().values
        weights = pixel_weights(self.project_view(view), pixels)
        return weights.crow, weights.col.int(), weights.val, upload(targets[pixels].int(), self.device)

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
            scores = self.classifier(weights.matmul(encodings))
            loss = identity_loss(scores, targets, self.config.train_unlabelled)
            losses["identity_2d"] = losses["identity_2d"] + self.config.identity_weight * loss
        if self.config.neighbour_weight > 0 and self.step % self.config.neighbour_every == 0:
            neighbours = self._neighbours(self.means.detach(), encodings, self.classifier)
            losses["identity_3d"] = self.config.neighbour_weight * neighbours
        return losses

    # ------------------------------------------------------------------------------------------------- inference

    @property
    def _by_vote(self) -> bool:
        voted = self.config.labels == "vote" or len(self.tree_parents) > 0
        return voted and len(self.voted_labels) == self.num_points

    @torch.no_grad()
    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian: [N] int64, 0 = none."""
        tree = self.tree()
        if tree is not None:
            return tree.labels(level_of(self.default_scale if scale is None else scale))
        return self.voted_labels.long() if self._by_vote else super().gaussian_groups(scale)

    def group_confidence(self, scale: float | None = None) -> Tensor | None:
        """What votes say: the group's part of all that masks gave a Gaussian, [N]."""
        return self.voted_confidence if self._by_vote and len(self.voted_confidence) == self.num_points else None

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

    @torch.no_grad()
    def label_image(self, camera: Cameras, scale: float | None = None) -> Tensor:
        """Segment a view: [H, W] int64 group ids, 0 = none."""
        if not self._by_vote:
            return super().label_image(camera, scale)
        return self.heaviest_image(camera, self.gaussian_groups(scale), self.loudness(scale))

    def shown_labels(self, image: Tensor, rows: Tensor | None) -> Tensor:
        """As in the base; by the vote, what weighs most."""
        if not self._by_vote:
            return super().shown_labels(image, rows)
        return self.heaviest(self.voted_labels, self.loudness(), rows)

    def loudness(self, scale: float | None = None) -> Tensor | None:
        """As they were fitted, to the objects: other cuts of a tree have other borders."""
        fitted = not self.has_tree or scale is None or level_of(scale) == "object"
        return self.strengths if fitted and len(self.strengths) else None

    def group_under(self, feature: Tensor, rows: Tensor, weights: Tensor, scale: float | None = None) -> int:
        """As in the base; by the vote, what weighs most."""
        if not self._by_vote:
            return super().group_under(feature, rows, weights, scale)
        return self.heaviest_under(rows, weights, self.gaussian_groups(scale), self.loudness(scale))

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
