"""Objects end where views show that they do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gseg_ns.objects import Alone, FringeOptions, Fringes, Shown
from gseg_ns.objects.fringes import _draw, _halved
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats

SIZE, FOCAL = 48, 60.0
DISC, FLOOR, POST = 1, 2, 3


def plate(points: torch.Tensor, scale: float, color: tuple[float, float, float]) -> Splats:
    """Flat Gaussians at points [n, 3] that face the cameras."""
    count = len(points)
    sh = torch.zeros(count, 4, 3)
    sh[:, 0] = (torch.tensor(color) - 0.5) / 0.28209479177387814
    return Splats(
        means=points,
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4).clone(),
        scales=torch.tensor([scale, scale, 0.01]).log().expand(count, 3).clone(),
        opacities=torch.full((count,), 3.0),
        sh=sh,
    )


def grid(half: float, step: float, depth: float) -> torch.Tensor:
    line = torch.arange(-half, half + step / 2, step)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), depth)], dim=1)


def cameras() -> list[Camera]:
    """Five, beside each other."""
    K = torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
    found = []
    for x in (-0.2, -0.1, 0.0, 0.1, 0.2):
        viewmat = torch.eye(4)
        viewmat[0, 3] = -x
        found.append(Camera(viewmat, K, SIZE, SIZE))
    return found


def of_disc(camera: Camera, radius: float = 0.5, depth: float = 2.0) -> torch.Tensor:
    """Pixels that a disc at the origin's axis covers."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    centre = FOCAL * float(camera.viewmat[0, 3]) / depth + SIZE / 2
    return (x - centre) ** 2 + (y - SIZE / 2) ** 2 <= (FOCAL * radius / depth) ** 2


@pytest.fixture(scope="module")
def scene() -> tuple[Splats, torch.Tensor, list[Shown]]:
    """A red disc whose Gaussians stick out, a green floor behind, and a blue post before its left side."""
    points = grid(0.5, 0.1, 2.0)
    disc = plate(points[points[:, :2].norm(dim=1) <= 0.55], 0.09, (0.8, 0.1, 0.1))
    floor = plate(grid(1.2, 0.15, 2.3), 0.12, (0.1, 0.7, 0.1))
    points = grid(0.6, 0.05, 1.5)
    post = plate(points[(points[:, 0] < -0.15) & (points[:, 0] > -0.35)], 0.04, (0.1, 0.1, 0.9))
    splats = Splats.cat([disc, floor, post])
    groups = torch.cat([torch.full((len(part),), name) for part, name in ((disc, DISC), (floor, FLOOR), (post, POST))])
    views = []
    for camera in cameras():
        labels = torch.where(of_disc(camera), DISC, FLOOR)
        labels = torch.where(_draw(post, camera, 0.01)[1] > 0.5, POST, labels)
        colors = torch.tensor([[0, 0, 0], [204, 25, 25], [25, 178, 25], [25, 25, 230]], dtype=torch.uint8)
        views.append(Shown(camera, labels, colors[labels]))
    return splats, groups, views


def error(alone: Splats, views: list[Shown]) -> float:
    """Of alpha where nothing stands before the disc: part of its area."""
    wrong, area = 0.0, 0.0
    for camera, labels, _ in views:
        away = labels != POST
        mask = of_disc(camera) & away
        wrong += float((_draw(alone, camera, 0.01)[1] - mask.float()).abs()[away].sum())
        area += float(mask.sum())
    return wrong / area


def test_an_object_ends_where_views_show_that_it_does(scene: tuple[Splats, torch.Tensor, list[Shown]]) -> None:
    splats, groups, views = scene
    fringes = Fringes(splats, groups, views)
    assert fringes.names == [DISC, FLOOR, POST]
    before = splats.subset(groups == DISC)
    fitted = fringes.clean(DISC, FringeOptions(steps=60))
    alone = fitted.splats
    assert len(alone) == len(before) + len(fitted.split)
    assert torch.equal(fringes.rows(DISC), groups == DISC)
    assert error(alone, views) < 0.5 * error(before, views)
    # What the post hides is not cut away, though its pixels are not the disc's.
    camera, labels, _ = views[2]
    hidden = (labels == POST) & of_disc(camera, radius=0.42)
    assert int(hidden.sum()) > 30
    assert float(_draw(alone, camera, 0.01)[1][hidden].min()) > 0.8
    # The scene is as it was, and the same comes out again.
    assert torch.equal(before.means, splats.subset(groups == DISC).means)
    assert torch.equal(alone.opacities, fringes.clean(DISC, FringeOptions(steps=60)).splats.opacities)


def test_colors_of_the_rim_become_those_of_the_photographs(scene: tuple[Splats, torch.Tensor, list[Shown]]) -> None:
    splats, groups, views = scene
    sh = splats.sh.clone()
    rim = (groups == DISC) & (splats.means[:, :2].norm(dim=1) > 0.4)
    sh[rim, 0] = torch.tensor([-1.0, 0.5, -1.0])  # of floor
    fringes = Fringes(replace(splats, sh=sh), groups, views, [DISC])
    assert fringes.names == [DISC]
    camera, labels, photograph = views[4]
    assert photograph is not None

    def wrong(alone: Splats) -> float:
        drawn = _draw(alone, camera, 0.01, colored=True)[0]
        return float((255 * drawn - photograph).abs()[labels == DISC].mean())

    before = replace(splats, sh=sh).subset(groups == DISC)
    assert wrong(fringes.clean(DISC, FringeOptions(steps=60)).splats) < 0.5 * wrong(before)
    # Without photographs colors stay.
    plain = Fringes(replace(splats, sh=sh), groups, [view._replace(photograph=None) for view in views], [DISC])
    alone = plain.clean(DISC, FringeOptions(steps=5))
    assert torch.equal(alone.splats.sh, sh[groups == DISC][alone.source])


def test_what_no_view_shows_stays(scene: tuple[Splats, torch.Tensor, list[Shown]]) -> None:
    splats, groups, views = scene
    behind = plate(torch.tensor([[0.0, 0, 2.2]]), 0.02, (0.8, 0.1, 0.1))
    away = plate(torch.tensor([[0.0, 0, -3.0]]), 0.05, (0.8, 0.1, 0.1))  # behind all cameras
    more, of = Splats.cat([splats, behind, away]), torch.cat([groups, torch.tensor([DISC, DISC])])
    fringes = Fringes(more, of, views)
    fitted = fringes.clean(DISC, FringeOptions(steps=20))
    count = int((of == DISC).sum())
    assert int(fitted.split.max()) < count - 2
    alone = fitted.splats.subset(torch.arange(count))
    assert all(bool(getattr(alone, name).isfinite().all()) for name in ("means", "quats", "scales", "opacities", "sh"))
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(alone, name)[-1], getattr(away, name)[0]), name
        assert not torch.equal(getattr(alone, name)[:-2], getattr(more, name)[: len(alone) - 2]), name
    # What the disc covers hardly shows, and hardly moves.
    for name, tolerance in {"means": 0.02, "scales": 0.2, "opacities": 0.5}.items():
        assert torch.allclose(getattr(alone, name)[-2], getattr(behind, name)[0], atol=tolerance), name
    assert len(fringes.clean(9).splats) == 0


def test_parts_of_large_windows(
    scene: tuple[Splats, torch.Tensor, list[Shown]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gseg_ns.objects import fringes as module

    splats, groups, views = scene
    whole = error(splats.subset(groups == DISC), views)
    monkeypatch.setattr(module, "LARGEST", 20)
    alone = Fringes(splats, groups, views).clean(DISC, FringeOptions(steps=100)).splats
    assert error(alone, views) < 0.6 * whole


def test_numbers_of_groups_that_need_more_than_16_bits(scene: tuple[Splats, torch.Tensor, list[Shown]]) -> None:
    splats, groups, views = scene
    far = 70_000
    moved = [view._replace(labels=torch.where(view.labels == DISC, far, view.labels)) for view in views]
    large = Fringes(splats, torch.where(groups == DISC, far, groups), moved, [far])
    small = Fringes(splats, groups, views, [DISC])
    assert large.names == [far]
    options = FringeOptions(steps=5)
    assert torch.equal(large.clean(far, options).splats.means, small.clean(DISC, options).splats.means)


def long_one() -> Splats:
    """A faint Gaussian, five pixels long before the cameras, and one beside it."""
    both = plate(torch.tensor([[0.0, 0, 2.0], [0.4, 0, 2.0]]), 0.05, (0.8, 0.1, 0.1))
    turn = torch.tensor([0.9239, 0, 0, 0.3827])  # by 45 degrees in the picture
    return replace(
        both,
        quats=torch.stack([turn, turn]),
        scales=torch.tensor([[0.17, 0.05, 0.01], [0.05, 0.05, 0.01]]).log(),
        opacities=torch.tensor([-2.0, 2.0]),
    )


def test_two_halves_look_like_the_whole() -> None:
    whole = long_one()
    halves = _halved(whole, torch.tensor([0]))
    assert len(halves) == 3
    middle = (halves.means[0] + halves.means[2]) / 2
    torch.testing.assert_close(middle, whole.means[0])
    apart = (halves.means[0] - halves.means[2]) / 2
    direction = torch.tensor([0.7071, 0.7071, 0.0])
    torch.testing.assert_close(apart.abs(), apart.norm() * direction, atol=1e-4, rtol=0)
    # Variance along the axis: between the halves, and within each.
    assert float(apart.norm() ** 2 + halves.scales[0, 0].exp() ** 2) == pytest.approx(0.17**2, rel=1e-4)
    assert torch.equal(halves.scales[0, 1:], whole.scales[0, 1:])
    for name in ("means", "scales", "opacities", "quats", "sh"):
        assert torch.equal(getattr(halves, name)[1], getattr(whole, name)[1]), name
    before, after = (_draw(splats, cameras()[2], 0.01)[1] for splats in (whole, halves))
    assert float((before - after).abs().max()) < 0.1 * float(before.max())


def test_long_gaussians_of_the_border_are_split(scene: tuple[Splats, torch.Tensor, list[Shown]]) -> None:
    splats, groups, views = scene
    long = replace(splats, scales=splats.scales.clone())
    inner = (groups == DISC) & (splats.means[:, :2].norm(dim=1) < 0.05)
    rim = (groups == DISC) & (splats.means[:, :2].norm(dim=1) > 0.45)
    for rows in (inner, rim):
        long.scales[rows, 0] = torch.tensor(0.12).log()
    split = Fringes(long, groups, views, [DISC]).clean(DISC, FringeOptions(steps=1)).split
    halved = torch.zeros(int((groups == DISC).sum()), dtype=torch.bool)
    halved[split] = True
    assert float(halved[rim[groups == DISC]].float().mean()) > 0.8  # the post hides a bit
    assert not bool(halved[inner[groups == DISC]].any())
    short = replace(splats, scales=splats.scales.clamp_max(math.log(0.02)))  # less than a pixel
    assert not len(Fringes(short, groups, views, [DISC]).clean(DISC, FringeOptions(steps=1)).split)


def test_some_of_what_is_alone_keeps_its_halves() -> None:
    whole = long_one()
    five = Splats.cat([whole, whole, whole.subset(torch.tensor([0]))])
    alone = Alone(_halved(five, torch.tensor([0, 2, 4])), torch.tensor([0, 2, 4]))
    assert alone.source.tolist() == [0, 1, 2, 3, 4, 0, 2, 4]
    some = alone.subset(torch.tensor([False, True, True, False, True]))
    assert some.source.tolist() == [0, 1, 2, 1, 2]
    assert torch.equal(some.splats.means, alone.splats.means[[1, 2, 4, 6, 7]])
    assert Alone.of(five).source.tolist() == [0, 1, 2, 3, 4]
