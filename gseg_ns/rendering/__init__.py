"""Gaussians to pixels, and pixels back to Gaussians.

`rasterization` and `rasterize_to_pixels` keep gsplat 1.4.0's contract on CUDA and on the CPU. The rest answers which
Gaussian adds how much to which pixel. Cameras are OpenCV world-to-camera matrices with intrinsics in pixels; pixel
centres lie at +0.5.
"""

from __future__ import annotations

from gseg_ns.rendering.api import (
    composite,
    project,
    rasterization,
    rasterization_with_features,
    rasterize_to_pixels,
    tiles_showing,
    visible,
)
from gseg_ns.rendering.camera import Camera
from gseg_ns.rendering.contributions import (
    RegionVotes,
    contested_labels,
    dominant_labels,
    pixel_weights,
    sparse_vote,
    top_contributors,
    vote,
)
from gseg_ns.rendering.pixel_weights import PixelWeights
from gseg_ns.rendering.projection import Coefficients

__all__ = [
    "Camera",
    "Coefficients",
    "PixelWeights",
    "RegionVotes",
    "composite",
    "contested_labels",
    "dominant_labels",
    "pixel_weights",
    "project",
    "rasterization",
    "rasterization_with_features",
    "rasterize_to_pixels",
    "sparse_vote",
    "tiles_showing",
    "top_contributors",
    "visible",
    "vote",
]
