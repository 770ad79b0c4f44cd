"""What several commands check of their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from gseg_ns.runs.run import Run

Frame = Literal["photograph", "view"]
"""Whose pixels an image has: the photograph's as it is stored, or those of the undistorted view trained on."""


def check_scale(run: Run, scale: float | None) -> None:
    """Refuse a --scale (None: not given) that a run would not look at.

    Raises:
        GsegError: the run's method has no scales.
    """
    if scale is not None and not run.model.has_scales:
        raise GsegError(f"{run.config.method_name} has no scales: leave out --scale")
