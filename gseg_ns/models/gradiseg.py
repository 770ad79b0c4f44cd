"""GradiSeg: Gradient-Guided Gaussian Segmentation with Enhanced 3D Boundary Precision (arXiv 2412.00392)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.optimizers import Optimizers
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.lifting.densification import (
    GRADIENT,
    accumulate,
    mean_gradient,
    reset_monitor,
    select,
    split_axis,
    split_in_two,
)
from gseg_ns.lifting.drawing import draw_different
from gseg_ns.lifting.identity import identity_loss
from gseg_ns.lifting.neighbourhood import NeighbourhoodLoss, update_running_mean
from gseg_ns.models.identity import IdentityModel, IdentityModelConfig
from gseg_ns.models.schedule import AUTO
from gseg_ns.rendering import visible
from gseg_ns.transfer import upload

LOSS_SCORES = 1 << 26
"""Scores of pixels for groups that the 2D loss looks at in a step, on a CPU in some 0.2 s of a core; where an image has
more, so many of its pixels are drawn, which gives the same loss in the mean."""

POSITION = "position_gradient"
"""Strategy-state entry: running mean of the position gradient, [N, 3]."""


@dataclass
class GradiSegModelConfig(IdentityModelConfig):
    """GradiSeg: identity encodings trained with geometry that feels them, Gaussians split along object boundaries.

    Gaussian Grouping, the baseline of the paper's Table 4: `--pipeline.model.igd False --pipeline.model.la-knn False
    --pipeline.model.identity-on-geometry 1`.
    """

    _target: type = field(default_factory=lambda: GradiSegModel)
    num_iterations: tyro.conf.Suppress[int] = 30_000
    """Length of the run in steps: --max-num-iterations, which is the option; milestones are parts of it."""
    densify_stop: float = 0.4
    """Part of the run after which Splatfacto's densification ends (paper: 12k of 30k)"""
    identity_start: float = AUTO
    """Part of the run after which masks are associated, lifted in closed form and trained. -1: 0 where the masks come
    associated (paper), else 0.25: the memory bank needs geometry, and by then the resolution is full."""
    identity_weight: float = 1.0
    """Weight of the 2D cross entropy (Gaussian Grouping: 1; the paper's is unknown)"""
    identity_on_geometry: float = 0.1
    """Part of the 2D cross entropy's gradient that reaches positions, shapes and opacities (paper: 1, all of it; 0:
    none). All of it cost PSNR and boundary IoU in the small room (docs/results.md)."""
    neighbour_weight: float = 2.0
    """Weight of the 3D neighbourhood loss (Gaussian Grouping: 2, divided by the number of classes); 0 leaves it out"""
    neighbour_every: int = 5
    """Steps between two evaluations of the 3D neighbourhood loss (Gaussian Grouping: 5)"""
    neighbour_samples: int = 1000
    """Gaussians drawn for it (paper: 1000)"""
    neighbour_count: int = 5
    """Neighbours of each, itself excluded (paper: 5)"""
    igd: bool = True
    """Identity Gradient Guided Densification"""
    igd_start: float = 0.4
    """Part of the run after which it begins (paper: 12k of 30k)"""
    igd_stop: float = 0.5
    """Part of the run after which it ends (paper: 15k of 30k)"""
    igd_growth: float = 0.3
    """Gaussians split in the whole window, as a part of those at its start and no more; each event, one every
    `refine_every` steps, takes its share of those with the largest identity gradient (30 events of 1 % in the paper's
    schedule). This comes on top of `max_gaussians`."""
    igd_threshold: float | None = None
    """Split every Gaussian above this mean identity gradient instead, in units of a loss summed over pixels"""
    igd_min_scale: float = 1e-3
    """Gaussians whose longest axis is shorter (in scene units) are not split"""
    igd_direction: Literal["longest_axis", "position_gradient", "random"] = "longest_axis"
    """Principal axis along which a Gaussian is split"""
    igd_offset: float = 0.5
    """Distance of a child from its parent's centre, in standard deviations of the parent"""
    igd_shrink: float = 1.6
    """Divides a child's extent along the axis (3DGS: 1.6 for two children)"""
    la_knn: bool = True
    """Local adaptive neighbours in place of global ones once `la_knn_start` has come"""
    la_knn_start: float = 0.5
    """Part of the run after which neighbours are local (the paper's supplement: 15k of 30k; its main text: 12k)"""
    la_knn_candidates: int = 32
    """Nearest neighbours among which the local ones are picked"""
    la_knn_rank: Literal["projection", "distance"] = "projection"
    """Pick those least far along the direction (paper), or the nearest ones ahead"""
    position_decay: float = 0.9
    """Weight of the past in the running mean of the position gradient"""


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.factor, None


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """The values, whose gradient is multiplied by `factor` on its way back."""
    return values if factor == 1.0 else _ScaledGradient.apply(values, factor)


class GradiSegModel(IdentityModel):
    """Joint training: densification, identity-gradient densification, local neighbours."""

    config: GradiSegModelConfig
    two_phases = False
    short_run_powers: ClassVar[Mapping[str, float]] = {}

    def populate_modules(self) -> None:
        """Build the model and its 3D loss."""
        for name in ("densify_stop", "igd_start", "igd_stop", "la_knn_start"):
            if not 0 <= getattr(self.config, name) <= 1:
                option = name.replace("_", "-")
                raise GsegError(f"--pipeline.model.{option} is {getattr(self.config, name)}: give a part of the run")
        share = self.config.identity_on_geometry
        if not 0 <= share <= 1:
            raise GsegError(f"--pipeline.model.identity-on-geometry is {share}: give a share from 0 (none) to 1 (all)")
        if self.config.stop_split_at == AUTO:
            self.config.stop_split_at = round(self.config.densify_stop * self.config.num_iterations)
        super().populate_modules()
        self._neighbours = NeighbourhoodLoss(
            num_samples=self.config.neighbour_samples,
            k=self.config.neighbour_count,
            num_candidates=self.config.la_knn_candidates,
            rank_by=self.config.la_knn_rank,
        )
        self._room: tuple[int, int] | None = None
        """Gaussians at the start of the window of IGD, and how many were split since."""
        self._drawn: Tensor | None = None
        """The encodings as they entered the rasterizer in this step: their gradient is that of the 2D loss alone."""

    # -------------------------------------------------------------------------------------------------- schedule

    def _reached(self, fraction: float) -> bool:
        return self.step >= fraction * self.config.num_iterations

    @property
    def groups_start(self) -> int:
        """When the masks are associated."""
        start = self.config.identity_start
        if start == AUTO:  # a model that is loaded does not know its masks, but what came of them
            consistent = self._datamanager is not None and self.masks().config.masks_are_consistent
            start = 0.0 if consistent or self.lookups else 0.25
        return math.ceil(start * self.config.num_iterations)

    @property
    def in_igd_window(self) -> bool:
        """Whether Gaussians may be split for their identity gradient at the current step."""
        return self.config.igd and self._reached(self.config.igd_start) and not self._reached(self.config.igd_stop)

    def step_cb(self, optimizers: Optimizers, step: int) -> None:
        """Note the step; associate the masks when the time has come."""
        super().step_cb(optimizers, step)
        if not self.lookups and self.step >= self.groups_start:
            self.lift_masks()
            self._refresh_projection(step)

    # ---------------------------------------------------------------------------------------------------- losses

    def rendered_features(self) -> Tensor | None:
        """The encodings, in steps of training that have an identity loss; its gradient on geometry is scaled."""
        self._drawn = None
        if not (self.training and self.lookups):
            return None
        self._drawn = self.gauss_params["identity"] * 1.0
        self._drawn.retain_grad()
        share = self.config.identity_on_geometry
        return scale_gradient(self._drawn, 1.0 / share) if share > 0 else None

    def _identity_image(self) -> Tensor:
        """The encodings of this step's view, composited: [H, W, 16]."""
        assert self._drawn is not None
        share = self.config.identity_on_geometry
        return scale_gradient(self.info["features"][0], share) if share > 0 else self.composite(self._drawn)

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Splatfacto's losses; 2D cross entropy, which moves geometry too; at times the 3D neighbourhood loss."""
        losses = super().get_loss_dict(outputs, batch, metrics_dict)
        if not (self.training and self.lookups):
            return losses
        encodings = self.gauss_params["identity"]
        targets = self.targets(int(batch["image_idx"]), self.info["height"], self.info["width"])
        if targets is not None:
            image = self._identity_image().flatten(0, 1)
            if len(image) * self.classifier.num_classes > LOSS_SCORES:
                pixels = upload(self._drawn_pixels(len(image)), image.device)
                image, targets = image[pixels], targets[pixels]
            loss = identity_loss(self.classifier, image, targets, self.config.train_unlabelled)
            losses["identity_2d"] = self.config.identity_weight * loss
        if self.config.neighbour_weight > 0 and self.step % self.config.neighbour_every == 0:
            directions = None
            if self.config.la_knn and self._reached(self.config.la_knn_start) and POSITION in self.strategy_state:
                directions = -self.strategy_state[POSITION]
            neighbours = self._neighbours(self.means.detach(), encodings, self.classifier, directions)
            losses["identity_3d"] = self.config.neighbour_weight * neighbours
        return losses

    def _drawn_pixels(self, count: int) -> Tensor:
        """As many pixels of an image as the loss looks at, ascending: int64 [P] on the CPU."""
        # A stream of its own: what else is drawn does not depend on the size of images.
        generator = torch.Generator().manual_seed(torch.initial_seed() + self.step)
        return draw_different(count, max(LOSS_SCORES // self.classifier.num_classes, 1), generator=generator)

    # -------------------------------------------------------------------------------------------- densification

    def step_post_backward(self, step: int) -> None:
        """Note this step's gradients, densify as Splatfacto does, then split for identity gradients."""
        if self.lookups:
            self._monitor()
        super().step_post_backward(step)
        if self.in_igd_window and step % self.config.refine_every == 0 and GRADIENT in self.strategy_state:
            self.split_boundaries()

    @torch.no_grad()
    def _monitor(self) -> None:
        """Accumulate identity gradients and the running mean of position gradients, before any Gaussian moves row."""
        state = self.strategy_state
        if GRADIENT not in state:
            reset_monitor(state, self.num_points, self.device)
            state[POSITION] = torch.zeros_like(self.means)
        if self._drawn is not None and self._drawn.grad is not None:
            accumulate(state, self._drawn.grad, self.info["width"] * self.info["height"])
        if self.means.grad is not None:
            update_running_mean(state[POSITION], self.means.grad, visible(self.info)[0], self.config.position_decay)

    def split_boundaries(self) -> int:
        """Split the Gaussians with the largest identity gradients in two and restart the monitor of all.

        Returns:
            How many were split.
        """
        state = self.strategy_state
        window = (self.config.igd_stop - self.config.igd_start) * self.config.num_iterations
        events = max(window / self.config.refine_every, 1.0)
        scales = self.scales.detach().exp()
        first, done = self._room or (self.num_points, 0)
        mask = select(
            mean_gradient(state),
            scales,
            self.config.igd_growth / events * first / self.num_points,
            self.config.igd_threshold,
            self.config.igd_min_scale,
            budget=round(self.config.igd_growth * first) - done,
        )
        axis = split_axis(self.quats.detach()[mask], scales[mask], self.config.igd_direction, state[POSITION][mask])
        count = split_in_two(
            self.gauss_params,
            self.optimizers,
            state,
            mask,
            axis,
            self.config.igd_offset,
            self.config.igd_shrink,
        )
        self._room = first, done + count
        reset_monitor(state, self.num_points, self.device)
        return count

    # ----------------------------------------------------------------------------------------------- checkpoints

    def get_extra_state(self) -> dict[str, Any]:
        """What IGD has split of what it may, beside what every method saves."""
        return {**super().get_extra_state(), "igd_room": self._room}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` saved; older checkpoints begin to count anew."""
        super().set_extra_state(state)
        self._room = state.get("igd_room")

    # ------------------------------------------------------------------------------------------------- inference

    def view_channels(self) -> dict[str, int]:
        """The base's, and `identity_gradient`."""
        return {**super().view_channels(), "identity_gradient": 1}

    @torch.no_grad()
    def view_outputs(
        self, camera: Cameras, outputs: dict[str, Any], wanted: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """The base's pictures and `identity_gradient` [H, W, 1], 1 = the 99th percentile of all Gaussians (Fig. 1)."""
        pictures = super().view_outputs(camera, outputs, wanted)
        pictures["identity_gradient"] = torch.zeros_like(outputs["rgb"][..., :1])
        rows = self._cropped_rows()
        if GRADIENT in self.strategy_state and (rows is None or bool(rows.any())):
            gradient = mean_gradient(self.strategy_state)
            top = gradient.sort().values[int(0.99 * (len(gradient) - 1))].clamp_min(1e-12)
            values = (gradient / top)[:, None].contiguous()
            image = self.composite(values if rows is None else values[rows])
            pictures["identity_gradient"] = image.clamp(0, 1)
        return pictures
