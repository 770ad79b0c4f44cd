"""Where the demo scene is photographed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gseg_ns.demo.layout import Layout
from gseg_ns.demo.meshes import FloatArray

_ELEVATIONS = (20.0, 34.0, 50.0)
_FOCAL_PER_SIDE = 0.832  # 62 degrees across the longer side
_TEST_EVERY = 8
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
# Training views that should see a patch of the floor, where the room is too large to be seen whole from everywhere.
_WANTED_COVERAGE = 15.0


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras of one size.

    Attributes:
        camera_to_worlds: [C, 4, 4], OpenGL axes (x right, y up, looking along -z).
        width: pixels.
        height: pixels.
        focal: pixels, both axes; the principal point is the image's centre.
    """

    camera_to_worlds: FloatArray
    width: int
    height: int
    focal: float

    def is_test(self, index: int) -> bool:
        """Whether a view is held out: every 8th."""
        return index % _TEST_EVERY == _TEST_EVERY // 2


def look_at(position: FloatArray, target: FloatArray) -> FloatArray:
    """OpenGL camera-to-world matrix [4, 4] of an upright camera at `position` [3] looking at `target` [3]."""
    backward = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(backward, right), backward, position], axis=1)
    return pose


def make_cameras(layout: Layout, num_views: int, width: int, height: int) -> Cameras:
    """Views on rings at three heights, neighbours in number being neighbours on the way round.

    A small room is seen whole from every view. In a large one the rings are closer than the room is wide and their
    centres spread over the floor, so that every object is still seen large, and by about as many views as any other.
    """
    focal = _FOCAL_PER_SIDE * max(width, height)
    radius = layout.radius
    # The floor that a view at distance d sees is about 1.5 d^2 (62 degrees across, looking down).
    patch = float(np.sqrt(_WANTED_COVERAGE * np.pi * radius**2 / (1.5 * num_views)))
    nearest = 2.15
    distance = min(max(patch, nearest), max(1.75 * radius, nearest))
    spread = max(0.0, radius - 0.6 * distance)
    wall = layout.half_size - 0.15
    # Cameras that come in among the objects stay above the tallest.
    among = distance * np.cos(np.radians(_ELEVATIONS[0])) - spread < radius + 0.2
    lift = 14.0 if among else 0.0
    poses = []
    for index in range(num_views):
        ring = index % len(_ELEVATIONS)
        angle = 2 * np.pi * index / num_views + 0.45
        at, way = spread * np.sqrt((index + 0.5) / num_views), index * _GOLDEN_ANGLE
        target = np.array([at * np.cos(way), at * np.sin(way), 0.2])
        elevation = np.radians(_ELEVATIONS[ring] + lift)
        reach = distance * np.cos(elevation)
        offset = np.array([reach * np.cos(angle), reach * np.sin(angle), distance * np.sin(elevation)])
        position = target + offset
        position[:2] = np.clip(position[:2], -wall, wall)
        poses.append(look_at(position, target))
    return Cameras(np.stack(poses), width, height, focal)
