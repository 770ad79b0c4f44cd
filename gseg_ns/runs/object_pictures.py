"""Pictures of single objects of a run: from all around, and one of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from gseg_ns.data.cameras import look_at, to_camera
from gseg_ns.models.base import SegmentationModel
from gseg_ns.selection.shapes import bounding_sphere, visible_share
from gseg_ns.splats import Splats

_WIDEST = math.radians(40)
"""Half the widest view that a picture is taken with. What fills more (a wall) is shown as the photograph has it."""


def upwards(poses: Tensor) -> Tensor:
    """The direction [3] that is up on the average photograph: no axis of the frame can be relied on.

    Args:
        poses: [n, 3, 4] camera to world, OpenGL.
    """
    return torch.nn.functional.normalize(poses[:, :3, 1].mean(dim=0), dim=0)


def turntable(
    splats: Splats, up: Tensor, frames: int, size: int, elevation: float = 20.0, fov: float = 40.0
) -> Iterator[Cameras]:
    """Cameras in a circle around an object, all of it in view.

    Args:
        splats: the object.
        up: [3] axis of the circle.
        frames: how many.
        size: width and height in pixels.
        elevation: degrees above the object's centre.
        fov: full angle of view in degrees.
    """
    centre, radius = bounding_sphere(splats)
    distance = radius / math.sin(math.radians(fov) / 2)
    up = torch.nn.functional.normalize(up.float().cpu(), dim=0)
    # Any direction that is not up begins the circle.
    side = torch.linalg.cross(up, torch.eye(3)[int(up.abs().argmin())])
    side = torch.nn.functional.normalize(side, dim=0)
    front = torch.linalg.cross(up, side)
    height = math.radians(elevation)
    for frame in range(frames):
        angle = 2 * math.pi * frame / frames
        level = math.cos(angle) * side + math.sin(angle) * front
        eye = centre.cpu() + distance * (math.cos(height) * level + math.sin(height) * up)
        yield look_at(eye, centre.cpu(), up, math.radians(fov), size, size)


@torch.no_grad()
def best_views(splats: Splats, groups: Tensor, cameras: Sequence[Cameras], width: int = 160) -> dict[int, int]:
    """The view that shows most of each group.

    Args:
        splats: N Gaussians, all that are drawn.
        groups: int64 [N]; 0 means none.
        cameras: views, each [1].
        width: in which they are compared, in pixels.

    Returns:
        Group -> index of the view; groups that no view shows are not in it.
    """
    names, inverse = groups.unique(return_inverse=True)
    shown = torch.stack(
        [
            torch.zeros(len(names), device=splats.device).index_add_(0, inverse, visible_share(splats, small))
            for small in (to_camera(camera.to("cpu")).scaled(width / int(camera.width)) for camera in cameras)
        ]
    )
    best = shown.max(dim=0)
    return {
        int(name): int(view)
        for name, view, most in zip(names, best.indices, best.values, strict=True)
        if name > 0 and most > 0
    }


def camera_towards(splats: Splats, camera: Cameras, up: Tensor, size: int) -> Cameras:
    """From where a photograph was taken, a view of one object that fills the picture.

    Args:
        splats: the object.
        camera: [1] of the photograph.
        up: [3].
        size: width and height in pixels.
    """
    centre, radius = bounding_sphere(splats)
    eye = camera.camera_to_worlds.reshape(3, 4)[:, 3].cpu()
    distance = float((eye - centre.cpu()).norm())
    half = math.asin(radius / distance) if radius < distance else math.pi
    if half > _WIDEST:
        pose = camera.camera_to_worlds.reshape(3, 4).cpu()
        zoom = size / max(int(camera.width), int(camera.height))
        fx, fy = float(camera.fx) * zoom, float(camera.fy) * zoom
        return Cameras(pose[None], fx=fx, fy=fy, cx=size / 2, cy=size / 2, width=size, height=size)
    return look_at(eye, centre.cpu(), up.cpu(), 2 * half, size, size)


@torch.no_grad()
def object_picture(model: SegmentationModel, camera: Cameras) -> Tensor:
    """What a model shows, on white: [H, W, 3] in 0..1 on the CPU.

    Args:
        model: in evaluation mode.
        camera: [1].
    """
    outputs = model.render(camera.to(model.device))
    rgb, alpha, background = outputs["rgb"], outputs["accumulation"], outputs["background"]
    assert isinstance(rgb, Tensor)
    assert isinstance(alpha, Tensor)
    return (rgb + (1 - alpha) * (1 - torch.as_tensor(background).to(rgb))).clamp(0, 1).cpu()
