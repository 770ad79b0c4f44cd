"""A short way around a thing that was clicked, both ways from the view it was clicked on: what a tracker follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.rendering import Camera
from gseg_ns.splats.container import Splats
from gseg_ns.views.drawing import draw_view
from gseg_ns.views.places import look_along
from gseg_ns.views.solids import body_of, voxelize
from gseg_ns.views.upright import find_frame

Floats = NDArray[np.float64]

_CHECKED = 64
"""Width in pixels at which it is looked whether something stands before the thing."""
_FILLS = 0.45
"""Part of a picture's shorter side that the thing shall fill."""
_BEHIND = 0.35
"""Middle of a thing behind what is seen of it, in its radii."""
_BLOCKED = 0.35
"""Part of the thing's outline that may be hidden by what stands before it."""
_LOW, _HIGH = 8.0, 65.0
"""Degrees above the horizon between which cameras look down on the thing."""
_LEAST_PIXELS = 8
_EDGE_PIXELS = 2
"""Pixels at one edge of a picture, from which on a thing reaches out of it there."""
_UP_VOXELS = 60
"""Voxels along a side, for which way is up: it need not be exact."""


class Thing(NamedTuple):
    """Where a thing is, about."""

    centre: Floats  # [3]
    radius: float


@dataclass(frozen=True)
class Orbit:
    """Cameras around a thing, in two short ways that begin beside the view it was clicked on."""

    ways: tuple[list[Camera], list[Camera]]
    """To one side and to the other, from near to far; without the view that was clicked on."""
    centre: tuple[float, float, float]
    radius: float
    """About, of what is seen of the thing."""


def up_of(splats: Splats, camera: Camera) -> Floats:
    """Which way is up [3] for one who looks at a splat: by the splat where it tells, else by the camera."""
    points = voxelize(body_of(splats), 0.05, _UP_VOXELS)
    own = -camera.viewmat[1, :3].double().cpu().numpy()
    solid = points.points(np.argwhere(points.solid))
    if len(solid) < 4:
        return own
    frame = find_frame(solid, points.voxel)
    return np.asarray(frame.up, dtype=np.float64) if frame.is_certain else own


def orbit(
    splats: Splats,
    camera: Camera,
    mask: Tensor,
    up: Floats,
    count: int = 24,
    span: float = 180.0,
    thing: Thing | None = None,
) -> Orbit:
    """Cameras on a way around what a mask shows of a view, to either side of it.

    Each looks at the middle of the thing from as far as it fills a good part of the picture; where something stands
    before it, from nearer or from higher up, and where that does not help there is none.

    Args:
        splats: on any device.
        camera: the view that was clicked on.
        mask: [H, W] bool of that view, the thing.
        up: [3], see `up_of`.
        count: of cameras, both ways together.
        span: degrees that each way goes.
        thing: where it is; found out by the mask unless given.

    Raises:
        GsegError: the mask shows nothing of the splat.
    """
    centre, radius = thing or thing_of(splats, camera, mask)
    eye = torch.linalg.inv(camera.viewmat.double().cpu())[:3, 3].numpy()
    up = up / np.linalg.norm(up)
    # Right of the camera, forward and up: z of the frame in which the way is a circle.
    turn = _upright(up, centre - eye)
    away = turn @ (eye - centre)
    length = float(np.linalg.norm(away))
    rise = math.degrees(math.asin(float(np.clip(away[2] / length, -1, 1))))
    start = math.atan2(away[1], away[0])
    shorter = min(camera.width / float(camera.K[0, 0]), camera.height / float(camera.K[1, 1])) / 2
    far = radius / (_FILLS * shorter)
    ways: tuple[list[Camera], list[Camera]] = ([], [])
    steps = max(count // 2, 1)
    for sign, way in zip((1, -1), ways, strict=True):
        for step in range(1, steps + 1):
            part = step / steps
            # Gently, for a tracker: to the best distance and height within the first third of the way.
            gently = min(1.0, 3 * part)
            distance = length + gently * (far - length)
            target = float(np.clip(rise, 20, 45))
            height = rise + gently * (target - rise)
            angle = start + sign * math.radians(span) * part
            found = _clear(splats, camera, turn, centre, radius, angle, height, distance)
            if found is not None:
                way.append(found)
    return Orbit(ways, (float(centre[0]), float(centre[1]), float(centre[2])), radius)


def thing_of(splats: Splats, camera: Camera, mask: Tensor) -> Thing:
    """What a mask [H, W] of a view shows.

    Raises:
        GsegError: nothing.
    """
    drawn = draw_view(splats, camera)
    rows, columns = torch.nonzero(mask.cpu() & (drawn.alpha > 0.5) & (drawn.depth > 0), as_tuple=True)
    if len(rows) < _LEAST_PIXELS:
        raise GsegError("The mask of the click shows nothing of the splat. Click elsewhere.")
    depth = drawn.depth[rows, columns].double()
    rays = torch.stack([columns + 0.5, rows + 0.5, torch.ones(len(rows))], dim=1).double()
    pose = torch.linalg.inv(camera.viewmat.double().cpu())
    local = rays @ torch.linalg.inv(camera.K.double().cpu()).T * depth[:, None]
    points = (local @ pose[:3, :3].T + pose[:3, 3]).numpy()
    middle = np.median(points, axis=0)
    # Not the farthest: a mask's border lies on what is behind.
    radius = float(np.percentile(np.linalg.norm(points - middle, axis=1), 85))
    eye = pose[:3, 3].numpy()
    forward = (middle - eye) / max(float(np.linalg.norm(middle - eye)), 1e-12)
    return Thing(middle + _BEHIND * radius * forward, radius)


def is_cut_off(masks: Sequence[Tensor]) -> bool:
    """Whether a thing reaches out of most of the pictures that show it, by their masks [H, W] bool."""
    there = [mask for mask in masks if bool(mask.any())]
    return sum(_at_edge(mask) for mask in there) > len(there) / 2


def _at_edge(mask: Tensor) -> bool:
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return any(int(edge.sum()) >= _EDGE_PIXELS for edge in edges)


def _upright(up: Floats, forward: Floats) -> Floats:
    """Rotation [3, 3] into coordinates whose z is `up`."""
    across = np.cross(forward, up)
    if np.linalg.norm(across) < 1e-6 * np.linalg.norm(forward):
        across = np.cross([1.0, 0, 0] if abs(up[0]) < 0.9 else [0.0, 1, 0], up)
    across = across / np.linalg.norm(across)
    return np.stack([across, np.cross(up, across), up])


def _clear(
    splats: Splats,
    like: Camera,
    turn: Floats,
    centre: Floats,
    radius: float,
    angle: float,
    height: float,
    distance: float,
) -> Camera | None:
    """A camera at an angle around a thing that sees it: as far and as high as asked for, else nearer, else higher."""
    for higher, nearer in ((0, 1.0), (0, 0.7), (20, 1.0), (20, 0.7), (35, 0.85), (0, 0.5)):
        low = math.radians(float(np.clip(height + higher, min(height, _LOW), max(height, _HIGH))))
        length = max(nearer * distance, 1.3 * radius)
        way = np.array([math.cos(low) * math.cos(angle), math.cos(low) * math.sin(angle), math.sin(low)])
        view = np.eye(4)
        view[:3, :3] = look_along(-way) @ turn
        view[:3, 3] = -view[:3, :3] @ (centre + length * (turn.T @ way))
        # In the middle of the picture, whatever the photograph's own middle was.
        K = like.K.clone().cpu()
        K[0, 2], K[1, 2] = like.width / 2, like.height / 2
        camera = Camera(torch.tensor(view, dtype=torch.float32), K, like.width, like.height)
        if _hidden(splats, camera, radius, length) < _BLOCKED:
            return camera
    return None


def _hidden(splats: Splats, camera: Camera, radius: float, length: float) -> float:
    """Part of a thing's outline that something stands before."""
    small = camera.resized(_CHECKED, max(1, round(_CHECKED * camera.height / camera.width)))
    drawn = draw_view(splats, small)
    rows, columns = torch.meshgrid(torch.arange(small.height) + 0.5, torch.arange(small.width) + 0.5, indexing="ij")
    off = torch.hypot((columns - small.K[0, 2]) / small.K[0, 0], (rows - small.K[1, 2]) / small.K[1, 1])
    inside = off < max(radius / length, 1.5 / float(small.K[0, 0]))
    before = (drawn.depth < length - 1.6 * radius) & (drawn.alpha > 0.3)
    return float(before[inside].float().mean())
