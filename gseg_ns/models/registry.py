"""What `ns-train` offers of ours, and the facts that each method tells of itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from nerfstudio.plugins.registry import discover_methods

from gseg_ns.errors import GsegError
from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig


@lru_cache(maxsize=1)
def segmentation_methods() -> dict[str, Any]:
    """Name in `ns-train` -> TrainerConfig of every registered method whose models are segmented.

    Others than ours count as well: what is registered as Nerfstudio finds it, by an entry point or by
    NERFSTUDIO_METHOD_CONFIGS.
    """
    found, _ = discover_methods()
    return {
        name: config
        for name, config in sorted(found.items())
        if isinstance(getattr(config.pipeline, "model", None), SegmentationModelConfig)
    }


def method_config(method: str) -> Any:
    """The TrainerConfig of a method.

    Raises:
        GsegError: there is none of that name.
    """
    methods = segmentation_methods()
    if method not in methods:
        raise GsegError(f"{method} is not one of the methods with groups: {', '.join(methods)}")
    return methods[method]


def model_class(method: str) -> type[SegmentationModel]:
    """The class of a method's models."""
    return method_config(method).pipeline.model._target


def takes_geometry(method: str) -> bool:
    """Whether a method freezes its geometry before it trains anything else, and can take it from another run."""
    return model_class(method).two_phases


def feature_steps(method: str, iterations: int) -> int:
    """Steps of a whole run of so many steps that train features on frozen geometry."""
    return round((1 - method_config(method).pipeline.model.geometry_fraction) * iterations)
