"""The same calls on CUDA tensors agree with the CPU kernels."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.rendering import (
    RegionVotes,
    dominant_labels,
    pixel_weights,
    project,
    rasterization,
    rasterization_with_features,
    rasterize_to_pixels,
    sparse_vote,
    top_contributors,
    vote,
)

pytestmark = pytest.mark.cuda


@pytest.fixture
def scene(make_scene):
    return make_scene(count=300, width=75, height=53)


def to_cuda(scene):
    return type(scene)(*(x.cuda() if isinstance(x, torch.Tensor) else x for x in scene))


def test_images_and_gradients(scene):
    colors = torch.rand(300, 16, 3) * 0.3
    weight = torch.randn(1, 53, 75, 4)
    results = []
    for s, device in ((scene, "cpu"), (to_cuda(scene), "cuda")):
        leaves = [x.clone().requires_grad_() for x in (*s[:4], colors.to(device))]
        image, alphas, meta = rasterization(
            *leaves, *s[4:], packed=False, sh_degree=3, render_mode="RGB+ED", absgrad=True
        )
        meta["means2d"].retain_grad()
        ((image * weight.to(device)).sum() + alphas.sum()).backward()
        results.append((image, alphas, meta["means2d"].absgrad, *(x.grad for x in leaves)))
    for a, b in zip(*results, strict=True):
        assert (a - b.cpu()).abs().max() <= 2e-3 * a.abs().max()


def test_features_over_the_same_lists(scene):
    features = torch.rand(1, 300, 40)
    images = []
    for s, f in ((scene, features), (to_cuda(scene), features.cuda())):
        m = project(*s)
        images.append(
            rasterize_to_pixels(
                m["means2d"], m["conics"], f, m["opacities"], 75, 53, 16, m["isect_offsets"], m["flatten_ids"]
            )[0].cpu()
        )
    torch.testing.assert_close(*images, rtol=1e-3, atol=1e-3)


def test_features_in_one_pass_with_the_colors(scene):
    values = {"features": torch.rand(300, 5), "colors": torch.rand(300, 16, 3) * 0.3}
    background = torch.tensor([[0.2, 0.5, 0.9]])
    weights = {"image": torch.randn(1, 53, 75, 4), "features": torch.randn(1, 53, 75, 5)}
    results = []
    for s, device in ((scene, "cpu"), (to_cuda(scene), "cuda")):
        leaves = {name: getattr(s, name).clone() for name in ("means", "quats", "scales", "opacities")}
        leaves |= {name: value.clone().to(device) for name, value in values.items()}
        for leaf in leaves.values():
            leaf.requires_grad_()
        image, alphas, meta = rasterization_with_features(
            **leaves, viewmats=s.viewmats, Ks=s.Ks, width=s.width, height=s.height, packed=False, sh_degree=3,
            backgrounds=background.to(device), render_mode="RGB+ED", absgrad=True,
        )  # fmt: skip
        meta["means2d"].retain_grad()
        shown = {"image": image, "features": meta["features"]}
        sum((shown[name] * weight.to(device)).sum() for name, weight in weights.items()).backward()
        results.append((*shown.values(), alphas, meta["means2d"].absgrad, *(x.grad for x in leaves.values())))
    assert results[0][0].shape == (1, 53, 75, 4)
    for a, b in zip(*results, strict=True):
        assert (a - b.cpu()).abs().max() <= 2e-3 * a.abs().max()


def test_contributions(scene):
    cpu, cuda = project(*scene), project(*to_cuda(scene))
    labels = torch.arange(53 * 75).reshape(53, 75) // 90 - 1
    # A weight at the 1/255 threshold may fall to either side.
    torch.testing.assert_close(vote(cuda, labels.cuda(), 40).cpu(), vote(cpu, labels, 40), rtol=1e-3, atol=2e-2)
    sparse = [part.cpu() for part in sparse_vote(cuda, labels.cuda())]
    table = torch.zeros(cuda["radii"].shape[1], 44).index_put_((sparse[0].long(), sparse[1].long()), sparse[2])
    torch.testing.assert_close(table, vote(cpu, labels, 44), rtol=1e-3, atol=2e-2)
    regions, names, depths = labels + 1, torch.arange(45) // 2, cpu["depths"][0]
    asked, there = RegionVotes(cpu, regions, depths), RegionVotes(cuda, regions.cuda(), depths.cuda())
    torch.testing.assert_close(there.image.cpu(), asked.image, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(there.alpha.cpu(), asked.alpha, rtol=1e-3, atol=1e-3)
    tables = [
        torch.zeros(len(depths), 23).index_put_((found[0].long().cpu(), found[1].long().cpu()), found[2].cpu())
        for found in (asked.named(names), there.named(names))
    ]
    torch.testing.assert_close(*tables, rtol=1e-3, atol=2e-2)
    ids = torch.arange(cuda["radii"].shape[1]) % 50
    found, expected = dominant_labels(cuda, ids.cuda()), dominant_labels(cpu, ids)
    torch.testing.assert_close(found[1].cpu(), expected[1], rtol=1e-3, atol=1e-3)
    assert (found[0].cpu() == expected[0]).float().mean() > 0.99
    pixels = torch.randperm(53 * 75)[:500]
    a, b = pixel_weights(cpu, pixels), pixel_weights(cuda, pixels.cuda())
    torch.testing.assert_close(b.alpha.cpu(), a.alpha, rtol=1e-3, atol=1e-2)
    features = torch.rand(300, 8)
    on_cuda = features.cuda().requires_grad_()
    product = b @ on_cuda
    torch.testing.assert_close(product.cpu(), a @ features, rtol=1e-3, atol=1e-2)
    product.sum().backward()
    on_cpu = features.clone().requires_grad_()
    (a @ on_cpu).sum().backward()
    torch.testing.assert_close(on_cuda.grad.cpu(), on_cpu.grad, rtol=1e-3, atol=2e-2)
    ids, best = top_contributors(cuda)
    expected_ids, expected = top_contributors(cpu)
    torch.testing.assert_close(best.cpu(), expected, rtol=1e-3, atol=1e-2)
    assert (ids.cpu() == expected_ids).float().mean() > 0.98


def test_a_view_whose_labels_are_all_outside_says_nothing(scene):
    meta = project(*to_cuda(scene))
    outside = torch.full((53, 75), -1, device="cuda")
    assert not vote(meta, outside, 5).any()
    assert not vote(meta, outside + 9, 5).any()
    rows, labels, sums = sparse_vote(meta, outside)
    expected = sparse_vote(project(*scene), outside.cpu())
    assert len(rows) == len(labels) == len(sums) == 0
    assert [part.dtype for part in (rows, labels, sums)] == [part.dtype for part in expected]


@pytest.mark.parametrize("together", [False, True])
def test_absgrad_of_more_channels_than_a_chunk(scene, together):
    features = torch.rand(300, 40)
    results = []
    for s, device in ((scene, "cpu"), (to_cuda(scene), "cuda")):
        options = {
            "means": s.means.clone().requires_grad_(), "quats": s.quats, "scales": s.scales, "opacities": s.opacities,
            "viewmats": s.viewmats, "Ks": s.Ks, "width": 75, "height": 53, "packed": False, "absgrad": True,
        }  # fmt: skip
        values = features.to(device)
        if together:
            image, _, meta = rasterization_with_features(values, colors=torch.ones(300, 3, device=device), **options)
            shown = meta["features"]
        else:
            image, _, meta = rasterization(colors=values, render_mode="RGB+D", **options)
            shown = image[..., :-1]
        (image.sum() + shown.square().sum()).backward()
        results.append(meta["means2d"].absgrad.cpu())
    assert (results[0] - results[1]).abs().max() <= 2e-3 * results[0].abs().max()


def test_a_gaussian_without_an_opacity_is_left_out(scene):
    s = to_cuda(scene)
    broken, without = s.opacities.clone(), s.opacities.clone()
    broken[[3, 50]] = torch.tensor([torch.nan, torch.inf], device="cuda")
    without[[3, 50]] = 0.0
    images = []
    for opacities in (broken, without):
        leaf = opacities.requires_grad_()
        image, _, _ = rasterization(
            s.means, s.quats, s.scales, leaf, torch.rand_like(s.means.detach()) * 0 + 0.5, s.viewmats, s.Ks, 75, 53,
            packed=False,
        )  # fmt: skip
        image.sum().backward()
        images.append(image.detach())
        assert leaf.grad.isfinite().all()
    torch.testing.assert_close(*images)
    assert project(s.means, s.quats, s.scales, broken.detach(), *s[4:])["opacities"].isfinite().all()


def test_masked_tiles_are_empty(scene):
    colors = torch.rand(1, 300, 3)
    masks = torch.arange(20).reshape(1, 4, 5) % 2 == 0
    results = []
    for s, device in ((scene, "cpu"), (to_cuda(scene), "cuda")):
        m = project(*s)
        results.append(
            rasterize_to_pixels(
                m["means2d"], m["conics"], colors.to(device), m["opacities"], 75, 53, 16, m["isect_offsets"],
                m["flatten_ids"], masks=masks.to(device),
            )
        )  # fmt: skip
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-3, atol=1e-3)
