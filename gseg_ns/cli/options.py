"""What several commands check of their options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gseg_ns.choices import MaskSourceName
from gseg_ns.errors import GsegError
from gseg_ns.masks.sources.base import SourceConfig
from gseg_ns.masks.sources.classical import ClassicalConfig
from gseg_ns.masks.sources.entity import EntityConfig
from gseg_ns.masks.sources.grounded import GroundedConfig
from gseg_ns.masks.sources.registry import SOURCES, asked_source
from gseg_ns.masks.sources.sam import SamConfig
from gseg_ns.masks.sources.sam2 import Sam2Config
from gseg_ns.masks.sources.sam3 import Sam3Config
from gseg_ns.masks.sources.video import Sam3VideoConfig, VideoConfig

if TYPE_CHECKING:
    from gseg_ns.runs.run import Run

Frame = Literal["photograph", "view"]
"""Whose pixels an image has: the photograph's as it is stored, or those of the undistorted view trained on."""


Level = Literal["part", "object", "group", "best"]

SCALES: dict[Level, float | None] = {"part": 0.0, "object": 0.5, "group": 1.0, "best": None}
"""What levels mean as scales; None: the method's default."""


@dataclass(kw_only=True)
class Granular:
    """Options of commands that ask a run for its groups."""

    scale: float | None = None
    """Granularity in [0, 1], for methods that have scales and for trees of parts, objects and groups"""
    level: Level | None = None
    """The same by name: parts (--scale 0), objects (0.5), groups (1), or what the method takes for best (default)"""

    def granularity(self, run: Run) -> float | None:
        """The scale that is asked for; None: the method's default.

        Raises:
            GsegError: both options are given, the scale is outside [0, 1], or the run has no scales.
        """
        if self.scale is not None and self.level is not None:
            raise GsegError(f"--scale {self.scale:g} and --level {self.level} say the same thing: leave one out")
        if self.scale is not None and not 0 <= self.scale <= 1:
            raise GsegError(f"--scale is {self.scale:g}: it lies between 0 (finest parts) and 1 (the whole)")
        scale = SCALES[self.level] if self.level is not None else self.scale
        if scale is not None and not run.model.has_scales:
            given = "--scale" if self.level is None else f"--level {self.level}"
            raise GsegError(f"{run.config.method_name} has no scales, its groups are of one level: leave out {given}")
        return scale


@dataclass(kw_only=True)
class WithSources:
    """Options of commands that make masks."""

    source: Literal["auto"] | MaskSourceName = "auto"
    """Where masks come from. auto: the source whose options are given (--sam.checkpoint, --sam2.model, --sam3.words,
    --grounded.words, --video.model, --sam3-video.words, --entity.folder), else classical, which needs no weights and is
    no substitute for SAM"""
    device: str = "auto"
    """Where masks are made: auto, cpu, cuda or cuda:1. With auto, workers take turns on the GPUs"""
    sam: SamConfig = field(default_factory=SamConfig)
    """Options of Segment Anything"""
    sam2: Sam2Config = field(default_factory=Sam2Config)
    """Options of SAM 2.1, EdgeTAM and other models of transformers"""
    sam3: Sam3Config = field(default_factory=Sam3Config)
    """Options of SAM 3, which finds what words name"""
    grounded: GroundedConfig = field(default_factory=GroundedConfig)
    """Options of Grounding DINO with SAM 2.1, which find what words name"""
    video: VideoConfig = field(default_factory=VideoConfig)
    """Options of SAM 2.1 on video, which follows all there is from picture to picture"""
    sam3_video: Sam3VideoConfig = field(default_factory=Sam3VideoConfig)
    """Options of SAM 3 on video, which follows what words name from picture to picture"""
    entity: EntityConfig = field(default_factory=EntityConfig)
    """Options of a folder of label maps or panoptic PNGs"""
    classical: ClassicalConfig = field(default_factory=ClassicalConfig)
    """Options of the source without weights"""

    def configs(self) -> dict[str, SourceConfig]:
        """The options of all sources, by name."""
        return {name: getattr(self, name.replace("-", "_")) for name in SOURCES}

    def asked(self) -> str | None:
        """The source that is named, or whose options are given; None: none is.

        Raises:
            GsegError: options of several are given.
        """
        return asked_source(self.configs()) if self.source == "auto" else self.source
