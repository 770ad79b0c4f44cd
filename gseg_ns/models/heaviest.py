"""Methods whose label images may be what weighs most at a pixel, each Gaussian as loud as it is said to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from gseg_ns.lifting.identity import SILENT
from gseg_ns.lifting.strengths import label_image as loudest_labels
from gseg_ns.lifting.strengths import label_under, silhouettes
from gseg_ns.models.base import SegmentationModel

if TYPE_CHECKING:
    from gseg_ns.cluster import Cluster


class HeaviestModel(SegmentationModel):
    """A method that may say of each Gaussian what it is, and of a pixel what most of it is."""

    gaussian_buffers: tuple[str, ...] = ("voted_confidence",)

    voted_confidence: Tensor
    cluster: Cluster | None = None
    """Where views are asked; None: here."""

    def populate_modules(self) -> None:
        """Build the model, without votes."""
        super().populate_modules()
        # [N], the part of all that masks gave a Gaussian that lies in what it is said to be.
        self.register_buffer("voted_confidence", torch.zeros(0))

    def loudness(self, scale: float | None = None) -> Tensor | None:
        """How loud each Gaussian is in label images of a scale [N]; None: all alike."""
        return None

    @torch.no_grad()
    def heaviest(self, labels: Tensor, loud: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """The label of the largest sum of weight times loudness at each pixel of the last `render`: [H, W].

        Args:
            labels: of all Gaussians [N].
            loud: `loudness`.
            rows: bool [N], the Gaussians in that render; None: all.
        """
        if rows is not None:
            labels, loud = labels[rows], None if loud is None else loud[rows]
        answers, weights = loudest_labels(self.info, labels, loud)
        return torch.where(weights < SILENT, 0, answers)

    @torch.no_grad()
    def heaviest_image(self, camera: Cameras, labels: Tensor, loud: Tensor | None = None) -> Tensor:
        """Render a view, and say what weighs most: [H, W] int64, 0 = none; see `heaviest`."""
        with self._evaluating():
            self.render(camera.to(self.device))
            return self.heaviest(labels, loud)

    @torch.no_grad()
    def heaviest_under(
        self,
        rows: Tensor,
        weights: Tensor,
        labels: Tensor,
        loud: Tensor | None = None,
        in_view: Callable[[Tensor], Tensor] | None = None,
    ) -> int:
        """The label that a pixel shows, as in pictures (see `label_image` of strengths); 0 = none.

        Args:
            rows: the Gaussians [K] that add to it, -1 for what is not of this model,
            weights: and how much [K].
            labels: of all Gaussians [N].
            loud: `loudness`.
            in_view: see `SegmentationModel.group_under`.
        """
        return label_under(rows, weights, labels, loud, in_view)

    # ------------------------------------------------------------------------------------------------- inference

    @property
    def by_vote(self) -> bool:
        """Whether votes answer what each Gaussian is, and not what is composited of features."""
        return False

    def silhouettes(self, meta: dict[str, Any], selections: Tensor) -> Tensor:
        """As in the base; by the vote, with the borders that label images have.

        Strengths fitted to one cut of a tree are good for selections of any: the border of a group is one of objects.
        """
        return silhouettes(meta, selections, self.loudness() if self.by_vote else None)

    def group_confidence(self, scale: float | None = None) -> Tensor | None:
        """What votes say: the group's part of all that masks gave a Gaussian, [N]."""
        return self.voted_confidence if self.by_vote and len(self.voted_confidence) == self.num_points else None

    @torch.no_grad()
    def label_image(self, camera: Cameras, scale: float | None = None) -> Tensor:
        """Segment a view: [H, W] int64 group ids, 0 = none."""
        if not self.by_vote:
            return super().label_image(camera, scale)
        return self.heaviest_image(camera, self.gaussian_groups(scale), self.loudness(scale))

    def shown_labels(self, image: Tensor, rows: Tensor | None) -> Tensor:
        """As in the base; by the vote, what weighs most."""
        if not self.by_vote:
            return super().shown_labels(image, rows)
        return self.heaviest(self.gaussian_groups(), self.loudness(), rows)

    def group_under(
        self,
        feature: Tensor,
        rows: Tensor,
        weights: Tensor,
        scale: float | None = None,
        in_view: Callable[[Tensor], Tensor] | None = None,
    ) -> int:
        """As in the base; by the vote, what weighs most."""
        if not self.by_vote:
            return super().group_under(feature, rows, weights, scale, in_view)
        return self.heaviest_under(rows, weights, self.gaussian_groups(scale), self.loudness(scale), in_view)

    # ----------------------------------------------------------------------------------------------- checkpoints

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """As many rows of the buffers of Gaussians as the checkpoint has."""
        super().resize_for(state)
        for name in self.gaussian_buffers:
            setattr(self, name, getattr(self, name).new_zeros(state[name].shape))

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint; older ones lack some of the buffers of Gaussians."""
        none = {name: getattr(self, name).new_zeros(0) for name in self.gaussian_buffers}
        super().load_state_dict({**none, **dict}, **kwargs)
