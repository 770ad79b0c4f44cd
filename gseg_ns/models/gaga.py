"""Gaga: Group Any Gaussians via 3D-aware Memory Bank (Lyu et al. 2024)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from gseg_ns.lifting.identity import SILENT, identity_loss
from gseg_ns.lifting.neighbourhood import NeighbourhoodLoss
from gseg_ns.lifting.strengths import StrengthOptions, fit_strengths
from gseg_ns.models.identity import IdentityModel, IdentityModelConfig
from gseg_ns.rendering import PixelWeights, dominant_labels, pixel_weights
from gseg_ns.transfer import upload
from gseg_ns.view_cache import ViewCache

# A value of the class, not a factory: configurations of earlier runs, which lack the field, find it there.
_STRENGTHS = StrengthOptions()


@dataclass
class GagaModelConfig(IdentityModelConfig):
    """Gaga: geometry first, then masks associated by a 3D-aware memory bank, then identity encodings."""

    _target: type = field(default_factory=lambda: GagaModel)
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


class GagaModel(IdentityModel):
    """Geometry phase, association, identity phase on frozen geometry."""

    config: GagaModelConfig
    gaussian_buffers = ("voted_labels", "voted_confidence", "strengths")

    voted_labels: Tensor
    voted_confidence: Tensor
    strengths: Tensor

    def populate_modules(self) -> None:
        """Build the model and its 3D loss."""
        super().populate_modules()
        self._neighbours = NeighbourhoodLoss(
            num_samples=self.config.neighbour_samples, k=self.config.neighbour_count, include_self=True
        )
        self._samples = self._empty_cache()
        # [N] each, the closed-form label and its part of all that masks gave, known when the feature phase has begun.
        self.register_buffer("voted_labels", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("voted_confidence", torch.zeros(0))
        # [N], how loud each is in label images; none where they were not fitted.
        self.register_buffer("strengths", torch.zeros(0))

    def start_feature_phase(self) -> None:
        """Associate the masks and lift them in closed form; after a resume the association is already there."""
        self._samples = self._empty_cache()
        if not self.lookups:
            lifted = self.lift_masks()
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
        CONSOLE.log(
            f"Strengths of Gaussians in label images: followed to {found.followed:.0%}; what held-out views contradict "
            f"of mixed pixels went from {found.before:.1%} to {found.after:.1%} "
            f"({time.perf_counter() - started:.1f} s)."
        )

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
        return self.config.labels == "vote" and len(self.voted_labels) == self.num_points

    @torch.no_grad()
    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian: [N] int64, 0 = none."""
        return self.voted_labels.long() if self._by_vote else super().gaussian_groups(scale)

    @torch.no_grad()
    def label_image(self, camera: Cameras, scale: float | None = None) -> Tensor:
        """Segment a view: [H, W] int64 group ids, 0 = none."""
        if not self._by_vote:
            return super().label_image(camera, scale)
        with self._evaluating():
            self.render(camera.to(self.device))
            return self._heaviest(None)

    def shown_labels(self, image: Tensor, rows: Tensor | None) -> Tensor:
        """As in the base; by the vote, what weighs most."""
        return self._heaviest(rows) if self._by_vote else super().shown_labels(image, rows)

    def _heaviest(self, rows: Tensor | None) -> Tensor:
        """The voted label of the largest sum of weight times strength at each pixel of the last `render`: [H, W].

        Args:
            rows: bool [N], the Gaussians in that render; None: all.
        """
        labels, strengths = self.voted_labels, self.strengths if len(self.strengths) else None
        if rows is not None:
            labels, strengths = labels[rows], None if strengths is None else strengths[rows]
        answers, weights = dominant_labels(self.info, labels, strengths)
        return torch.where(weights < SILENT, 0, answers)

    # ----------------------------------------------------------------------------------------------- checkpoints

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """As many votes as the checkpoint has."""
        super().resize_for(state)
        for name in self.gaussian_buffers:
            setattr(self, name, getattr(self, name).new_zeros(state[name].shape))

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint; older ones have no votes, or no strengths."""
        none = {name: getattr(self, name).new_zeros(0) for name in self.gaussian_buffers}
        super().load_state_dict({**none, **dict}, **kwargs)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """Splatfacto's metrics, and the number of groups once there are any."""
        metrics = super().get_metrics_dict(outputs, batch)
        if self.num_groups:
            metrics["groups"] = torch.tensor(float(self.num_groups))
        return metrics
