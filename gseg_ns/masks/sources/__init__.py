"""Where masks come from: one module a source."""

from __future__ import annotations

from gseg_ns.masks.sources.base import MaskSource, Photo, SequenceSource, SourceConfig, SourceResult
from gseg_ns.masks.sources.classical import ClassicalConfig
from gseg_ns.masks.sources.entity import EntityConfig
from gseg_ns.masks.sources.grounded import GroundedConfig
from gseg_ns.masks.sources.registry import SOURCES
from gseg_ns.masks.sources.sam import SamConfig
from gseg_ns.masks.sources.sam2 import Sam2Config
from gseg_ns.masks.sources.sam3 import Sam3Config
from gseg_ns.masks.sources.video import Sam3VideoConfig, VideoConfig

__all__ = [
    "SOURCES",
    "ClassicalConfig",
    "EntityConfig",
    "GroundedConfig",
    "MaskSource",
    "Photo",
    "Sam2Config",
    "Sam3Config",
    "Sam3VideoConfig",
    "SamConfig",
    "SequenceSource",
    "SourceConfig",
    "SourceResult",
    "VideoConfig",
]
