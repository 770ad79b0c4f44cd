"""Gaussians to pixels."""

from __future__ import annotations

from gseg_ns.rendering.api import project, rasterization, rasterize_to_pixels

__all__ = ["project", "rasterization", "rasterize_to_pixels"]
