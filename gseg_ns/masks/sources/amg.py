"""Settings of automatic mask generation: a grid of point prompts, filters, non-maximum suppression."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from gseg_ns.errors import GsegError

Preset = Literal["sam", "gaga", "saga", "saga-v1", "gaussian-grouping", "omniseg3d", "omniseg3d-llff", "garfield"]


@dataclass(frozen=True)
class AmgSettings:
    """Values of `SamAutomaticMaskGenerator`; its defaults are SAM's own."""

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0


PRESETS: dict[Preset, AmgSettings] = {
    "sam": AmgSettings(),
    "gaga": AmgSettings(points_per_side=64, pred_iou_thresh=0.7),
    "saga": AmgSettings(min_mask_region_area=100),
    "saga-v1": AmgSettings(),
    "gaussian-grouping": AmgSettings(points_per_side=64, pred_iou_thresh=0.7),
    "omniseg3d": AmgSettings(min_mask_region_area=128),
    "omniseg3d-llff": AmgSettings(stability_score_thresh=0.9, crop_n_layers=1, min_mask_region_area=128),
    "garfield": AmgSettings(pred_iou_thresh=0.9, stability_score_thresh=0.9),
}
"""What each published method's own code sets."""


@dataclass
class AmgOptions:
    """Options of automatic mask generation. Those left out are the preset's."""

    preset: Preset = "sam"
    """Settings to start from: SAM's defaults, or those of a paper's code."""
    points_per_side: int | None = None
    """Point prompts along each side of the image; their square is tried."""
    points_per_batch: int | None = None
    """Point prompts at once; fewer need less memory and give the same masks."""
    pred_iou_thresh: float | None = None
    """Smallest IoU that the model predicts for its mask."""
    stability_score_thresh: float | None = None
    """Smallest IoU of a mask with itself at a stricter and at a laxer cut-off."""
    stability_score_offset: float | None = None
    """How far the cut-off moves for the stability score, in logits."""
    box_nms_thresh: float | None = None
    """Of two masks whose boxes overlap by more than this IoU, the better stays."""
    crop_n_layers: int | None = None
    """Also look into crops of the image: layer i has 2^i of them along each side."""
    crop_nms_thresh: float | None = None
    """Of two masks of different crops whose boxes overlap by more than this IoU, the better stays."""
    crop_overlap_ratio: float | None = None
    """How far crops overlap, as a fraction of the image."""
    crop_n_points_downscale_factor: int | None = None
    """Points along a side are divided by this, to the power of the layer."""
    min_mask_region_area: int | None = None
    """Remove islands and fill holes smaller than this many pixels."""

    def resolve(self) -> AmgSettings:
        """The preset's settings with the given options in their place.

        Raises:
            GsegError: a value makes no sense.
        """
        names = asdict(PRESETS[self.preset])
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        values: dict[str, Any] = names | given
        for name in ("points_per_side", "points_per_batch", "crop_n_points_downscale_factor"):
            if values[name] < 1:
                raise GsegError(f"{name} is {values[name]}; it must be 1 or more.")
        for name in ("crop_n_layers", "min_mask_region_area", "stability_score_offset"):
            if values[name] < 0:
                raise GsegError(f"{name} is {values[name]}; it must be 0 or more.")
        return AmgSettings(**values)
