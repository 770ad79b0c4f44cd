from __future__ import annotations

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers import full_images_datamanager

from gseg_ns.data.lenses import BrownLens, FisheyeLens, Lens, SampledLens
from gseg_ns.data.photographs import photograph_of

SIZE = (90, 120)
PHOTO, VIEW = (100.0, 98.0, 61.0, 44.0), (95.0, 93.0, 57.0, 41.0)
LENSES = [
    BrownLens(PHOTO, VIEW, (-0.25, 0.06, 0.0), (0.003, -0.002)),
    BrownLens(PHOTO, VIEW, (0.3, 0.0, 0.02), (-0.001, 0.004)),
    BrownLens(PHOTO, VIEW, (-0.15, 0.0, 0.0)),
    FisheyeLens(PHOTO, VIEW, (0.04, -0.01, 0.002, -0.0005)),
    FisheyeLens(PHOTO, VIEW, (-0.1, 0.02, 0.0, 0.0)),
]


def grid(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x.ravel(), y.ravel()], axis=1)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: type(lens).__name__)
def test_there_and_back_is_the_same_point(lens: Lens) -> None:
    points = grid()
    there = lens.undistort(points)
    assert np.isfinite(there).all()
    assert np.abs(lens.distort(there) - points).max() < 1e-6
    moved = lens.shifted(-7, 3)
    assert np.abs(moved.undistort(points) - there - (7, -3)).max() < 1e-9


def test_what_no_pinhole_camera_sees_is_nowhere() -> None:
    # Beyond the radius where the polynomial folds back there is no direction.
    folded = BrownLens(PHOTO, VIEW, (-0.35, 0.0, 0.0)).undistort(np.array([[400.0, 300.0], [62.0, 44.0]]))
    assert np.isnan(folded[0]).all()
    assert np.isfinite(folded[1]).all()
    behind = FisheyeLens(PHOTO, VIEW).undistort(np.array([[61.0 + 100 * 1.7, 44.0], [61.0, 44.0]]))
    assert np.isnan(behind[0]).all()
    assert np.allclose(behind[1], VIEW[2:])


@pytest.mark.parametrize(
    ("kind", "distortion"),
    [
        (CameraType.PERSPECTIVE, (-0.2, 0.05, 0.01, 0.0, 0.004, -0.003)),
        (CameraType.PERSPECTIVE, (0.25, 0.0, 0.0, 0.0, 0.0, 0.0)),
        (CameraType.FISHEYE, (0.05, -0.01, 0.003, -0.001, 0.0, 0.0)),
    ],
    ids=["brown", "pincushion", "fisheye"],
)
def test_views_are_those_of_nerfstudio(kind: CameraType, distortion: tuple[float, ...], tmp_path) -> None:
    """Against an image of coordinates that Nerfstudio has undistorted."""
    height, width = SIZE
    camera = Cameras(torch.eye(4)[:3], 100.0, 98.0, 61.0, 44.0, width, height, torch.tensor(distortion), kind).reshape(
        ()
    )
    coordinates = np.dstack([*np.mgrid[:height, :width][::-1], np.ones(SIZE)]).astype(np.float32)
    _, expected, _ = full_images_datamanager._undistort_image(
        camera, np.array(distortion, np.float32), {}, coordinates, camera.get_intrinsics_matrices().numpy()
    )
    photograph = photograph_of(tmp_path / "x.png", camera)
    assert photograph.view_size == expected.shape[:2]
    assert photograph.lens is not None
    found = photograph.lens.distort(grid(*expected.shape[:2])).reshape(*expected.shape[:2], 2) - 0.5
    inside = expected[..., 2] > 0.999
    assert inside.mean() > 0.9
    assert np.abs(found - expected[..., :2])[inside].max() < 0.05  # OpenCV rounds to 1/32 of a pixel
    sampled = SampledLens(np.where(inside[..., None], expected[..., :2] + 0.5, np.nan))
    points = grid()[::7]
    exact, near = photograph.lens.undistort(points), sampled.undistort(points)
    known = np.isfinite(near).all(axis=1)
    assert known.sum() > 1000
    assert np.abs(exact - near)[known].max() < 2
