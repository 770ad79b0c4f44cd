"""Handles in the picture: what one browser moves and turns, and lines that it measures along."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO as RATIO
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    import viser

    from gseg_ns.viewer.shaping import Vector

_HANDLE = "/segment_handle"
_LINE = "/segment_line"
_COLOR = (255, 211, 105)


class Handle:
    """A handle that moves and turns, with the outline of a box or a sphere."""

    def __init__(
        self, scene: viser.SceneApi, centre: Vector, reach: float, moved: Callable[[], None], offset: Vector = (0, 0, 0)
    ) -> None:
        """Put it into the scene of one browser.

        Args:
            scene: of that browser.
            centre: where it is at first, in units of the scene.
            reach: length of its arrows, in units of the scene.
            moved: called whenever the browser has moved it, from viser's threads.
            offset: of the outline's centre from it.
        """
        self.centre = centre
        self._scene = scene
        self._offset = np.array(offset) * RATIO
        self._outline: viser.MeshHandle | None = None
        self._controls = scene.add_transform_controls(
            _HANDLE, scale=reach * RATIO, position=np.array(centre) * RATIO, depth_test=False, line_width=3.0
        )
        self._controls.on_update(lambda _: moved())

    @property
    def position(self) -> Vector:
        """Where it is, in units of the scene."""
        x, y, z = (np.asarray(self._controls.position, dtype=float) / RATIO).tolist()
        return x, y, z

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """How it is turned: w, x, y, z."""
        w, x, y, z = np.asarray(self._controls.wxyz, dtype=float).tolist()
        return w, x, y, z

    def place(self, position: Vector, quaternion: tuple[float, float, float, float]) -> None:
        """Move and turn it."""
        self._controls.position = np.array(position) * RATIO
        self._controls.wxyz = np.array(quaternion)

    def outline_sphere(self, radius: float) -> None:
        """Show a sphere around it."""
        import trimesh.creation

        self._show(trimesh.creation.icosphere(subdivisions=2, radius=radius * RATIO))

    def outline_box(self, size: Vector) -> None:
        """Show a box around it, of these edges."""
        import trimesh.creation

        self._show(trimesh.creation.box(np.array(size) * RATIO))

    def _show(self, mesh: object) -> None:
        vertices = np.asarray(mesh.vertices, dtype=np.float32)  # type: ignore[attr-defined]
        faces = np.asarray(mesh.faces, dtype=np.uint32)  # type: ignore[attr-defined]
        self._outline = self._scene.add_mesh_simple(
            f"{_HANDLE}/outline", vertices, faces, color=_COLOR, wireframe=True, position=self._offset
        )

    def remove(self) -> None:
        """Take it out of the picture."""
        if self._outline is not None:
            self._outline.remove()
        self._controls.remove()


def draw_line(scene: viser.SceneApi, one: Vector, other: Vector) -> viser.SceneNodeHandle:
    """Draw what is measured into the scene of one browser; units of the scene."""
    ends = np.array([one, other]) * RATIO
    return scene.add_spline_catmull_rom(_LINE, ends, line_width=4.0, color=_COLOR)


def quaternion_of(degrees: Vector) -> tuple[float, float, float, float]:
    """Rotation about x, then y, then z, as w, x, y, z."""
    x, y, z, w = Rotation.from_euler("xyz", degrees, degrees=True).as_quat().tolist()
    return w, x, y, z


def degrees_of(quaternion: tuple[float, float, float, float]) -> Vector:
    """What `quaternion_of` was made of, or the same rotation."""
    w, x, y, z = quaternion
    about_x, about_y, about_z = Rotation.from_quat([x, y, z, w]).as_euler("xyz", degrees=True).tolist()
    return about_x, about_y, about_z
