"""Clicks on the picture, always: a mesh that nobody sees, around all there is.

viser 0.2.7 holds the camera still while it listens for clicks on the scene, and not while it listens for clicks on a
mesh, for which it tells a click from a drag by itself. The mesh lies beyond what the browser draws, where it costs
nothing and hides nothing, but rays meet it.

What was chosen before a click may come after it: viser's page holds changes of fields back for 50 ms, longer when it is
busy, and clicks not; and its server hands every message to another of 32 threads. So the script of the tab says, too,
where somebody clicked, after all that was chosen before (`Page`), and the two are one click (`Clicks`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gseg_ns.selection.selection import Mode

if TYPE_CHECKING:
    import viser
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.viewer.utils import CameraState

_NAME = "/segment"
_FAR = 1e5
"""Half the edge of the mesh; the browser's camera draws to 1e3."""

PATIENCE = 1.0
"""Seconds after which a click is answered though the script has not said anything of it."""
_FORGOTTEN = 2.0
"""Seconds after which what the script says of a click is none: that was on something before the mesh."""
_SAME = 2e-3
"""Of the picture's width and height: places that are one."""


@dataclass(frozen=True, eq=False)
class Hit:
    """A click on the mesh."""

    client: int
    camera: CameraState
    """That the browser had."""
    place: tuple[float, float]
    """Of the picture's width and height."""


class Clicks:
    """Brings together what viser and the script say of clicks, whichever comes first. For any thread."""

    def __init__(self, clicked: Callable[[Hit, Mode | None], None]) -> None:
        """Call back once for each click, with the mode that its page showed; None where nothing was said of it."""
        self._clicked = clicked
        self._lock = threading.Lock()
        self._hits: list[Hit] = []
        self._told: deque[tuple[float, int, tuple[float, float], Mode]] = deque(maxlen=64)

    def listen(self, scene: viser.SceneApi, camera_of: Callable[[viser.ClientHandle], CameraState]) -> None:
        """Hear of every click on the picture that is no drag."""
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float32) * _FAR
        sides = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
        faces = np.array([face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))])

        def hit(event: viser.SceneNodePointerEvent[Any]) -> None:
            x, y = event.screen_pos
            self.hit(Hit(event.client_id, camera_of(event.client), (float(x), float(y))))

        scene.add_mesh_simple(_NAME, corners, faces, side="double").on_click(hit)

    def hit(self, hit: Hit) -> None:
        """Viser says it."""
        with self._lock:
            now = time.monotonic()
            found = next(
                (told for told in self._told if now - told[0] < _FORGOTTEN and _are_one(hit, told[1], told[2])), None
            )
            if found is None:
                self._hits.append(hit)
                timer = threading.Timer(PATIENCE, self._give_up, (hit,))
                timer.daemon = True
                timer.start()
                return
            self._told.remove(found)
        self._clicked(hit, found[3])

    def told(self, client: int, place: tuple[float, float], mode: Mode) -> None:
        """The script says it."""
        with self._lock:
            found = next((hit for hit in self._hits if _are_one(hit, client, place)), None)
            if found is None:
                self._told.append((time.monotonic(), client, place, mode))
                return
            self._hits.remove(found)
        self._clicked(found, mode)

    def _give_up(self, hit: Hit) -> None:
        with self._lock:
            if hit not in self._hits:
                return
            self._hits.remove(hit)
        self._clicked(hit, None)


def _are_one(hit: Hit, client: int, place: tuple[float, float]) -> bool:
    return hit.client == client and all(abs(a - b) <= _SAME for a, b in zip(hit.place, place, strict=True))


def view_of(hit: Hit, height: int) -> tuple[Cameras, float, float]:
    """The view [1] that was clicked on, and the pixel.

    The ray of viser's event is no help: 0.2.7 gives that of another picker, the same for every click.

    Args:
        hit: the click.
        height: of the view in pixels.
    """
    from nerfstudio.viewer.utils import get_camera

    view = get_camera(hit.camera, height)
    x, y = hit.place
    return view, x * int(view.width), y * int(view.height)
