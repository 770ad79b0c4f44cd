"""Views that were drawn last, so that a change of what is highlighted draws nothing else again."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from gseg_ns.rendering import composite, tiles_showing

_MOST = 2
"""A browser is shown each view coarse, and then refined."""


@dataclass
class KeptView:
    """A view without highlight, and the highlight that was drawn on it last."""

    outputs: dict[str, Tensor]
    info: dict[str, Any]
    """Projection and tiles, over which anything can be composited."""
    selected: Tensor | None = None
    """bool [N], what `share` shows; None: nothing."""
    share: Tensor | None = None
    """[H, W], how much of each pixel shows selected Gaussians."""

    def share_of(self, selected: Tensor) -> Tensor:
        """How much of each pixel shows selected Gaussians: [H, W] in 0..1.

        Only tiles are composited in which Gaussians lie whose selection differs from the last; others are as they were.

        Args:
            selected: bool [N], N the Gaussians of this view.
        """
        before, old = self.selected, self.share
        if before is None or old is None or len(before) != len(selected):
            before, old = torch.zeros_like(selected), self.outputs["rgb"].new_zeros(self.outputs["rgb"].shape[:2])
        changed = before != selected
        share = old
        if bool(changed.any()):
            tiles, size = tiles_showing(self.info, changed), self.info["tile_size"]
            drawn = composite(self.info, selected.to(old)[:, None], tiles)[..., 0].clamp(0, 1)
            inside = tiles[0].repeat_interleave(size, dim=0).repeat_interleave(size, dim=1)
            share = torch.where(inside[: old.shape[0], : old.shape[1]], drawn, old)
        self.selected = None  # a frame may be interrupted at any line
        self.share = share
        self.selected = selected.clone()
        return share


@dataclass
class KeptViews:
    """The last views, by what their pictures depend on."""

    views: dict[Hashable, KeptView] = field(default_factory=dict)

    def find(self, key: Hashable) -> KeptView | None:
        """The view of a key, if it is kept."""
        return self.views.get(key)

    def keep(self, key: Hashable, view: KeptView) -> None:
        """Keep a view in place of the oldest."""
        kept = [*self.views.items()][-(_MOST - 1) :]
        self.views = {**dict(kept), key: view}


def seen_from(camera: Cameras, crop: OrientedBox | None) -> Hashable:
    """Equal for cameras and crops that show the same."""
    values = [getattr(camera, name) for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height")]
    values += [camera.camera_type, camera.distortion_params]
    if crop is not None:
        values += [crop.R, crop.T, crop.S]
    numbers = tuple(None if value is None else tuple(value.detach().flatten().tolist()) for value in values)
    return numbers, (camera.metadata or {}).get("cam_idx")
