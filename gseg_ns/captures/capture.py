"""A capture: photographs, where they were taken from and through which lens."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

TO_NERFSTUDIO = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From COLMAP's world, where gravity is guessed as +y, to Nerfstudio's, where up is +z."""

CameraKind = Literal["perspective", "fisheye", "fisheye624"]


@dataclass(frozen=True)
class Lens:
    """What maps directions to pixels; the middle of the first pixel is at (0.5, 0.5)."""

    kind: CameraKind
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0,) * 6
    """k1, k2, k3, k4, p1, p2 of OpenCV's models; the 12 of Aria's for fisheye624."""

    @property
    def matrix(self) -> np.ndarray:
        """Intrinsics [3, 3] float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def resized(self, width: int, height: int) -> Lens:
        """The lens of the same photograph with another number of pixels."""
        x, y = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * x, fy=self.fy * y, cx=self.cx * x, cy=self.cy * y)


@dataclass(frozen=True)
class Frame:
    """One photograph."""

    name: str
    """As the capture's file has it."""
    path: Path
    """Where it is, or should be."""
    pose: np.ndarray
    """Camera to world [4, 4] float64; the camera looks along -z, y is up (OpenGL)."""
    lens: Lens
    mask: Path | None = None
    """Photometric mask: what of the photograph is trained on."""


@dataclass(frozen=True)
class Capture:
    """All photographs of a scene, in the order that decides what is held out."""

    source: Path
    """The file or folder that says all this."""
    frames: list[Frame]
    from_original: np.ndarray
    """From the coordinates that the poses were found in to those of `Frame.pose`: a similarity [4, 4] float64."""
    splits: dict[str, list[int]]
    """train, val, test -> frames, as far as the scene says."""
    orientation: str | None = None
    """How the scene wants to be oriented (`orientation_override`)."""
    crop_radius: float | None = None
    """Radius of what a fisheye624 lens shows, in pixels (`fisheye_crop_radius`)."""


def scale_of(similarity: np.ndarray) -> float:
    """The scale of a similarity [4, 4]."""
    return float(abs(np.linalg.det(similarity[:3, :3])) ** (1 / 3))


def turned(lens: Lens, pose: np.ndarray, quarters: int) -> tuple[Lens, np.ndarray]:
    """The camera of a photograph turned clockwise by a number of quarters, so that the view stays the same.

    Args:
        lens: of the photograph before.
        pose: camera to world [4, 4], OpenGL.
        quarters: how often it is turned by 90 degrees.

    Returns:
        lens and pose of the turned photograph.
    """
    for _ in range(quarters % 4):
        # A point at (u, v) comes to (height - v, u).
        k1, k2, k3, k4, p1, p2 = lens.distortion
        # Tangential distortion is a vector (p2, p1) and turns as the image does.
        lens = Lens(
            lens.kind,
            width=lens.height,
            height=lens.width,
            fx=lens.fy,
            fy=lens.fx,
            cx=lens.height - lens.cy,
            cy=lens.cx,
            distortion=(k1, k2, k3, k4, p2, -p1),
        )
        # What was up is right now.
        pose = pose @ np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return lens, pose


def is_rotation(matrix: np.ndarray, tolerance: float = 1e-2) -> bool:
    """Whether [3, 3] is a rotation, up to what rounding in a text file does."""
    return bool(
        np.allclose(matrix @ matrix.T, np.eye(3), atol=tolerance)
        and math.isclose(np.linalg.det(matrix), 1, abs_tol=3 * tolerance)
    )
