"""`rasterization` as gsplat 1.4.0 promises it, on the CPU."""

from __future__ import annotations

import inspect

import gsplat
import numpy as np
import pytest
import torch
from gsplat import DefaultStrategy

from gseg_ns.rendering import (
    api,
    composite,
    project,
    rasterization,
    rasterization_with_features,
    rasterize_to_pixels,
    reference,
    tiles_showing,
    visible,
)

# The keys that gsplat 1.4.0 puts into meta when packed is False.
META = {
    "camera_ids", "gaussian_ids", "radii", "means2d", "depths", "conics", "opacities", "tile_width", "tile_height",
    "tiles_per_gauss", "isect_ids", "flatten_ids", "isect_offsets", "width", "height", "tile_size", "n_cameras",
}  # fmt: skip


def render(scene, colors, **options):
    return rasterization(*scene[:4], colors, *scene[4:], packed=False, **options)


def expected(meta, colors, backgrounds=None):
    return reference.rasterize_to_pixels(
        meta["means2d"], meta["conics"], colors.expand(meta["n_cameras"], -1, -1), meta["opacities"], meta["depths"],
        meta["radii"], meta["width"], meta["height"], backgrounds,
    )  # fmt: skip


def test_signatures_are_gsplats():
    for mine, theirs in ((rasterization, gsplat.rasterization), (rasterize_to_pixels, gsplat.rasterize_to_pixels)):
        ours, wanted = inspect.signature(mine).parameters, inspect.signature(theirs).parameters
        # gsplat 1.5 has more, between and after these.
        assert list(ours) == [name for name in wanted if name in ours]
        assert {n: p.default for n, p in ours.items()} == {n: wanted[n].default for n in ours}


def test_meta_has_gsplats_keys_types_and_shapes(make_scene):
    scene = make_scene(cameras=2, width=50, height=35)
    count = len(scene.means)
    _, _, meta = render(scene, torch.rand(count, 3))
    assert set(meta) == META
    assert meta["camera_ids"] is None
    assert meta["gaussian_ids"] is None
    assert (meta["n_cameras"], meta["tile_width"], meta["tile_height"], meta["tile_size"]) == (2, 4, 3, 16)
    shapes = {"radii": (2, count), "means2d": (2, count, 2), "depths": (2, count), "conics": (2, count, 3)}
    if not gsplat.__version__.startswith("1.4."):
        shapes["radii"] = (2, count, 2)  # along each axis
    shapes |= {"opacities": (2, count), "tiles_per_gauss": (2, count), "isect_offsets": (2, 3, 4)}
    assert {n: tuple(meta[n].shape) for n in shapes} == shapes
    for name in ("radii", "tiles_per_gauss", "flatten_ids", "isect_offsets"):
        assert meta[name].dtype == torch.int32
    assert meta["isect_ids"].dtype == torch.int64
    assert int(meta["tiles_per_gauss"].sum()) == len(meta["flatten_ids"]) == len(meta["isect_ids"])


def test_lists_are_gsplats_less_the_tiles_that_show_nothing(make_scene):
    from gsplat.cuda import _torch_impl as gsplat_torch

    scene = make_scene(count=60, cameras=2, width=50, height=35)
    meta = project(*scene)
    _, ids, flat = gsplat_torch._isect_tiles(meta["means2d"], meta["radii"], meta["depths"], 16, 4, 3)
    theirs = set(zip((ids >> 32).tolist(), flat.tolist(), strict=True))
    ours = set(zip((meta["isect_ids"] >> 32).tolist(), meta["flatten_ids"].tolist(), strict=True))
    assert ours <= theirs
    assert (meta["isect_ids"].diff() >= 0).all()
    offsets = gsplat_torch._isect_offset_encode(meta["isect_ids"], 2, 4, 3)
    assert torch.equal(offsets, meta["isect_offsets"])
    # Compositing gsplat's longer lists gives the same image to the last bit.
    colors = torch.rand(2, 60, 3)
    args = (meta["means2d"], meta["conics"], colors, meta["opacities"], 50, 35, 16)
    order = torch.argsort(ids, stable=True)
    theirs_offsets = gsplat_torch._isect_offset_encode(ids[order], 2, 4, 3)
    longer = rasterize_to_pixels(*args, theirs_offsets, flat[order].int())
    shorter = rasterize_to_pixels(*args, meta["isect_offsets"], meta["flatten_ids"])
    assert torch.equal(longer[0], shorter[0])


@pytest.mark.parametrize("mode", ["RGB", "D", "ED", "RGB+D", "RGB+ED"])
@pytest.mark.parametrize("with_background", [False, True])
def test_render_modes(make_scene, mode, with_background):
    scene = make_scene(cameras=2)
    colors = torch.rand(len(scene.means), 3)
    background = None
    if with_background:
        background = torch.rand(2, 3) if "RGB" in mode else torch.rand(2, 1)
    image, alphas, meta = render(scene, colors, render_mode=mode, backgrounds=background)
    rgb, expected_alphas = expected(meta, colors, background if "RGB" in mode else None)
    depth, _ = expected(meta, meta["depths"][..., None])
    if "E" in mode:
        depth = depth / expected_alphas.clamp(min=1e-10)
    wanted = torch.cat(([rgb] if "RGB" in mode else []) + ([depth] if "D" in mode else []), dim=-1)
    torch.testing.assert_close(image, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alphas, expected_alphas, rtol=0, atol=2e-6)


def test_harmonics_and_plain_colors_of_every_shape(make_scene):
    scene = make_scene(cameras=2)
    count = len(scene.means)
    plain = torch.rand(count, 3)
    a = render(scene, plain)[0]
    assert torch.equal(a, render(scene, plain.expand(2, -1, -1))[0])
    coeffs = torch.zeros(count, 4, 3)
    coeffs[:, 0] = (plain - 0.5) / 0.2820947917738781
    torch.testing.assert_close(render(scene, coeffs, sh_degree=0)[0], a, rtol=0, atol=1e-5)
    b = render(scene, coeffs, sh_degree=1)[0]
    torch.testing.assert_close(b, a, rtol=0, atol=1e-5)
    assert torch.equal(b, render(scene, coeffs.expand(2, -1, -1, -1), sh_degree=1)[0])
    coeffs[:, 0] = -10.0
    assert (render(scene, coeffs, sh_degree=1)[0] == 0).all(), "negative colors are clamped to 0"


def test_antialiased_opacities_are_compensated(make_scene):
    scene = make_scene(size=0.01)
    colors = torch.rand(len(scene.means), 3)
    _, _, classic = render(scene, colors)
    image, _, meta = render(scene, colors, rasterize_mode="antialiased")
    seen = visible(meta)[0]
    assert (meta["opacities"][0, seen] < classic["opacities"][0, seen]).all()
    torch.testing.assert_close(image, expected(meta, colors)[0], rtol=0, atol=2e-6)


def test_whole_chain_gradcheck(make_scene):
    scene = make_scene(count=4, width=8, height=6, dtype=torch.float64, size=0.5)
    coeffs = torch.randn(4, 4, 3, dtype=torch.float64) * 0.2
    leaves = [scene.means, scene.quats, scene.scales, torch.linspace(0.3, 0.6, 4, dtype=torch.float64), coeffs]

    def image(means, quats, scales, opacities, colors):
        return rasterization(
            means, quats, scales, opacities, colors, *scene[4:], packed=False, sh_degree=1, render_mode="RGB+ED"
        )[:2]

    assert torch.autograd.gradcheck(image, [x.clone().requires_grad_() for x in leaves], eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_see(make_scene, count):
    scene = make_scene(count=max(count, 1))
    scene = scene._replace(means=scene.means - torch.tensor([0.0, 0.0, 9.0]))  # behind the camera
    scene = type(scene)(*(t[:count] for t in scene[:4]), *scene[4:])
    leaf = scene.means.clone().requires_grad_()
    background = torch.tensor([[0.1, 0.2, 0.3]])
    image, alphas, meta = render(scene._replace(means=leaf), torch.rand(count, 3), backgrounds=background)
    assert (alphas == 0).all()
    assert torch.equal(image, background.expand_as(image))
    assert len(meta["flatten_ids"]) == 0
    image.sum().backward()
    assert (leaf.grad == 0).all()


def test_one_gaussian_over_everything_and_degenerate_scales(make_scene):
    scene = make_scene(count=3, width=40, height=33)
    scales = torch.tensor([[50.0, 50.0, 50.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]], requires_grad=True)
    scene = scene._replace(scales=scales, means=torch.zeros(3, 3), opacities=torch.tensor([0.5, 0.5, 0.5]))
    colors = torch.rand(3, 3)
    image, alphas, meta = render(scene, colors)
    torch.testing.assert_close(image, expected(meta, colors)[0], rtol=0, atol=2e-5)
    assert alphas.min() > 0.45
    image.sum().backward()
    assert torch.isfinite(scales.grad).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities"])
def test_one_bad_gaussian_leaves_the_others_alone(make_scene, field, bad):
    scene = make_scene(count=40)
    colors = torch.rand(40, 3)
    broken = getattr(scene, field).clone()
    broken[7] = bad
    image, _, _ = render(scene._replace(**{field: broken}), colors)
    without = torch.arange(40) != 7
    clean, _, _ = render(scene._replace(**{f: getattr(scene, f)[without] for f in scene._fields[:4]}), colors[without])
    assert torch.equal(image, clean)


def test_default_strategy_grows_and_prunes(make_scene):
    scene = make_scene(count=60, size=0.05)
    params = torch.nn.ParameterDict(
        {
            "means": scene.means,
            "scales": scene.scales.log(),
            "quats": scene.quats,
            "opacities": torch.logit(scene.opacities.clamp(0.004, 0.9)),
            "colors": torch.rand(60, 3),
        }
    )
    optimizers = {name: torch.optim.Adam([value], lr=1e-3) for name, value in params.items()}
    strategy = DefaultStrategy(refine_start_iter=0, refine_every=4, grow_grad2d=1e-6, absgrad=True)
    strategy.check_sanity(params, optimizers)
    state = strategy.initialize_state(scene_scale=1.0)
    target = torch.rand(1, scene.height, scene.width, 3)
    losses = []
    for step in range(1, 10):
        image, _, info = rasterization(
            params["means"], params["quats"], params["scales"].exp(), torch.sigmoid(params["opacities"]),
            params["colors"], *scene[4:], packed=False, absgrad=True,
        )  # fmt: skip
        strategy.step_pre_backward(params, optimizers, state, step, info)
        loss = (image - target).abs().mean()
        loss.backward()
        assert info["means2d"].grad.shape == info["means2d"].absgrad.shape
        assert (info["means2d"].absgrad >= info["means2d"].grad.abs() - 1e-6).all()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        strategy.step_post_backward(params, optimizers, state, step, info, packed=False)
        losses.append(loss.item())
    assert len(params["means"]) > 60
    assert losses[3] < losses[0]


def test_a_detached_second_pass_leaves_absgrad_alone(make_scene):
    scene = make_scene()
    means = scene.means.clone().requires_grad_()
    image, _, info = render(scene._replace(means=means), torch.rand(80, 3), absgrad=True)
    info["means2d"].retain_grad()
    features = torch.rand(1, 80, 16, requires_grad=True)
    second, _ = rasterize_to_pixels(
        info["means2d"].detach(), info["conics"].detach(), features, info["opacities"].detach(), scene.width,
        scene.height, 16, info["isect_offsets"], info["flatten_ids"],
    )  # fmt: skip
    image.sum().backward(retain_graph=True)
    before = info["means2d"].absgrad.clone()
    second.sum().backward()
    assert torch.equal(before, info["means2d"].absgrad)
    assert features.grad.abs().sum() > 0


def test_unsupported_options_say_what_to_do(make_scene):
    scene = make_scene(count=5)
    with pytest.raises(ValueError, match="packed=False"):
        rasterization(*scene[:4], torch.rand(5, 3), *scene[4:])
    with pytest.raises(ValueError, match="render_mode"):
        render(scene, torch.rand(5, 3), render_mode="depth")
    with pytest.raises(ValueError, match="colors has shape"):
        render(scene, torch.rand(4, 3))
    with pytest.raises(ValueError, match="K >= 9"):
        render(scene, torch.rand(5, 4, 3), sh_degree=2)
    with pytest.raises(ValueError, match="quats has shape"):
        render(scene._replace(quats=torch.rand(5, 3)), torch.rand(5, 3))


@pytest.mark.parametrize("render_mode", ["RGB", "RGB+ED"])
def test_features_ride_along_with_the_colors(make_scene, render_mode):
    scene = make_scene(count=80, width=50, height=35)
    coefficients, features, background = torch.rand(80, 4, 3), torch.rand(80, 5), torch.rand(1, 3)
    weight, feature_weight = torch.randn(1, 35, 50, 3 + (render_mode != "RGB")), torch.randn(1, 35, 50, 5)
    results = []
    for together in (True, False):
        leaves = [value.clone().requires_grad_() for value in (*scene[:4], coefficients, features)]
        names = ("means", "quats", "scales", "opacities", "colors")
        options = dict(zip(names, leaves, strict=False)) | {"sh_degree": 1, "packed": False, "render_mode": render_mode}
        options |= {"viewmats": scene[4], "Ks": scene[5], "width": 50, "height": 35, "backgrounds": background}
        if together:
            image, alphas, meta = rasterization_with_features(leaves[5], **options)
            composited = meta["features"]
        else:
            image, alphas, meta = rasterization(**options)
            composited, _ = rasterize_to_pixels(
                meta["means2d"], meta["conics"], leaves[5][None], meta["opacities"], 50, 35, 16,
                meta["isect_offsets"], meta["flatten_ids"],
            )  # fmt: skip
        ((image * weight).sum() + (composited * feature_weight).sum()).backward()
        results.append((image, alphas, composited, *(leaf.grad for leaf in leaves)))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_features_of_another_number_of_gaussians_are_refused(make_scene):
    scene = make_scene(count=6, width=16, height=16)
    names = ("means", "quats", "scales", "opacities", "viewmats", "Ks", "width", "height")
    options = dict(zip(names, scene, strict=True))
    with pytest.raises(ValueError, match=r"features has shape \(5, 2\); it must be \[6, F\]"):
        rasterization_with_features(torch.rand(5, 2), colors=torch.rand(6, 3), packed=False, **options)


def test_tiles_that_show_something_composited_alone_are_those_of_the_whole(make_scene):
    scene = make_scene(count=200, width=75, height=61, size=0.05)
    meta = project(*scene)
    rows = torch.arange(200) % 50 == 7
    tiles = tiles_showing(meta, rows)
    whole = composite(meta, rows.float()[:, None])
    some = composite(meta, rows.float()[:, None], tiles)
    assert 0 < int(tiles.sum()) < tiles.numel()
    assert torch.equal(some, whole)
    assert not tiles_showing(meta, torch.zeros(200, dtype=torch.bool)).any()
    assert torch.equal(tiles_showing(meta, torch.ones(200, dtype=torch.bool)), counts_of(meta) > 0)


def test_values_without_gradients_are_composited_as_those_with(make_scene):
    meta = project(*make_scene(count=200, width=75, height=61, size=0.05))
    values = torch.rand(200, 5)
    tiles = torch.arange(meta["isect_offsets"].numel()).view(meta["isect_offsets"].shape) % 2 == 0
    for shown in (None, tiles):
        plain = composite(meta, values, shown)
        assert torch.equal(plain, composite(meta, values.clone().requires_grad_(), shown).detach())
        assert torch.equal(plain, composite(meta, values, shown))  # over what was packed before
    with pytest.raises(ValueError, match=r"values are \(199, 5\), not \[200, D\]"):
        composite(meta, values[:199])
    with pytest.raises(ValueError, match="tiles must be"):
        composite(meta, values, tiles[:, :1])


def test_centres_of_cameras_are_numpys_without_gradients_and_torchs_with(make_scene, monkeypatch):
    viewmats, inverses, inverse = make_scene(cameras=3).viewmats, [], np.linalg.inv
    monkeypatch.setattr(np.linalg, "inv", lambda matrices: inverses.append(1) or inverse(matrices))
    expected = torch.inverse(viewmats)[:, :3, 3]
    torch.testing.assert_close(api._centres(viewmats), expected)
    assert len(inverses) == 1
    found = api._centres(viewmats.clone().requires_grad_())
    assert found.requires_grad
    assert torch.equal(found, expected)
    assert len(inverses) == 1


@pytest.mark.parametrize("gradients", [False, True])
def test_a_view_without_an_inverse_is_torchs_error(make_scene, gradients):
    scene = make_scene(cameras=2)
    viewmats = scene.viewmats.clone()
    viewmats[1, 2] = 0
    coefficients = torch.zeros(len(scene.means), 4, 3)
    with pytest.raises(torch.linalg.LinAlgError, match="Batch element 1"):
        render(scene._replace(viewmats=viewmats.requires_grad_(gradients)), coefficients, sh_degree=1)


def counts_of(meta):
    """Gaussians of each tile."""
    begins = meta["isect_offsets"].flatten().tolist()
    ends = [*begins[1:], len(meta["flatten_ids"])]
    return torch.tensor([end - begin for begin, end in zip(begins, ends, strict=True)]).view(
        meta["isect_offsets"].shape
    )


def test_what_was_projected_stays_when_its_opacities_change(make_scene):
    scene = make_scene()
    meta = render(scene, torch.ones(80, 3))[2]
    before = composite(meta, torch.ones(80, 1))
    scene.opacities.mul_(0.1)
    assert torch.equal(composite(meta, torch.ones(80, 1)), before)
