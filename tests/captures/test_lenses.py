from __future__ import annotations

import cv2
import numpy as np
import pytest

from gseg_ns.captures.capture import Lens
from gseg_ns.captures.lenses import colmap_lens
from gseg_ns.errors import GsegError

GRID = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 11), np.linspace(-0.38, 0.38, 9)), axis=-1).reshape(-1, 2)
"""Points of the plane z = 1 within the picture."""


MATRIX = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])


def project(lens: Lens) -> np.ndarray:
    """Where OpenCV, which undistorts, has the points: [N, 2] pixels."""
    k1, k2, k3, k4, p1, p2 = lens.distortion
    solid = np.concatenate([GRID, np.ones((len(GRID), 1))], axis=1)
    if lens.kind == "fisheye":
        k = np.array([k1, k2, k3, k4])
        return cv2.fisheye.projectPoints(solid[None], np.zeros(3), np.zeros(3), lens.matrix, k)[0][0]
    return cv2.projectPoints(solid, np.zeros(3), np.zeros(3), lens.matrix, np.array([k1, k2, p1, p2, k3]))[0][:, 0]


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        ("SIMPLE_PINHOLE", (60, 32, 24), ("perspective", 60, (0, 0, 0, 0, 0, 0))),
        ("SIMPLE_RADIAL", (60, 32, 24, 0.1), ("perspective", 60, (0.1, 0, 0, 0, 0, 0))),
        ("RADIAL", (60, 32, 24, 0.1, 0.2), ("perspective", 60, (0.1, 0.2, 0, 0, 0, 0))),
        ("OPENCV", (60, 50, 32, 24, 0.1, 0.2, 0.3, 0.4), ("perspective", 50, (0.1, 0.2, 0, 0, 0.3, 0.4))),
        ("OPENCV_FISHEYE", (60, 50, 32, 24, 0.1, 0.2, 0.3, 0.4), ("fisheye", 50, (0.1, 0.2, 0.3, 0.4, 0, 0))),
        ("SIMPLE_RADIAL_FISHEYE", (60, 32, 24, 0.1), ("fisheye", 60, (0.1, 0, 0, 0, 0, 0))),
        (
            "FULL_OPENCV",
            (60, 50, 32, 24, 0.1, 0.2, 0.3, 0.4, 0.5, 0, 0, 0),
            ("perspective", 50, (0.1, 0.2, 0.5, 0, 0.3, 0.4)),
        ),
    ],
)
def test_parameters_come_to_where_nerfstudio_has_them(model: str, params: tuple, expected: tuple) -> None:
    lens = colmap_lens(model, 64, 48, params, "camera 1")
    assert (lens.kind, lens.fy, lens.distortion) == expected
    assert (lens.fx, lens.cx, lens.cy) == (60, 32, 24)


def test_a_rational_lens_is_described_by_the_nearest_polynomial() -> None:
    k = (-0.2, 0.05, 0.001, -0.002, 0.01, 0.1, 0.02, 0.003)
    lens = colmap_lens("FULL_OPENCV", 640, 480, (600, 600, 320, 240, *k), "camera 1")
    solid = np.concatenate([GRID, np.ones((len(GRID), 1))], axis=1)
    wanted = cv2.projectPoints(solid, np.zeros(3), np.zeros(3), MATRIX, np.array(k))[0][:, 0]
    assert np.linalg.norm(project(lens) - wanted, axis=1).max() < 0.25


def test_a_field_of_view_lens_is_described_by_the_nearest() -> None:
    lens = colmap_lens("FOV", 640, 480, (600, 600, 320, 240, 0.9), "camera 1")
    radius = np.linalg.norm(GRID, axis=1, keepdims=True).clip(1e-9)
    wanted = GRID * np.arctan(2 * radius * np.tan(0.45)) / (0.9 * radius) * 600 + [320, 240]
    assert np.linalg.norm(project(lens) - wanted, axis=1).max() < 0.25


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ("RAD_TAN_THIN_PRISM_FISHEYE", (1.0,) * 16, "is of the camera model RAD_TAN"),
        ("SOMETHING_NEW", (1.0,), "SOMETHING_NEW, which is not supported"),
        ("PINHOLE", (60, 60, 32), "has 3 parameters, and PINHOLE has 4"),
        ("PINHOLE", (60, float("nan"), 32, 24), "not finite"),
        ("THIN_PRISM_FISHEYE", (60, 60, 32, 24, 0, 0, 0.3, 0.3, 0, 0, 0.5, 0), "THIN_PRISM_FISHEYE, and the nearest"),
    ],
)
def test_what_is_no_lens_of_ours_is_refused(model: str, params: tuple, message: str) -> None:
    with pytest.raises(GsegError, match=message):
        colmap_lens(model, 64, 48, params, "camera 1")
