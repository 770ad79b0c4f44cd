"""What models know of the viewer."""

from __future__ import annotations

from typing import Protocol

from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor


class Panel(Protocol):
    """What Nerfstudio's viewer shows beside a model, and draws with it. Does nothing without a viewer."""

    def is_drawing(self) -> bool:
        """Whether the render that runs now is for a browser."""
        ...

    def outputs(self, camera: Cameras, crop: OrientedBox | None) -> dict[str, Tensor]:
        """Render a view as the browser shall see it."""
        ...
