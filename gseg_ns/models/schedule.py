"""Milestones as fractions of the run, so that one knob, `--max-num-iterations`, shortens everything."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from gseg_ns.models.splatfacto import SplatfactoModelConfig

ConfigT = TypeVar("ConfigT", bound=SplatfactoModelConfig)

AUTO = -1
"""Value of a step count that is derived from the length of the run."""

PAPER_GEOMETRY_STEPS = 30_000
"""Length of 3DGS training in all four papers; Splatfacto's own defaults are made for it."""

PAPER_MILESTONES = {
    "warmup_length": 500,
    "stop_split_at": 15_000,
    "resolution_schedule": 3_000,
    "sh_degree_interval": 1_000,
    "stop_screen_size_at": 4_000,
}
"""Splatfacto's step counts in a run of `PAPER_GEOMETRY_STEPS`."""

PAPER_REFINE_EVERY = 100

SHORT_RUN_POWERS = {"means": 0.25, "scales": 0.25, "quats": 0.25, "features_dc": 0.25, "features_rest": 0.5}
"""Parameter -> power of how many times shorter than the papers' a run is, by which its learning rate rises.

Harmonics start at zero with a twentieth of the rate of the constant color: 1000 steps would hardly begin them.
Opacities pass from one end to the other in a hundred steps as it is."""


def steps_of_geometry(config: Any, two_phases: bool) -> int:
    """Steps in which the geometry of a run trains.

    Args:
        config: of the model: a `SegmentationModelConfig`.
        two_phases: whether its method freezes the geometry before it trains features.
    """
    if not two_phases:
        return int(config.num_iterations)
    return 0 if config.geometry is not None else round(config.geometry_fraction * config.num_iterations)


def rate_factors(config: SplatfactoModelConfig, geometry_steps: int) -> dict[str, float]:
    """What learning rates are multiplied with in a run of this length, by the powers of the method's model
    (`short_run_powers`); none: they stay, as those of the geometry do where colors and groups train together, which
    lose by higher ones (docs/results.md).

    Adam moves a parameter by about its rate in a step, so that rate times steps is what it can travel. Splatfacto's
    rates are made for `PAPER_GEOMETRY_STEPS`; with them a run of a twentieth ends before much has arrived. Steps of one
    view are noisy, and a rate that made up for all of the shortness would not settle.

    Args:
        config: of the model; `scale_rates` is asked.
        geometry_steps: steps in which the geometry trains.
    """
    if not getattr(config, "scale_rates", False) or not 0 < geometry_steps < PAPER_GEOMETRY_STEPS:
        return {}
    shorter = PAPER_GEOMETRY_STEPS / geometry_steps
    powers: dict[str, float] = getattr(config._target, "short_run_powers", {})
    return {name: shorter**power for name, power in powers.items()}


def resolve(config: ConfigT, geometry_steps: int, num_views: int) -> ConfigT:
    """Return a copy of `config` in which every step count left at `AUTO` fits a geometry phase of this length.

    Densification needs gradients from most views before it decides, so `refine_every` does not shrink below the number
    of views (nor above the 100 steps of the paper); in a short run that makes fewer refinements, not worse ones.

    Args:
        config: a model config.
        geometry_steps: steps in which the geometry trains.
        num_views: training views.
    """
    factor = max(geometry_steps, 1) / PAPER_GEOMETRY_STEPS
    changes: dict[str, Any] = {}
    for name, steps in PAPER_MILESTONES.items():
        if getattr(config, name) == AUTO:
            changes[name] = max(round(steps * factor), 1)
    if config.refine_every == AUTO:
        changes["refine_every"] = max(round(PAPER_REFINE_EVERY * factor), min(PAPER_REFINE_EVERY, num_views))
    return dataclasses.replace(config, **changes)
