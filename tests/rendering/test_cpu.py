"""Compositing kernels against the dense torch reference: images, all gradients, edge cases."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.rendering import project, rasterize_to_pixels, reference
from thread_counts import same_by_any_number_of_threads

LISTS = ("isect_offsets", "flatten_ids")


def both(meta, colors, backgrounds=None, absgrad=False):
    """Inputs that require gradients, our result and the reference's."""
    leaves = [meta[k].clone().requires_grad_() for k in ("means2d", "conics")]
    leaves += [colors.clone().requires_grad_(), meta["opacities"].clone().requires_grad_()]
    means2d, conics, values, opacities = leaves
    size = (meta["width"], meta["height"])
    ours = rasterize_to_pixels(
        means2d, conics, values, opacities, *size, meta["tile_size"], *(meta[k] for k in LISTS), backgrounds,
        absgrad=absgrad,
    )  # fmt: skip
    theirs = reference.rasterize_to_pixels(
        means2d, conics, values, opacities, meta["depths"], meta["radii"], *size, backgrounds, meta["tile_size"]
    )
    return leaves, ours, theirs


def gradients(outputs, leaves, seed=0):
    g = torch.Generator().manual_seed(seed)
    loss = sum((o * torch.randn(o.shape, generator=g, dtype=o.dtype)).sum() for o in outputs)
    return torch.autograd.grad(loss, leaves, retain_graph=True)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 16, 32])
def test_any_number_of_channels_matches_the_reference(make_scene, channels):
    scene = make_scene(dtype=torch.float64, cameras=2)
    meta = project(*scene)
    colors = torch.rand(2, len(scene.means), channels, dtype=torch.float64)
    leaves, ours, theirs = both(meta, colors, torch.rand(2, channels, dtype=torch.float64))
    for mine, expected in zip((*ours, *gradients(ours, leaves)), (*theirs, *gradients(theirs, leaves)), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (75, 5), (64, 48)])
@pytest.mark.parametrize("tile_size", [16, 5, 24])
def test_any_image_and_tile_size_in_float32(make_scene, size, tile_size):
    scene = make_scene(width=size[0], height=size[1])
    meta = project(*scene, tile_size=tile_size)
    leaves, ours, theirs = both(meta, torch.rand(1, len(scene.means), 3, generator=torch.Generator().manual_seed(0)))
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=2e-6)
    for mine, expected in zip(gradients(ours, leaves), gradients(theirs, leaves), strict=True):
        assert (mine - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1.0)


def test_gradcheck_in_float64(make_scene):
    scene = make_scene(count=6, width=9, height=7, dtype=torch.float64, size=0.4)
    # Opacities well inside (1/255, 0.999) and few Gaussians: no pixel sits at a threshold of the rules.
    scene = scene._replace(opacities=torch.linspace(0.3, 0.7, 6, dtype=torch.float64))
    meta = project(*scene)
    inputs = [meta["means2d"], meta["conics"], torch.rand(1, 6, 3, dtype=torch.float64), meta["opacities"]]

    def render(means2d, conics, colors, opacities):
        return rasterize_to_pixels(means2d, conics, colors, opacities, 9, 7, 16, *(meta[k] for k in LISTS))

    assert torch.autograd.gradcheck(render, [x.clone().requires_grad_() for x in inputs], eps=1e-6, atol=1e-5)


def test_absgrad_is_the_sum_of_absolute_pixel_gradients(make_scene):
    scene = make_scene(count=30, width=18, height=9, dtype=torch.float64)
    meta = project(*scene)
    colors = torch.rand(1, 30, 3, dtype=torch.float64)
    leaves, (image, _), (expected_image, _) = both(meta, colors, absgrad=True)
    weight = torch.randn_like(image)
    (image * weight).sum().backward(retain_graph=True)
    total = torch.zeros_like(leaves[0])
    for y in range(scene.height):
        for x in range(scene.width):
            pixel = (expected_image[0, y, x] * weight[0, y, x]).sum()
            total += torch.autograd.grad(pixel, leaves[0], retain_graph=True)[0].abs()
    torch.testing.assert_close(leaves[0].absgrad, total, rtol=1e-9, atol=1e-10)


def test_background_gradient_and_tile_masks(make_scene):
    scene = make_scene()
    meta = project(*scene)
    backgrounds = torch.rand(1, 3, requires_grad=True)
    masks = torch.ones_like(meta["isect_offsets"], dtype=torch.bool)
    masks[0, 0, 1] = False
    colors = torch.rand(1, len(scene.means), 3)
    image, alphas = rasterize_to_pixels(
        meta["means2d"], meta["conics"], colors, meta["opacities"], scene.width, scene.height, 16,
        *(meta[k] for k in LISTS), backgrounds, masks,
    )  # fmt: skip
    image.sum().backward()
    torch.testing.assert_close(backgrounds.grad[0], (1 - alphas).sum().expand(3))
    assert (alphas[0, :16, 16:32] == 0).all()
    assert torch.equal(image[0, :16, 16:32], backgrounds.detach().expand(16, 16, 3))


def test_opaque_gaussians_end_a_pixel_and_hidden_ones_get_no_gradient():
    means2d = torch.full((1, 10, 2), 8.0)
    conics = torch.tensor([0.01, 0.0, 0.01]).repeat(1, 10, 1)
    opacities = torch.full((1, 10), 1.0, requires_grad=True)
    colors = torch.rand(1, 10, 3, requires_grad=True)
    offsets, ids = torch.zeros(1, 1, 1, dtype=torch.int32), torch.arange(10, dtype=torch.int32)
    image, alphas = rasterize_to_pixels(means2d, conics, colors, opacities, 16, 16, 16, offsets, ids)
    assert alphas.max() <= 1 - 1e-4
    image[0, 8, 8].sum().backward()
    # At the centre alpha is near 0.9975: the second Gaussian would bring T below 1e-4, so only the first is seen.
    assert (colors.grad[0, 0] > 0.9).all()
    assert (colors.grad[0, 1:] == 0).all()


def test_list_order_decides_and_lists_need_not_be_tight():
    means2d, conics = torch.full((1, 2, 2), 20.0), torch.tensor([0.5, 0.1, 0.4]).repeat(1, 2, 1)
    colors, opacities = torch.tensor([[[1.0], [0.0]]]), torch.full((1, 2), 0.8)
    offsets = torch.arange(4, dtype=torch.int32).reshape(1, 2, 2) * 2
    front, _ = rasterize_to_pixels(
        means2d, conics, colors, opacities, 32, 32, 16, offsets, torch.tensor([0, 1] * 4, dtype=torch.int32)
    )
    back, _ = rasterize_to_pixels(
        means2d, conics, colors, opacities, 32, 32, 16, offsets, torch.tensor([1, 0] * 4, dtype=torch.int32)
    )
    assert front[0, 20, 20, 0] > 0.6 > 0.3 > back[0, 20, 20, 0]
    assert front[0, 0, 0, 0] == 0


def test_conics_that_are_no_ellipse_do_not_crash():
    conics = torch.tensor([[[0.5, 0.9, 0.5], [-1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [torch.nan, 0.0, 1.0]]])
    means2d, colors, opacities = torch.full((1, 4, 2), 8.0), torch.ones(1, 4, 3), torch.full((1, 4), 0.5)
    offsets, ids = torch.zeros(1, 1, 1, dtype=torch.int32), torch.arange(4, dtype=torch.int32)
    image, alphas = rasterize_to_pixels(means2d, conics, colors, opacities, 16, 16, 16, offsets, ids)
    expected = reference.rasterize_to_pixels(
        means2d[:, :3], conics[:, :3], colors[:, :3], opacities[:, :3], torch.arange(3.0)[None],
        torch.ones(1, 3, dtype=torch.int32) * 99, 16, 16,
    )  # fmt: skip
    torch.testing.assert_close(image, expected[0])
    torch.testing.assert_close(alphas, expected[1])


def test_wrong_shapes_are_named(make_scene):
    scene = make_scene(count=4)
    meta = project(*scene)
    with pytest.raises(ValueError, match="conics has shape"):
        rasterize_to_pixels(
            meta["means2d"], meta["conics"][:, :2], torch.rand(1, 4, 3), meta["opacities"], scene.width, scene.height,
            16, *(meta[k] for k in LISTS),
        )  # fmt: skip
    with pytest.raises(ValueError, match="packed"):
        rasterize_to_pixels(
            meta["means2d"], meta["conics"], torch.rand(1, 4, 3), meta["opacities"], scene.width, scene.height, 16,
            *(meta[k] for k in LISTS), packed=True,
        )  # fmt: skip


def test_positions_that_are_no_numbers_draw_nothing_and_do_not_crash():
    means2d = torch.tensor([[[torch.nan, 8.0], [8.0, torch.nan], [torch.inf, 8.0], [8.0, -torch.inf], [8.0, 8.0]]])
    conics = torch.tensor([0.05, 0.01, 0.04]).repeat(1, 5, 1)
    colors, opacities = torch.ones(1, 5, 3), torch.full((1, 5), 0.5)
    offsets, ids = torch.zeros(1, 1, 1, dtype=torch.int32), torch.arange(5, dtype=torch.int32)
    inputs = [value.clone().requires_grad_() for value in (means2d, conics, colors, opacities)]
    image, alphas = rasterize_to_pixels(*inputs, 16, 16, 16, offsets, ids)
    alone, _ = rasterize_to_pixels(
        means2d[:, 4:], conics[:, 4:], colors[:, 4:], opacities[:, 4:], 16, 16, 16, offsets, ids[:1]
    )
    assert torch.equal(image, alone)
    (image.sum() + alphas.sum()).backward()
    assert bool(torch.isfinite(inputs[2].grad).all())


# Of the larger number each of five threads sums pairs.
@pytest.mark.parametrize(("count", "size"), [(300, 0.12), (21_000, 0.02)])
def test_any_number_of_threads_gives_the_same_bits(make_scene, count, size):
    scene = make_scene(count=count, width=75, height=61, size=size)
    meta = project(*scene)
    colors = torch.rand(1, count, 3, generator=torch.Generator().manual_seed(1))

    def find():
        leaves = [meta[k].clone().requires_grad_() for k in ("means2d", "conics")]
        leaves += [colors.clone().requires_grad_(), meta["opacities"].clone().requires_grad_()]
        outputs = rasterize_to_pixels(*leaves, scene.width, scene.height, 16, *(meta[k] for k in LISTS), absgrad=True)
        return [*outputs, *gradients(outputs, leaves)]

    same_by_any_number_of_threads(find, (1, 2, 3, 5))
