"""Nerfstudio's cameras as the cameras of our rendering layer, and which of many are asked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns.rendering.camera import Camera

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras


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


def of_nerfstudio(camera: Camera) -> Cameras:
    """The Nerfstudio camera [1] that `to_camera` makes a camera of."""
    from nerfstudio.cameras.cameras import Cameras

    pose = torch.linalg.inv(camera.viewmat.double()) * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    fx, fy, cx, cy = (float(camera.K[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Cameras(pose[None, :3].float(), fx=fx, fy=fy, cx=cx, cy=cy, width=camera.width, height=camera.height)


def look_at(eye: Tensor, target: Tensor, up: Tensor, fov: float, width: int, height: int) -> Cameras:
    """A Nerfstudio camera [1] that has a point in the middle of its picture.

    Args:
        eye: [3] where it is.
        target: [3] what it looks at.
        up: [3] direction that is up in the picture; another is taken where the camera looks along it.
        fov: full angle of view of the picture's smaller side, in radians.
        width: of the picture in pixels.
        height: of the picture in pixels.
    """
    from nerfstudio.cameras.cameras import Cameras

    back = torch.nn.functional.normalize((eye - target).double(), dim=0)
    right = torch.linalg.cross(up.double(), back)
    if float(right.norm()) < 1e-6:
        right = torch.linalg.cross(torch.eye(3, dtype=torch.float64)[int(back.abs().argmin())], back)
    right = torch.nn.functional.normalize(right, dim=0)
    pose = torch.stack([right, torch.linalg.cross(back, right), back, eye.double()], dim=1).float()
    focal = min(width, height) / 2 / math.tan(fov / 2)
    return Cameras(pose[None], fx=focal, fy=focal, cx=width / 2, cy=height / 2, width=width, height=height)


def spread_views(count: int, most: int) -> list[int]:
    """At most so many of some views, evenly spread over them, the first and the last among them."""
    return torch.linspace(0, count - 1, min(count, most)).round().long().tolist()
