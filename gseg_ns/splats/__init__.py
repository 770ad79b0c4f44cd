"""The Gaussians as data."""

from __future__ import annotations

from gseg_ns.splats.container import Splats
from gseg_ns.splats.transform import to_original_frame, transform

__all__ = ["Splats", "to_original_frame", "transform"]
