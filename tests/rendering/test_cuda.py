"""The same calls on CUDA tensors agree with the CPU kernels."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.rendering import pixel_weights, project, rasterization, rasterize_to_pixels, top_contributors, vote

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


def test_contributions(scene):
    cpu, cuda = project(*scene), project(*to_cuda(scene))
    labels = torch.arange(53 * 75).reshape(53, 75) // 90 - 1
    # A weight at the 1/255 threshold may fall to either side.
    torch.testing.assert_close(vote(cuda, labels.cuda(), 40).cpu(), vote(cpu, labels, 40), rtol=1e-3, atol=2e-2)
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
