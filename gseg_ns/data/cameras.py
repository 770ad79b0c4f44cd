"""Nerfstudio's cameras as the cameras of our rendering layer."""

from __future__ import annotations

from nerfstudio.cameras.cameras import Cameras

from gseg_ns.rendering.camera import Camera


def to_camera(camera: Cameras) -> Camera:
    """Convert one Nerfstudio camera (OpenGL camera-to-world) to an OpenCV world-to-camera one.

    Args:
        camera: of shape [] or [1].
    """
    single = camera.reshape(())
    return Camera.from_c2w(
        single.camera_to_worlds,
        single.get_intrinsics_matrices(),
        int(single.width.item()),
        int(single.height.item()),
    )
