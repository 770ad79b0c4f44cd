"""Projection and spherical harmonics against gsplat's torch reference and finite differences."""

from __future__ import annotations

import gsplat
import pytest
import torch
from gsplat.cuda import _torch_impl as gsplat_torch

from gseg_ns.rendering.projection import Coefficients, project_gaussians, sh_colors
from thread_counts import same_by_any_number_of_threads

LIMITS = {"eps2d": 0.3, "near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0}


def ours(scene, means, quats, scales, viewmats, **changes):
    options = {**LIMITS, "calc_compensations": True, "camera_model": "pinhole", "covars": None, **changes}
    return project_gaussians(
        means, quats, scales, viewmats=viewmats, Ks=scene.Ks, width=scene.width, height=scene.height, **options
    )


ONE_RADIUS = gsplat.__version__.startswith("1.4.")
"""gsplat 1.5 has a radius along each axis, of 3.33 standard deviations and not 3."""


def shown(radii):
    return radii > 0 if radii.dim() == 2 else (radii > 0).all(dim=-1)


def theirs(scene, means, quats, scales, viewmats, camera_model="pinhole"):
    covars, _ = gsplat_torch._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    return gsplat_torch._fully_fused_projection(
        means, covars, viewmats, scene.Ks, scene.width, scene.height, 0.3, 0.01, 1e10, True, camera_model
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_match_gsplat(make_scene, dtype):
    scene = make_scene(count=300, cameras=3, dtype=dtype)
    names = ("means", "quats", "scales", "viewmats")
    mine = [getattr(scene, n).clone().requires_grad_() for n in names]
    other = [getattr(scene, n).clone().requires_grad_() for n in names]
    a, b = ours(scene, *mine), theirs(scene, *other)
    assert ONE_RADIUS is False or torch.equal(a[0], b[0])
    seen = (a[0] > 0) & shown(b[0])
    assert 0 < seen.sum() < seen.numel(), "the scene should have culled and visible Gaussians"
    exact = dtype == torch.float64
    for x, y in zip(a[1:], b[1:], strict=True):
        torch.testing.assert_close(x[seen], y[seen], rtol=1e-9 if exact else 1e-4, atol=1e-9 if exact else 1e-4)
        assert (x[a[0] <= 0] == 0).all()
    g = torch.Generator().manual_seed(0)
    weights = [torch.randn(x[seen].shape, generator=g, dtype=dtype) for x in a[1:]]
    for outputs in (a, b):
        sum((x[seen] * w).sum() for x, w in zip(outputs[1:], weights, strict=True)).backward()
    for x, y in zip(mine, other, strict=True):
        # 1e-6: gsplat's compensation gradient adds 1e-6 to a denominator, as ours does and autograd does not.
        assert (x.grad - y.grad).abs().max() <= (1e-6 if exact else 2e-5) * y.grad.abs().max()


def test_what_is_projected_together_is_what_is_projected_apart(make_scene):
    """Kernels take blocks of Gaussians of one camera; 2100 are several, and the last is not full."""
    scene = make_scene(count=2100, cameras=2, size=0.03)
    scene = scene._replace(means=1.6 * scene.means)
    weights = [torch.randn(2, 2100, *more, generator=torch.Generator().manual_seed(1)) for more in ((2,), (), (3,), ())]

    def asked(rows):
        leaves = [getattr(scene, name)[rows].clone().requires_grad_() for name in ("means", "quats", "scales")]
        found = ours(scene, *leaves, scene.viewmats)
        sum((x * w[:, rows]).sum() for x, w in zip(found[1:], weights, strict=True)).backward()
        return [x.detach() for x in found], [leaf.grad for leaf in leaves]

    whole, gradients = asked(slice(None))
    assert 1000 < int((whole[0] > 0).sum()) < 3900
    for start in range(0, 2100, 100):
        rows = slice(start, start + 100)
        part, slopes = asked(rows)
        assert all(torch.equal(a[:, rows], b) for a, b in zip(whole, part, strict=True))
        assert all(torch.equal(a[rows], b) for a, b in zip(gradients, slopes, strict=True))


def test_gradcheck(make_scene):
    scene = make_scene(count=5, dtype=torch.float64, size=0.2)
    leaves = [getattr(scene, n).clone().requires_grad_() for n in ("means", "quats", "scales", "viewmats")]
    assert torch.autograd.gradcheck(
        lambda *args: ours(scene, *args, calc_compensations=False)[1:4], leaves, eps=1e-6, atol=1e-5
    )


def test_field_of_view_clamp_has_the_right_gradient(make_scene):
    scene = make_scene(count=2, dtype=torch.float64)
    means = torch.tensor([[4.0, 0.2, 0.0], [-3.0, 3.5, 0.5]], dtype=torch.float64, requires_grad=True)
    scales = torch.full((2, 3), 2.0, dtype=torch.float64)
    args = (scene.quats, scales, scene.viewmats)
    assert (ours(scene, means, *args)[0] > 0).all()
    assert torch.autograd.gradcheck(
        lambda m: ours(scene, m, *args, calc_compensations=False)[3], [means], eps=1e-6, atol=1e-6
    )


def test_culling_rules(make_scene):
    scene = make_scene(count=6)
    means = torch.tensor(
        [[0, 0, 0], [0, 0, -3.5], [0, 0, -3.0], [0, 0, 50], [90, 0, 0], [0, -90, 0]], dtype=torch.float32
    )
    scales = torch.full((6, 3), 0.05)
    args = (means, scene.quats, scales, scene.viewmats)
    assert (ours(scene, *args)[0][0] > 0).tolist() == [True, False, False, True, False, False]
    assert (ours(scene, *args, far_plane=10.0)[0][0] > 0).tolist() == [True] + [False] * 5
    radius = int(ours(scene, *args)[0][0, 0])
    assert (ours(scene, *args, radius_clip=float(radius))[0] == 0).all()


@pytest.mark.parametrize("name", ["means", "quats", "scales", "viewmats"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_input_is_left_out(make_scene, name, bad):
    scene = make_scene(count=20, size=0.2)
    leaves = {n: getattr(scene, n).clone() for n in ("means", "quats", "scales", "viewmats")}
    clean = ours(scene, *leaves.values())
    leaves[name][0] = bad
    for leaf in leaves.values():
        leaf.requires_grad_()
    result = ours(scene, *leaves.values())
    assert (result[0][0, 0] if name != "viewmats" else result[0]).sum() == 0
    sum(x.sum() for x in result[1:]).backward()
    assert all(torch.isfinite(x).all() for x in result[1:])
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves.values())
    if name != "viewmats":
        assert torch.equal(result[1][0, 1:], clean[1][0, 1:])


@pytest.mark.parametrize("camera_model", ["ortho", "fisheye"])
def test_other_cameras_and_covariances_go_through_the_reference(make_scene, camera_model):
    scene = make_scene(count=40)
    args = (scene.means, scene.quats, scene.scales, scene.viewmats)
    a, b = ours(scene, *args, camera_model=camera_model), theirs(scene, *args, camera_model)
    seen = a[0] > 0
    assert torch.equal(seen, shown(b[0]))
    torch.testing.assert_close(a[1][seen], b[1][seen])
    covars, _ = gsplat_torch._quat_scale_to_covar_preci(scene.quats, scene.scales, compute_preci=False)
    c = project_gaussians(
        scene.means, None, None, covars, scene.viewmats, scene.Ks, scene.width, scene.height, 0.3, 0.01, 1e10, 0.0,
        True, "pinhole",
    )  # fmt: skip
    d = ours(scene, *args)
    torch.testing.assert_close(c[3], d[3], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("degree", range(5))
def test_harmonics_match_gsplat(degree):
    g = torch.Generator().manual_seed(degree)
    dirs = torch.randn(2, 30, 3, generator=g, dtype=torch.float64, requires_grad=True)
    coeffs = torch.randn(30, 25, 3, generator=g, dtype=torch.float64, requires_grad=True)
    colors = sh_colors(degree, dirs, coeffs, torch.ones(2, 30, dtype=torch.int32))
    expected = gsplat_torch._spherical_harmonics(degree, dirs, coeffs.expand(2, -1, -1, -1))
    expected = torch.clamp_min(expected + 0.5, 0.0) + 0.0 * dirs.sum()
    weight = torch.randn(colors.shape, generator=g, dtype=torch.float64)
    torch.testing.assert_close(colors, expected, rtol=1e-10, atol=1e-10)
    mine = torch.autograd.grad((colors * weight).sum(), (dirs, coeffs))
    other = torch.autograd.grad((expected * weight).sum(), (dirs, coeffs))
    for x, y in zip(mine, other, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


def test_harmonics_of_each_camera_and_of_culled_gaussians():
    dirs, coeffs = torch.randn(2, 5, 3), torch.randn(2, 5, 4, 3, requires_grad=True)
    radii = torch.ones(2, 5, dtype=torch.int32)
    radii[1, 2] = 0
    colors = sh_colors(1, dirs, coeffs, radii)
    colors.sum().backward()
    assert (colors[1, 2] == 0).all()
    assert (coeffs.grad[1, 2] == 0).all()
    single = sh_colors(1, dirs[:1], coeffs[0], radii[:1])
    torch.testing.assert_close(colors[:1], single)


@pytest.mark.parametrize("degree", range(5))
def test_harmonics_in_two_tensors_are_the_same_to_the_last_bit_by_any_number_of_threads(degree):
    """More Gaussians than go in a block, of two cameras; a third of them culled."""
    g = torch.Generator().manual_seed(0)
    dirs, weight = torch.randn(2, 3001, 3, generator=g), torch.randn(2, 3001, 3, generator=g)
    coeffs = torch.randn(3001, (degree + 1) ** 2 + 1, 3, generator=g)
    radii = (torch.rand(2, 3001, generator=g) > 0.3).int()

    def find(split):
        leaves = [leaf.clone().requires_grad_() for leaf in (dirs, coeffs[:, :1], coeffs[:, 1:])]
        given = Coefficients(*leaves[1:]) if split else torch.cat(leaves[1:], dim=1)
        colors = sh_colors(degree, leaves[0], given, radii)
        return [colors.detach(), *torch.autograd.grad((colors * weight).sum(), leaves)]

    found = [same_by_any_number_of_threads(lambda split=split: find(split), (1, 3)) for split in (False, True)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    colors, v_dirs, v_first, v_rest = found[0]
    assert (colors[radii == 0] == 0).all()
    assert (v_dirs[radii == 0] == 0).all()
    assert (v_first[(radii == 0).all(dim=0)] == 0).all()
    assert (v_rest[:, (degree + 1) ** 2 - 1 :] == 0).all()
    alone = sh_colors(degree, dirs[1:], coeffs, radii[1:])
    torch.testing.assert_close(colors[1:], alone)


def test_errors_name_the_option(make_scene):
    scene = make_scene(count=3)
    with pytest.raises(ValueError, match="camera_model"):
        ours(scene, scene.means, scene.quats, scene.scales, scene.viewmats, camera_model="panorama")
    with pytest.raises(ValueError, match="sh_degree"):
        sh_colors(5, torch.rand(1, 3, 3), torch.rand(3, 36, 3), torch.ones(1, 3, dtype=torch.int32))
