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
from gseg_ns.masks import MaskSet
from gseg_ns.models.affinity import AFFINITY_DIM, AffinityModel, AffinityModelConfig


@dataclass
class SagaModelConfig(AffinityModelConfig):
    """SAGA: geometry first, then affinity features with a scale gate, from overlapping masks of all sizes."""

    _target: type = field(default_factory=lambda: SagaModel)
    affinity: AffinityOptions = field(default_factory=AffinityOptions)
    """How affinity features are trained"""
    scale_gate: bool = True
    """Features are gated by a scale. Off: one granularity for all scales (the paper's ablation)"""


class SagaModel(AffinityModel):
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

    def initial_feature(self, name: str, count: int, dim: int) -> Tensor:
        """Small random vectors, as the official code: [count, dim]."""
        return 1e-2 * torch.randn((count, dim))

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups, the features and the gate."""
        return {**super().get_param_groups(), "scale_gate": list(self.scale_gate.parameters())}

    def start_feature_phase(self) -> None:
        """Measure all masks in 3D and cache what the sampled pixels see."""
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
            masks = self.masks().mask_set(view)
            if masks is not None:
                yield view, self.project_view(view), self.view_camera(view).K, masks

    def feature_losses(self, view: int) -> dict[str, Tensor]:
        """The correspondence loss at drawn scales, and the norm regularisation (Eq. 13)."""
        assert self._views is not None
        return self._views.losses(view, self.gauss_params["affinity"], self.scale_gate)

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

    @torch.no_grad()
    def mask_gates(self, meta: dict[str, Any], K: Tensor, masks: MaskSet) -> Tensor:
        """The gate of each mask's own scale: [M, D]."""
        return self.scale_gate(self.scale_quantiles(view_scales(meta, K, masks)))
