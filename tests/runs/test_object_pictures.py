from __future__ import annotations

import math

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from gseg_ns.data.cameras import look_at, to_camera
from gseg_ns.runs.object_pictures import best_views, bounding_sphere, camera_towards, turntable, upwards
from gseg_ns.splats import Splats

UP = torch.tensor([0.2, -1.0, 0.3])


def ball(centre: tuple[float, float, float], radius: float = 0.5, count: int = 400) -> Splats:
    g = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1) * radius + torch.tensor(centre)
    return Splats(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        scales=torch.full((count, 3), -4.0),
        opacities=torch.full((count,), 3.0),
        sh=torch.zeros(count, 1, 3),
    )


def pixels(camera: Cameras, points: Tensor) -> Tensor:
    """Where points are in the picture, and how far: [n, 3]."""
    view = to_camera(camera)
    local = points @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    return torch.cat([(local @ view.K.T)[:, :2] / local[:, 2:], local[:, 2:]], dim=1)


def test_the_sphere_holds_the_object_and_not_its_strays() -> None:
    splats = ball((3.0, 1.0, -2.0))
    splats.means[:4] = 100.0
    centre, radius = bounding_sphere(splats)
    torch.testing.assert_close(centre, torch.tensor([3.0, 1.0, -2.0]), atol=0.05, rtol=0)
    assert 0.5 < radius < 0.62


@pytest.mark.parametrize("up", [UP, torch.tensor([0.0, 0.0, 1.0])])
def test_a_camera_looks_at_its_target(up: Tensor) -> None:
    eye, target = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, 0.5, 0.0])
    camera = look_at(eye, target, up, math.radians(60), 200, 100)
    above = target + 0.1 * up
    x, y, depth = pixels(camera, torch.stack([target, above])).unbind(1)
    assert (float(x[0]), float(y[0])) == pytest.approx((100.0, 50.0), abs=1e-3)
    assert float(depth[0]) == pytest.approx(float((eye - target).norm()), rel=1e-5)
    assert float(x[1]) == pytest.approx(100.0, abs=1e-2)
    assert y[1] < 50
    # straight down on it, there is still a picture
    down = look_at(target + up, target, up, math.radians(60), 64, 64)
    assert pixels(down, target[None])[0, :2].tolist() == pytest.approx([32.0, 32.0], abs=1e-3)


def test_a_turntable_keeps_all_of_the_object_in_view() -> None:
    splats = ball((3.0, 1.0, -2.0))
    cameras = list(turntable(splats, UP, 12, 128))
    assert len(cameras) == 12
    eyes = torch.stack([camera.camera_to_worlds[0, :, 3] for camera in cameras])
    for camera in cameras:
        seen = pixels(camera, splats.means)
        assert bool(((seen[:, :2] > 0) & (seen[:, :2] < 128)).all())
        extent = seen[:, :2].amax(0) - seen[:, :2].amin(0)
        assert float(extent.min()) > 128 * 0.75, "the object fills the picture"
    centre = bounding_sphere(splats)[0]
    unit = torch.nn.functional.normalize(UP, dim=0)
    heights = (eyes - centre) @ unit
    assert torch.allclose(heights, heights[:1], atol=1e-4)
    assert heights[0] > 0
    level = (eyes - centre) - heights[:, None] * unit
    steps = torch.cosine_similarity(level, level.roll(1, 0))
    torch.testing.assert_close(steps, torch.full((12,), math.cos(math.tau / 12)), atol=1e-4, rtol=0)


def test_the_best_view_shows_most() -> None:
    """One camera sees ball 1 before ball 2, the other the other way round; ball 3 is behind both."""
    parts = [ball((0.0, 0.0, 0.0)), ball((2.0, 0.0, 0.0)), ball((0.0, 0.0, 50.0))]
    splats, groups = Splats.cat(parts), torch.tensor([1, 2, 3]).repeat_interleave(400)
    up = torch.tensor([0.0, 0.0, 1.0])
    cameras = [
        look_at(torch.tensor([x, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]), up, 1.0, 640, 480) for x in (-3.0, 5.0)
    ]
    assert best_views(splats, groups, cameras) == {1: 0, 2: 1}


def test_a_picture_is_taken_from_where_the_photograph_was() -> None:
    splats = ball((0.0, 0.0, 0.0))
    up = torch.tensor([0.0, 0.0, 1.0])
    photograph = look_at(torch.tensor([4.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]), up, 1.0, 640, 480)
    camera = camera_towards(splats, photograph, up, 100)
    assert torch.equal(camera.camera_to_worlds[0, :, 3], photograph.camera_to_worlds[0, :, 3])
    seen = pixels(camera, splats.means)[:, :2]
    assert bool(((seen > 0) & (seen < 100)).all())
    assert float((seen.amax(0) - seen.amin(0)).min()) > 80
    # too near to have all of it in one picture: as the photograph
    near = look_at(torch.tensor([0.3, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]), up, 1.0, 640, 480)
    camera = camera_towards(splats, near, up, 100)
    assert torch.equal(camera.camera_to_worlds, near.camera_to_worlds)
    assert float(camera.fx) == pytest.approx(float(near.fx) * 100 / 640)


def test_up_is_what_is_up_on_the_photographs() -> None:
    poses = torch.cat([camera.camera_to_worlds for camera in turntable(ball((0.0, 0.0, 0.0)), UP, 8, 64)])
    torch.testing.assert_close(upwards(poses), torch.nn.functional.normalize(UP, dim=0), atol=1e-4, rtol=0)
