"""The Gaussians as data."""

from __future__ import annotations

from gseg_ns.splats.container import Splats

__all__ = ["Splats"]
