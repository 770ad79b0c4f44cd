"""The plain loops that the kernels are measured against do what the kernels do, and the measurements run."""

from __future__ import annotations

import numpy as np
import torch

from benchmark_script import benchmark
from gseg_ns.rendering import project, rasterize_to_pixels


def test_plain_loops_composite_what_the_kernels_do() -> None:
    with benchmark("rendering") as rendering, benchmark("plain_loops") as plain_loops:
        scene = rendering.synthetic(400, 40, 29)
        meta = project(*scene)
        g = torch.Generator().manual_seed(0)
        colors = torch.rand(400, 3, generator=g)
        inputs = (meta["means2d"], meta["conics"], colors[None], meta["opacities"])
        leaves = [leaf.clone().requires_grad_() for leaf in inputs]
        means2d, conics, values, opacities = leaves
        image, alphas = rasterize_to_pixels(
            means2d, conics, values, opacities, 40, 29, 16, meta["isect_offsets"], meta["flatten_ids"]
        )
        v_image, v_alphas = torch.randn(image.shape, generator=g), torch.randn(alphas.shape, generator=g)
        torch.autograd.backward((image, alphas), (v_image, v_alphas))
        view = plain_loops.View(meta, colors.numpy())
        view.forward()
        assert np.abs(view.image - image.detach()[0].numpy()).max() < 1e-4
        assert np.abs(1 - view.transmittance - alphas.detach()[0, ..., 0].numpy()).max() < 1e-4
        for mine, leaf in zip(view.backward(v_image[0].numpy(), v_alphas[0, ..., 0].numpy()), leaves, strict=True):
            assert leaf.grad is not None
            expected = leaf.grad[0].numpy()
            assert np.abs(mine - expected).max() <= 1e-3 * np.abs(expected).max()


def test_parts_of_a_step_add_up() -> None:
    with benchmark("rendering") as rendering:
        scene = rendering.synthetic(300, 40, 29)
        parts, whole = rendering.parts_of(rendering.training_step(scene), 2)
        assert {"composite.forward", "composite.backward", "ssim.likeness"} <= set(parts)
        assert 0 < sum(parts.values()) <= whole * 1.5
