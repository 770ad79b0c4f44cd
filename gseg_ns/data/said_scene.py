"""Where a configuration says that its scene is."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def said_scene(config: Any) -> Path:
    """The scene of a TrainerConfig: given to ns-train, or after the name of a dataparser; the empty path for none."""
    data = config.pipeline.datamanager
    return data.data or config.data or getattr(data.dataparser, "data", None) or Path()
