"""Clicks on the picture, always: a mesh that nobody sees, around all there is.

viser 0.2.7 holds the camera still while it listens for clicks on the scene, and not while it listens for clicks on a
mesh, for which it tells a click from a drag by itself. The mesh lies beyond what the browser draws, where it costs
nothing and hides nothing, but rays meet it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import viser
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.viewer.utils import CameraState

_NAME = "/segment"
_FAR = 1e5
"""Half the edge of the mesh; the browser's camera draws to 1e3."""


def listen(scene: viser.SceneApi, clicked: Callable[[Any], None]) -> None:
    """Call back for every click on the picture that is no drag, with viser's `SceneNodePointerEvent`."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float32) * _FAR
    sides = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    faces = np.array([face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))])
    scene.add_mesh_simple(_NAME, corners, faces, side="double").on_click(clicked)


def view_of(state: CameraState, event: Any, height: int) -> tuple[Cameras, float, float]:
    """The view [1] that was clicked on, and the pixel.

    The ray of such an event is no help: viser 0.2.7 gives that of another picker, the same for every click.

    Args:
        state: what the viewer knows of the browser's camera.
        event: viser's `SceneNodePointerEvent`.
        height: of the view in pixels.
    """
    from nerfstudio.viewer.utils import get_camera

    view = get_camera(state, height)
    x, y = event.screen_pos
    return view, float(x) * int(view.width), float(y) * int(view.height)
