from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gseg_ns.proxies.depth import DILATION, opaque_depth
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats

FAR = 100.0
SIZE = 21
MIDDLE = SIZE // 2


def camera(size: int = SIZE, focal: float = 40.0) -> Camera:
    """At the origin, looking along z."""
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(torch.eye(4), K, size, size)


def gaussians(means: list[list[float]], scales: list[list[float]], opacities: list[float]) -> Splats:
    count = len(means)
    return Splats(
        means=torch.tensor(means),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        scales=torch.tensor(scales).log(),
        opacities=torch.logit(torch.tensor(opacities)),
        sh=torch.zeros(count, 1, 3),
    )


@pytest.mark.parametrize("opacity", [0.6, 0.9, 0.99])
def test_a_gaussian_begins_where_it_is_half_transparent(opacity: float) -> None:
    depth = opaque_depth(gaussians([[0, 0, 5.0]], [[1.0, 1.0, 0.3]], [opacity]), camera(), FAR)
    assert depth[MIDDLE, MIDDLE] == pytest.approx(5 - 0.3 * math.sqrt(2 * math.log(2 * opacity)), abs=1e-3)


def test_what_is_too_faint_has_no_surface_and_two_of_it_have_one() -> None:
    one = gaussians([[0, 0, 5.0]], [[1.0, 1.0, 1e-4]], [0.4])
    two = gaussians([[0, 0, 5.0], [0, 0, 6.0]], [[1.0, 1.0, 1e-4]] * 2, [0.4, 0.4])
    assert (opaque_depth(one, camera(), FAR) == FAR).all()
    # 1 - 0.6 * 0.6 is more than a half, behind the second one.
    assert opaque_depth(two, camera(), FAR)[MIDDLE, MIDDLE] == pytest.approx(6, abs=1e-2)


def test_a_tilted_plane_is_where_each_ray_meets_it() -> None:
    """One flat Gaussian across the picture: its centre's depth would be wrong nearly everywhere."""
    angle = math.radians(60)
    plane = gaussians([[0, 0, 5.0]], [[5.0, 5.0, 1e-4]], [0.99])
    plane.quats[0] = torch.tensor([math.cos(angle / 2), 0, math.sin(angle / 2), 0])
    depth = opaque_depth(plane, camera(), FAR)
    x = (np.arange(SIZE) + 0.5 - SIZE / 2) / 40
    normal = np.array([math.sin(angle), 0, math.cos(angle)])
    np.testing.assert_allclose(depth[MIDDLE], 5 * normal[2] / (normal[0] * x + normal[2]), rtol=1e-3)


def test_gaussians_are_as_wide_as_pictures_drew_them_and_no_thicker() -> None:
    splats = gaussians([[0, 0, 5.0]], [[0.05, 0.05, 0.05]], [0.99])
    wide = camera(101, 800)
    plain, drawn = opaque_depth(splats, wide, FAR), opaque_depth(splats, wide, FAR, pixel=0.2)
    radius = math.sqrt(2 * math.log(2 * 0.99))
    for depth, spread in ((plain, 0.05), (drawn, math.sqrt(0.05**2 + DILATION * 0.2**2))):
        covered = (depth[50] < FAR).sum() / 800 * 5 / 2
        assert covered == pytest.approx(radius * spread, rel=0.06)
    assert drawn[50, 50] == pytest.approx(plain[50, 50], abs=2e-3)
    # Drawn antialiased, they became fainter by as much as they became wider.
    from dataclasses import replace

    fainter = opaque_depth(replace(splats, rasterize_mode="antialiased"), wide, FAR, pixel=0.2)
    assert (fainter == FAR).all()


def test_what_is_around_or_behind_the_camera() -> None:
    behind = gaussians([[0, 0, -5.0]], [[1.0, 1.0, 1.0]], [0.99])
    assert (opaque_depth(behind, camera(), FAR) == FAR).all()
    # A sheet that the camera's own plane cuts is seen ahead of it.
    floor = gaussians([[0, 1.0, 0]], [[30.0, 1e-3, 30.0]], [0.99])
    depth = opaque_depth(floor, camera(), FAR)
    assert depth[-1, MIDDLE] == pytest.approx(40 / (SIZE - 0.5 - SIZE / 2), rel=0.02)
    assert depth[0, MIDDLE] == FAR
