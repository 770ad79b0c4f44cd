"""Cameras: convention and checks."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.rendering import Camera, project

K = torch.tensor([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]])


def test_an_opengl_pose_looks_along_minus_z():
    c2w = torch.eye(4)[:3]
    c2w[:, 3] = torch.tensor([1.0, 2.0, 3.0])
    camera = Camera.from_c2w(c2w, K, 40, 30)
    points = torch.tensor([[1.0, 2.0, 1.0], [1.2, 2.0, 1.0], [1.0, 2.2, 1.0]])  # ahead, to the right, above
    one = torch.ones(3)
    meta = project(
        points, torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1), torch.full((3, 3), 0.01), one, camera.viewmat[None],
        camera.K[None], camera.width, camera.height,
    )  # fmt: skip
    torch.testing.assert_close(meta["means2d"][0], torch.tensor([[20.0, 15.0], [25.0, 15.0], [20.0, 10.0]]))
    torch.testing.assert_close(meta["depths"][0], torch.full((3,), 2.0))


def test_four_by_four_and_three_by_four_agree():
    pose = torch.eye(4)
    pose[:3, 3] = 1.5
    assert torch.equal(Camera.from_c2w(pose, K, 4, 3).viewmat, Camera.from_c2w(pose[:3], K, 4, 3).viewmat)


def test_scaled_changes_the_resolution_only():
    half = Camera(torch.eye(4), K, 41, 31).scaled(0.5)
    assert (half.width, half.height) == (20, 15)
    torch.testing.assert_close(half.K[:2], K[:2] * 0.5)
    assert half.K[2, 2] == 1
    assert Camera(torch.eye(4), K, 3, 3).scaled(0.1).width == 1
    assert torch.equal(half.to("cpu").K, half.K)


def test_wrong_cameras_are_named():
    with pytest.raises(ValueError, match="4 x 4 and 3 x 3"):
        Camera(torch.eye(3), K, 4, 4)
    with pytest.raises(ValueError, match="nothing to render"):
        Camera(torch.eye(4), K, 0, 4)
    with pytest.raises(ValueError, match="3 x 4 or 4 x 4"):
        Camera.from_c2w(torch.eye(3), K, 4, 4)
    with pytest.raises(GsegError, match="no inverse"):
        Camera.from_c2w(torch.zeros(3, 4), K, 4, 4)
