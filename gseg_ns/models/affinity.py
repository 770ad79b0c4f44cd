"""What both versions of SAGA share: affinity features, groups by clustering, prompts by likeness."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.data.cameras import to_camera
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.lifting.affinity import smooth
from gseg_ns.lifting.clustering import ClusterOptions, SceneClusters
from gseg_ns.lifting.smoothing import without_parted
from gseg_ns.lifting.text import (
    TextImageEncoder,
    VoteGraph,
    VoteOptions,
    cluster_masks,
    draw_anchors,
    encode_masks,
    mask_features,
    selected_anchors,
)
from gseg_ns.masks import MaskSet
from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig
from gseg_ns.neighbours import nearest

AFFINITY_DIM = 32
"""Channels of an affinity feature in both papers."""

STALE = 500
"""Steps of training after which what follows from the features, their clusters and the votes of the masks, is computed
anew. Every step changes it, but only a little, and computing it takes far longer than a step."""


@dataclass
class AffinityModelConfig(SegmentationModelConfig):
    """Methods with affinity features."""

    _target: type = field(default_factory=lambda: AffinityModel)
    clusters: ClusterOptions = field(default_factory=ClusterOptions)
    """How the whole scene is divided into groups"""
    default_scale: float = 0.5
    """Scale in [0, 1] of groups where none is asked for: the share of the scene's masks that are smaller"""


class AffinityModel(SegmentationModel):
    """Gaussians whose features say what belongs together: groups are clusters of them."""

    config: AffinityModelConfig
    feature_dims = {"affinity": AFFINITY_DIM}  # noqa: RUF012
    main_feature = "affinity"
    prompts_by_feature = True
    smoothing = 1
    """Neighbours that a trained feature is averaged over; 1: none."""

    finished: Tensor
    kept_neighbours: Tensor

    def populate_modules(self) -> None:
        """Build the model."""
        super().populate_modules()
        self.register_buffer("finished", torch.zeros((), dtype=torch.bool))
        # [N] flags of the neighbours that are smoothed over (`pack_flags`), known when the feature phase has begun.
        self.register_buffer("kept_neighbours", torch.zeros(0, dtype=torch.int32))
        self._clusters: tuple[int, SceneClusters] | None = None

    @torch.no_grad()
    def finish(self) -> None:
        """Save the features as their smoothed form (SAGA, section 3.3), once."""
        if not self.finished and self.smoothing > 1:
            features = self.gauss_params["affinity"].data
            neighbours = nearest(self.means, self.smoothing)
            # An older checkpoint and a part written as a run have no flags.
            if len(self.kept_neighbours) == len(neighbours):
                neighbours = without_parted(neighbours, self.kept_neighbours)
            features.copy_(smooth(features, neighbours))
        self.finished.fill_(True)
        self._clusters = None

    def step_post_backward(self, step: int) -> None:
        """As in the base; after the last step the features are finished, before the last checkpoint is written."""
        super().step_post_backward(step)
        if self.in_feature_phase:
            self.finished.fill_(False)
            if step >= self.config.num_iterations - 1:
                self.finish()

    # ------------------------------------------------------------------------------------------------- inference

    @property
    def default_scale(self) -> float:
        """As configured."""
        return self.config.default_scale

    def gate(self, scale: float) -> Tensor | None:
        """What features are multiplied with before they are compared: [D], or None for nothing."""
        return None

    def _gate(self, scale: float | None) -> Tensor:
        gate = self.gate(self.default_scale if scale is None else scale)
        return torch.ones(AFFINITY_DIM, device=self.device) if gate is None else gate

    def _scene_clusters(self) -> SceneClusters:
        """The clusters of the present features; in training, of features that are not much older."""
        if self.origin is not None:
            return cast(AffinityModel, self.origin[0])._scene_clusters()
        if self._clusters is None or not 0 <= self.step - self._clusters[0] < STALE:
            features = self.gauss_params["affinity"].detach()
            self._clusters = self.step, SceneClusters(features, self.config.clusters)
        return self._clusters[1]

    @torch.no_grad()
    def decode(self, features: Tensor, scale: float | None = None) -> Tensor:
        """The group of composited features [..., D]: [...] int64, 0 where none is like them or nothing is there."""
        if not self.in_feature_phase:
            return torch.zeros(features.shape[:-1], dtype=torch.long, device=features.device)
        return self._scene_clusters().assign(features, self._gate(scale))

    @torch.no_grad()
    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian at a scale: [N] int64, 0 = noise."""
        return self.decode(self.gauss_params["affinity"], scale)

    def mask_gates(self, meta: dict[str, Any], K: Tensor, masks: MaskSet) -> Tensor:
        """The gate of each mask's own scale: [M, D]."""
        return torch.ones(len(masks), AFFINITY_DIM, device=self.device)

    @torch.no_grad()
    def vote_graph(
        self,
        datamanager: MaskDatamanager,
        encoder: TextImageEncoder,
        options: VoteOptions,
        lock: AbstractContextManager[Any] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> VoteGraph:
        """Encode the masks of all training views and find the 3D targets that they vote for (SAGA, appendix A.3).

        Args:
            datamanager: of the run; the model itself knows it in training only.
            encoder: CLIP, or the like.
            options: settings; every field has its meaning beside it.
            lock: held while a view is rendered, and not while its masks are encoded.
            tell: is told of the progress, which goes to the terminal otherwise.

        Raises:
            GsegError: no view has a mask.
        """
        held: AbstractContextManager[Any] = nullcontext() if lock is None else lock
        count = len(datamanager.train_dataset)
        chosen = draw_anchors(self.num_points, options).to(self.device)
        clip, features, gates, selected = [], [], [], []
        views: Iterable[int] = range(count)
        for view in terminal.track(views, "Encoding masks", count) if tell is None else views:
            if tell is not None:
                tell(f"Encoding masks with CLIP, once for all texts: view {view + 1} of {count} …")
            masks = datamanager.mask_set(view)
            if masks is None or len(masks := masks.select(masks.areas > 0)) == 0:
                continue
            camera = datamanager.camera(view)
            with held:
                anchors = self.gauss_params["affinity"].detach()[chosen]
                image = self.feature_image(camera)
                gates.append(self.mask_gates(self.info, to_camera(camera).K, masks))
                features.append(mask_features(image, gates[-1], masks))
                selected.append(selected_anchors(anchors, features[-1], gates[-1], options.anchor_similarity).cpu())
            clip.append(encode_masks(datamanager.cached_train[view]["image"].cpu(), masks, encoder))
        if not clip:
            raise GsegError("No training view has a mask, and text prompts are answered by those masks.")
        targets = torch.from_numpy(cluster_masks(torch.cat(selected), options))
        return VoteGraph(torch.cat(clip), torch.cat(features).cpu(), torch.cat(gates).cpu(), targets)

    # ----------------------------------------------------------------------------------------------- checkpoints

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """As many flags as the checkpoint has."""
        super().resize_for(state)
        self.kept_neighbours = self.kept_neighbours.new_zeros(state["kept_neighbours"].shape)

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint; one from the middle of training is finished, unless training goes on from it.

        Older ones have no flags of neighbours: their features were trained, and are smoothed, over all of them.
        """
        super().load_state_dict({"kept_neighbours": self.kept_neighbours.new_zeros(0), **dict}, **kwargs)
        self._clusters = None
        if not self.training and self.in_feature_phase:
            self.finish()
