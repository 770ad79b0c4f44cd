"""What several commands check of their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gseg_ns.errors import GsegError

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
