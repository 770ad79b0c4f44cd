from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from gseg_ns.splats import Splats
from gseg_ns.splats.transform import (
    rotate_sh,
    rotation_to_quaternion,
    sh_basis,
    to_original_frame,
    transform,
)


def make(count: int = 40, degree: int = 3) -> Splats:
    g = torch.Generator().manual_seed(degree)
    return Splats(
        means=torch.randn(count, 3, generator=g) * 3,
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g) - 2,
        opacities=torch.randn(count, generator=g),
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=g),
        extra={"label": torch.arange(count)},
    )


def rotation(seed: int) -> Tensor:
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix()).float()


def covariances(splats: Splats) -> Tensor:
    from gsplat.cuda._torch_impl import _quat_scale_to_covar_preci

    return _quat_scale_to_covar_preci(splats.quats, splats.scales.exp(), compute_preci=False)[0]


def colors(splats: Splats, camera: Tensor) -> Tensor:
    from gsplat.cuda._torch_impl import _spherical_harmonics

    return _spherical_harmonics(splats.sh_degree, splats.means - camera, splats.sh)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_basis_is_that_of_gsplat(degree: int) -> None:
    from gsplat.cuda._torch_impl import _eval_sh_bases_fast

    g = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(100, 3, generator=g, dtype=torch.float64), dim=-1)
    expected = _eval_sh_bases_fast((degree + 1) ** 2, directions)
    torch.testing.assert_close(sh_basis(degree, directions), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_moving_splats_and_camera_together_changes_no_color(degree: int, seed: int) -> None:
    splats, r = make(degree=degree), rotation(seed)
    t, s = torch.tensor([1.0, -2.0, 0.5]), 1.7
    camera = torch.tensor([0.3, 4.0, -1.0])
    moved = transform(splats, r, t, s)
    torch.testing.assert_close(colors(moved, s * r @ camera + t), colors(splats, camera), atol=1e-5, rtol=0)


def test_covariances_turn_and_scale() -> None:
    splats, r = make(), rotation(5)
    moved = transform(splats, r, torch.zeros(3), 2.5)
    expected = 2.5**2 * r @ covariances(splats) @ r.T
    torch.testing.assert_close(covariances(moved), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moved.means, 2.5 * splats.means @ r.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_there_and_back(seed: int) -> None:
    splats, r = make(), rotation(seed)
    t, s = torch.tensor([10.0, -3.0, 2.0]), 0.4
    back = transform(transform(splats, r, t, s), r.T, -r.T @ t / s, 1 / s)
    for name in ("means", "scales", "opacities", "sh", "quats"):
        torch.testing.assert_close(getattr(back, name), getattr(splats, name), atol=1e-5, rtol=1e-5)
    assert torch.equal(back.extra["label"], splats.extra["label"])


def test_half_turns() -> None:
    splats = make()
    for diagonal in ((1.0, -1, -1), (-1, 1.0, -1), (-1, -1, 1.0)):
        r = torch.diag(torch.tensor(diagonal))
        moved = transform(splats, r, torch.zeros(3))
        torch.testing.assert_close(covariances(moved), r @ covariances(splats) @ r.T, atol=1e-5, rtol=1e-4)
        back = transform(moved, r, torch.zeros(3))
        torch.testing.assert_close(covariances(back), covariances(splats), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(back.sh, splats.sh, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_quaternion_equals_scipy(seed: int) -> None:
    r = Rotation.random(random_state=seed)
    x, y, z, w = r.as_quat(canonical=True)
    expected = torch.tensor([w, x, y, z], dtype=torch.float64)
    torch.testing.assert_close(rotation_to_quaternion(torch.from_numpy(r.as_matrix())), expected)


def test_sh_rotations_compose() -> None:
    sh, a, b = make().sh, rotation(1), rotation(2)
    torch.testing.assert_close(rotate_sh(rotate_sh(sh, a), b), rotate_sh(sh, b @ a), atol=1e-5, rtol=0)


def test_original_frame_undoes_a_data_parser() -> None:
    splats, r = make(), rotation(9)
    matrix = torch.cat([r, torch.tensor([[1.0], [2.0], [-0.5]])], dim=1)
    run = transform(splats, r, 0.25 * matrix[:, 3], 0.25)
    # Nerfstudio's order: rotate, translate, then scale the whole.
    torch.testing.assert_close(run.means, 0.25 * (splats.means @ r.T + matrix[:, 3]), atol=1e-5, rtol=1e-5)
    back = to_original_frame(run, matrix, 0.25)
    for name in ("means", "scales", "sh", "quats"):
        torch.testing.assert_close(getattr(back, name), getattr(splats, name), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("matrix", "scale"),
    [
        (torch.diag(torch.tensor([1.0, 1.0, -1.0])), 1.0),
        (2 * torch.eye(3), 1.0),
        (torch.full((3, 3), math.nan), 1.0),
        (torch.eye(3), 0.0),
        (torch.eye(3), -1.0),
        (torch.eye(3), math.inf),
    ],
)
def test_what_is_no_similarity(matrix: Tensor, scale: float) -> None:
    with pytest.raises(ValueError, match=r"rotation|scale"):
        transform(make(4), matrix, torch.zeros(3), scale)
