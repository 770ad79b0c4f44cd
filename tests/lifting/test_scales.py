from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.errors import GsegError
from gseg_ns.lifting.scales import ScaleQuantiles, mask_scales, unproject
from gseg_ns.masks import MaskSet


def test_unproject_uses_pixel_centres_and_its_own_intrinsics() -> None:
    K = torch.tensor([[100.0, 0, 10.0], [0, 50.0, 6.0], [0, 0, 1]])
    depth = torch.full((12, 20), 2.0)
    depth[0, 0] = 0
    points = unproject(depth, K)
    torch.testing.assert_close(points[5, 9], torch.tensor([(9.5 - 10) / 100 * 2, (5.5 - 6) / 50 * 2, 2.0]))
    assert points[0, 0].isnan().all()


def test_scale_of_a_tilted_plane_is_that_of_its_points() -> None:
    K = torch.tensor([[80.0, 0, 32.0], [0, 80.0, 16.0], [0, 0, 1]])
    rows = torch.linspace(1.0, 3.0, 32)[:, None].expand(32, 64)
    points = unproject(rows, K)
    mask = torch.zeros(32, 64, dtype=torch.bool)
    mask[8:24, 10:50] = True
    [scale] = mask_scales(points, MaskSet.from_arrays(mask[None]))
    # A rectangle loses only its four corners to the border rule.
    inner = mask.clone()
    inner[[8, 8, 23, 23], [10, 49, 10, 49]] = False
    expected = 2 * points[inner].double().var(dim=0, unbiased=False).sum().sqrt()
    torch.testing.assert_close(scale.double(), expected, rtol=1e-6, atol=0)


def test_degenerate_masks_have_finite_scales() -> None:
    points = unproject(torch.ones(8, 8), torch.eye(3))
    one = torch.zeros(8, 8, dtype=torch.bool)
    one[3, 3] = True
    line = torch.zeros(8, 8, dtype=torch.bool)
    line[3] = True
    masks = MaskSet.from_arrays(torch.stack([one, torch.zeros_like(one), line, torch.ones_like(one)]))
    scales = mask_scales(points, masks)
    assert torch.isfinite(scales).all()
    assert scales[0] == 0
    assert scales[1] == 0
    assert 0 < scales[2] < scales[3]
    assert mask_scales(points, masks, valid=torch.zeros(8, 8, dtype=torch.bool)).eq(0).all()
    assert mask_scales(points, MaskSet(8, 8)).shape == (0,)


def test_mask_of_another_size_is_an_error() -> None:
    with pytest.raises(GsegError, match="does not fit"):
        mask_scales(torch.zeros(8, 8, 3), MaskSet.from_arrays(torch.ones(1, 4, 4)))


@pytest.mark.parametrize("count", [1, 2, 7, 1500])
def test_quantiles_are_those_of_scikit_learn(count: int) -> None:
    from sklearn.preprocessing import QuantileTransformer

    rng = np.random.default_rng(count)
    scales = rng.lognormal(size=count)
    scales[: count // 3] = scales[0]  # ties
    reference = QuantileTransformer(n_quantiles=1000 if count >= 1000 else count, subsample=None)
    if count == 1:
        reference.n_quantiles = 1
    reference.fit(scales[:, None])
    ours = ScaleQuantiles(1000)
    ours.fit(torch.from_numpy(scales))
    x = np.concatenate([scales, [0.0, scales.max() * 3], rng.lognormal(size=50)])
    expected = reference.transform(x[:, None])[:, 0]
    found = ours(torch.from_numpy(x).float()).numpy()
    if count >= 1000:
        np.testing.assert_allclose(found, expected, atol=2e-3)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(x)
    assert (np.diff(found[order]) >= -1e-6).all()


def test_quantiles_survive_a_checkpoint_and_invert() -> None:
    ours = ScaleQuantiles()
    ours.fit(torch.rand(500) + 0.1)
    other = ScaleQuantiles()
    other.load_state_dict(ours.state_dict())
    share = torch.linspace(0, 1, 11)
    torch.testing.assert_close(other(other.metric(share)), share, atol=2e-3, rtol=0)


def test_quantiles_of_equal_scales_and_of_none() -> None:
    ours = ScaleQuantiles()
    ours.fit(torch.full((9,), 2.0))
    torch.testing.assert_close(ours(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([0.0, 0.5, 1.0]))
    with pytest.raises(GsegError, match="measurable"):
        ours.fit(torch.tensor([torch.nan]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=40))
def test_order_of_masks_does_not_matter(values: list[float]) -> None:
    scales = torch.tensor(values)
    one, two = ScaleQuantiles(), ScaleQuantiles()
    one.fit(scales)
    two.fit(scales.flip(0))
    assert torch.equal(one.quantiles, two.quantiles)


def test_scales_are_those_of_decoded_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(40, 50, 3, generator=generator)
    points[torch.rand(40, 50, generator=generator) < 0.1] = torch.nan
    masks = torch.rand(12, 8, 10, generator=generator).repeat_interleave(5, 1).repeat_interleave(5, 2) > 0.7
    masks[0] = False
    masks[0, 3, 7:9] = True
    valid = torch.rand(40, 50, generator=generator) > 0.2
    found = mask_scales(points, MaskSet.from_arrays(masks), valid)
    for mask, scale in zip(masks, found, strict=True):
        around = torch.nn.functional.conv2d(mask[None, None].float(), torch.ones(1, 1, 3, 3), padding=1)[0, 0]
        usable = valid & points.isfinite().all(dim=-1) & mask
        inside = points[usable & (around >= 5)]
        inside = points[usable] if len(inside) < 2 else inside
        expected = 2 * inside.double().var(dim=0, unbiased=False).sum().sqrt() if len(inside) > 1 else torch.zeros(())
        assert float(scale) == pytest.approx(float(expected), rel=1e-6)
