"""Where masks come from: one module a source."""

from __future__ import annotations

from gseg_ns.masks.sources.base import MaskSource, Photo, SourceConfig, SourceResult
from gseg_ns.masks.sources.classical import ClassicalConfig
from gseg_ns.masks.sources.entity import EntityConfig
from gseg_ns.masks.sources.sam import SamConfig
from gseg_ns.masks.sources.sam2 import Sam2Config
from gseg_ns.masks.sources.sam3 import Sam3Config

__all__ = [
    "ClassicalConfig",
    "EntityConfig",
    "MaskSource",
    "Photo",
    "Sam2Config",
    "Sam3Config",
    "SamConfig",
    "SourceConfig",
    "SourceResult",
]
