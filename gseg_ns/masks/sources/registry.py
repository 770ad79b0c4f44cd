"""All sources of masks, by name: what `--source` offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gseg_ns.errors import GsegError
from gseg_ns.masks.sources.base import SourceConfig
from gseg_ns.masks.sources.classical import ClassicalConfig
from gseg_ns.masks.sources.entity import EntityConfig
from gseg_ns.masks.sources.grounded import GroundedConfig
from gseg_ns.masks.sources.sam import SamConfig
from gseg_ns.masks.sources.sam2 import Sam2Config
from gseg_ns.masks.sources.sam3 import Sam3Config
from gseg_ns.masks.sources.video import Sam3VideoConfig, VideoConfig

SOURCES: dict[str, Any] = {
    config.name: config
    for config in (
        SamConfig,
        Sam2Config,
        Sam3Config,
        GroundedConfig,
        VideoConfig,
        Sam3VideoConfig,
        EntityConfig,
        ClassicalConfig,
    )
}
"""Name -> configuration."""

WORDED = tuple(name for name, config in SOURCES.items() if "words" in config.__dataclass_fields__)
"""Sources that find what words name."""


def asked_source(configs: Mapping[str, SourceConfig]) -> str | None:
    """The source that has its options given, which speak for it; None: none has.

    Args:
        configs: of all sources, by name.

    Raises:
        GsegError: options of several are given.
    """
    asked = [name for name, config in configs.items() if config.is_asked]
    if len(asked) > 1:
        raise GsegError(f"Options of {' and '.join(asked)} are given. Say which with --source.")
    return asked[0] if asked else None
