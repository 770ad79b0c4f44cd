from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.errors import GsegError, OptionError
from gseg_ns.lifting.affinity import ScaleGate, smooth
from gseg_ns.lifting.affinity_training import (
    AffinityOptions,
    AffinityViews,
    composite_smoothed,
    view_scales,
)
from gseg_ns.lifting.pixel_pool import make_pool
from gseg_ns.lifting.scales import ScaleQuantiles, expected_depth
from gseg_ns.masks import MaskSet
from gseg_ns.rendering import project, rasterize_to_pixels
from gseg_ns.selection.prompts import select

WIDTH, HEIGHT = 40, 32
K = torch.tensor([[40.0, 0, 20.0], [0, 40.0, 16.0], [0, 0, 1]])


def wall(count: int = 400, depth: float = 3.0) -> Tensor:
    """Gaussians on a plane before the camera."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(count, 2, generator=generator) * torch.tensor([3.2, 2.6]) - torch.tensor([1.6, 1.3])
    return torch.cat([flat, torch.full((count, 1), depth)], dim=1)


def projection(means: Tensor, device: str = "cpu") -> dict[str, Any]:
    count = len(means)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    arguments = (means, quats, torch.full((count, 3), 0.12), torch.full((count,), 0.8), torch.eye(4)[None], K[None])
    means, quats, scales, opacities, viewmats, Ks = (value.to(device) for value in arguments)
    return project(means, quats, scales, opacities, viewmats, Ks, WIDTH, HEIGHT)


def halves() -> MaskSet:
    """Left and right half, and a spot in the left one."""
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :, :20] = True
    masks[1, :, 20:] = True
    masks[2, 10:20, 4:14] = True
    return MaskSet.from_arrays(masks)


def test_depth_is_divided_by_alpha() -> None:
    depth, alpha = expected_depth(projection(wall()))
    assert alpha.min() < 0.999
    torch.testing.assert_close(depth[alpha > 0.2], torch.full_like(depth[alpha > 0.2], 3.0), rtol=1e-4, atol=1e-4)


def test_scales_of_a_view_are_metric() -> None:
    scales = view_scales(projection(wall()), K, halves())
    # Uniform over 1.5 x 2.4 at a distance of 3: 2 sqrt((1.5^2 + 2.4^2) / 12).
    assert float(scales[0]) == pytest.approx(2 * ((1.5**2 + 2.4**2) / 12) ** 0.5, rel=0.05)
    assert float(scales[2]) == pytest.approx(2 * (2 * 0.75**2 / 12) ** 0.5, rel=0.08)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_cached_contributions_give_what_a_full_render_gives(device: str) -> None:
    torch.manual_seed(0)
    meta = projection(wall(), device)
    features = torch.randn(400, 8, device=device, requires_grad=True)
    neighbours = torch.randint(0, 400, (400, 4), device=device)
    pool = make_pool(meta, halves(), torch.ones(3), max_bytes=1e9)
    assert len(pool) == WIDTH * HEIGHT
    found = composite_smoothed(features, neighbours, pool.weights)
    image, _ = rasterize_to_pixels(
        meta["means2d"], meta["conics"], smooth(features, neighbours)[None], meta["opacities"], WIDTH, HEIGHT,
        meta["tile_size"], meta["isect_offsets"], meta["flatten_ids"],
    )  # fmt: skip
    expected = image.reshape(-1, 8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(found)
    (ours,) = torch.autograd.grad((found * weight).sum(), features)
    (reference,) = torch.autograd.grad((expected * weight).sum(), features)
    # gsplat's own sums over pixels come in another order at each run.
    torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-3 if device == "cuda" else 1e-4)


def test_pool_keeps_to_its_memory_and_knows_its_masks() -> None:
    masks = halves()
    pool = make_pool(projection(wall()), masks, torch.ones(3), max_bytes=20_000)
    assert len(pool) < WIDTH * HEIGHT
    assert 8 * len(pool.weights.col) + 16 * len(pool) < 1.5 * 20_000
    weights, regions = pool.draw(50, torch.Generator().manual_seed(0))
    assert 25 < len(weights) == len(regions) <= 50  # repeats are dropped
    again, _ = pool.draw(50, torch.Generator().manual_seed(0))
    assert torch.equal(weights.col, again.col)
    everything, regions = pool.draw(10_000)
    assert len(everything) == len(pool)
    assert pool.sizes.unique().tolist() == [0.0, (640 + 100) / 2, 640.0]  # nothing is in no mask here
    assert pool.members[regions].any(dim=1).all()


def test_balanced_pixels_are_of_all_masks_alike() -> None:
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 2:4, 2:4] = True
    masks[1, 8:] = True
    pool = make_pool(projection(wall()), MaskSet.from_arrays(masks), torch.ones(2), max_bytes=1e9)
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(2)
    for _ in range(300):
        _, regions = pool.draw(2, generator, balanced=1.0)
        counts += pool.members[regions].sum(dim=0)
    assert float(counts.sum()) > 550  # none outside of the masks, few repeats
    assert 0.7 < float(counts[0] / counts[1]) < 1.1
    empty = make_pool(projection(wall()), MaskSet.from_arrays(masks[:0]), torch.ones(0), max_bytes=1e9)
    assert len(empty.draw(20, generator, balanced=0.5)[1]) > 10


def test_a_pool_that_cannot_keep_all_keeps_small_masks() -> None:
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 10:14, 10:14] = True
    masks[1, 16:] = True
    arguments = (projection(wall()), MaskSet.from_arrays(masks), torch.ones(2), 20_000)
    plain = make_pool(*arguments, torch.Generator().manual_seed(0))
    pool = make_pool(*arguments, torch.Generator().manual_seed(0), balanced=0.5)
    small = [int(p.members[p.regions][:, 0].sum()) for p in (plain, pool)]
    assert small[0] < 10
    assert small[1] == 16
    assert len(pool) <= len(plain) < WIDTH * HEIGHT
    assert pool.uniform is not None
    # What is drawn evenly is still drawn evenly.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([pool.draw(20, generator)[1] for _ in range(300)])
    share = float(pool.members[drawn][:, 0].float().mean())
    assert share == pytest.approx(float(pool.members[pool.regions[pool.uniform]][:, 0].float().mean()), abs=0.01)


def train(masks: list[MaskSet], steps: int = 150, **options: Any) -> tuple[Tensor, ScaleGate, AffinityViews]:
    torch.manual_seed(0)
    means = wall()
    quantiles = ScaleQuantiles()
    views = AffinityViews(
        means,
        ((view, projection(means), K, entry) for view, entry in enumerate(masks)),
        len(masks),
        quantiles,
        AffinityOptions(num_pixels=300, **options),
    )
    features, gate = torch.nn.Parameter(1e-2 * torch.randn(400, 16)), ScaleGate(16)
    optimizer = torch.optim.Adam([features, *gate.parameters()], lr=0.01, eps=1e-15)
    for step in range(steps):
        optimizer.zero_grad()
        losses = views.losses(step % len(masks), features, gate)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        assert torch.isfinite(total)
        optimizer.step()
    assert torch.isfinite(features).all()
    return smooth(features.detach(), views.neighbours), gate, views


def test_training_separates_at_small_scales_and_merges_at_large_ones() -> None:
    features, gate, _ = train([halves(), halves()])
    means = wall()
    spot = ((means[:, 0] + 0.825).abs() < 0.25) & ((means[:, 1] + 0.075).abs() < 0.25)
    left = (means[:, 0] < -0.2) & ~(((means[:, 0] + 0.825).abs() < 0.5) & ((means[:, 1] + 0.075).abs() < 0.5))
    right = means[:, 0] > 0.2

    def cosine(one: Tensor, two: Tensor, scale: float) -> float:
        units = F.normalize(features * gate.at(scale), dim=-1)
        return float(F.normalize(units[one].mean(dim=0), dim=0) @ F.normalize(units[two].mean(dim=0), dim=0))

    assert cosine(left, right, 0.0) < 0.5
    assert cosine(left, right, 1.0) < 0.5
    assert cosine(spot, left, 1.0) > 0.9
    assert cosine(spot, left, 0.0) < cosine(spot, left, 1.0) - 0.2


def test_a_scale_exists_for_a_thing_alone_and_one_for_all_that_it_stands_with() -> None:
    """A mug on a tray, and something else beside it: one click on the mug, at scales from fine to coarse."""
    mug, tray, other = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    tray[:, :20] = True
    mug[10:22, 4:16] = True
    other[:, 20:] = True
    masks = MaskSet.from_arrays(torch.stack([mug, tray & ~mug, tray | mug, other]))
    features, gate, _ = train([masks, masks], steps=400, balanced=0.5)
    means = wall()
    x, y = 40 * means[:, 0] / 3 + 20, 40 * means[:, 1] / 3 + 16
    in_mug = (x > 4) & (x < 16) & (y > 10) & (y < 22)
    query = features[(x - 10).square().add((y - 16).square()).argmin()][None]

    def found(scale: float, wanted: Tensor) -> float:
        chosen, _ = select(features, query, gate=gate.at(scale))
        return float((chosen & wanted).sum() / (chosen | wanted).sum())

    scales = torch.linspace(0, 1, 11).tolist()
    assert max(found(scale, in_mug) for scale in scales) > 0.65  # its outline is two Gaussians wide
    assert max(found(scale, x < 20) for scale in scales) > 0.9
    assert found(0.0, in_mug) > found(1.0, in_mug)


@pytest.mark.parametrize("kind", ["one", "everything", "equal sizes", "a pixel", "none in the second view"])
def test_odd_masks_train_to_finite_features(kind: str) -> None:
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    second = None
    if kind == "one":
        masks = masks[:1]
        masks[0, 5:20, 5:20] = True
    elif kind == "everything":
        masks[:] = True
    elif kind == "equal sizes":
        masks[0, 5:15, 5:15] = masks[1, 15:25, 25:35] = True
    elif kind == "a pixel":
        masks[0, 5, 5] = True
        masks[1, 20, 30] = True
    else:
        masks[0, 5:15, 5:15] = masks[1, 15:25, 25:35] = True
        second = MaskSet.from_arrays(masks[:0])
    first = MaskSet.from_arrays(masks)
    train([first, first if second is None else second], steps=6)


def test_no_masks_at_all_is_an_error() -> None:
    with pytest.raises(GsegError, match="No training view has a mask"):
        train([MaskSet.from_arrays(torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool))], steps=1)


@pytest.mark.parametrize(
    "options",
    [
        {"neighbours": 1},
        {"norm_weight": 0.0},
        {"rank_share": 1.0},
        {"num_scales": 1},
        {"balanced": 0.0},
        {"balanced": 1.0},
        {"neighbour_agreement": 0.0},
    ],
)
def test_ablations_run(options: dict[str, Any]) -> None:
    train([halves()], steps=3, **options)


def test_options_that_make_no_sense() -> None:
    """Flags of more neighbours than an int32 has bits would be those of others."""
    for name, value, remedy in (
        ("neighbours", 32, "1 .* to 31"),
        ("neighbours", 0, "1 .* to 31"),
        ("balanced", -0.1, "between 0 and 1"),
        ("neighbour_agreement", 1.5, "between 0 and 1"),
        ("rank_share", 2.0, "between 0 and 1"),
    ):
        with pytest.raises(OptionError, match=f"{name} is {value}: give .*{remedy}"):
            AffinityOptions(**{name: value})  # type: ignore[arg-type]
    assert AffinityOptions(neighbours=31).neighbours == 31
