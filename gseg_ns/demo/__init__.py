"""A small scene of our own, made without downloads: a ray-traced room with objects, masks and ground truth."""

from __future__ import annotations

from gseg_ns.demo.mask_errors import MASK_ERRORS, MaskErrorLevel, MaskErrors
from gseg_ns.demo.scene import DemoScene, write_demo_scene

__all__ = ["MASK_ERRORS", "DemoScene", "MaskErrorLevel", "MaskErrors", "write_demo_scene"]
