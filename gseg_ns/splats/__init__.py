"""The Gaussians as data."""

from __future__ import annotations

from gseg_ns.splats.container import Splats
from gseg_ns.splats.objects import write_objects, write_splats
from gseg_ns.splats.placement import Placement, original_placement
from gseg_ns.splats.ply import read_ply, write_ply
from gseg_ns.splats.projection import project_splats
from gseg_ns.splats.transform import to_original_frame, transform

__all__ = [
    "Placement",
    "Splats",
    "original_placement",
    "project_splats",
    "read_ply",
    "to_original_frame",
    "transform",
    "write_objects",
    "write_ply",
    "write_splats",
]
