"""Selecting as splat editors do: shapes, ranges, colors, and what is drawn on a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.colors import color_at, flood, of_color
from gseg_ns.selection.outlines import Outline, Stroke, drawn_over
from gseg_ns.selection.picking import pick
from gseg_ns.selection.rotation import rotation_matrix
from gseg_ns.selection.selection import Selection
from gseg_ns.selection.shapes import Box, in_front, in_range, inside_box, inside_sphere, longest_extents, rectangle
from gseg_ns.splats import Splats
from gseg_ns.splats.container import SH_C0

K = torch.tensor([[60.0, 0.0, 40.0], [0.0, 60.0, 30.0], [0.0, 0.0, 1.0]])
CAMERA = Camera(torch.eye(4), K, 80, 60)
SQUARE = ((20.0, 10.0), (60.0, 10.0), (60.0, 50.0), (20.0, 50.0))
QUICK = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
corner = st.tuples(st.floats(-20, 100), st.floats(-20, 80))
corners = st.lists(corner, min_size=3, max_size=8)
turns = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(v * v for v in q) > 0.01)


def cloud(seed: int, count: int = 200) -> Splats:
    g = torch.Generator().manual_seed(seed)
    return Splats(
        means=torch.randn(count, 3, generator=g) * 1.5 + torch.tensor([0.0, 0.0, 3.0]),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g) * 0.5 - 2,
        opacities=torch.randn(count, generator=g) * 2 + 2,
        sh=torch.randn(count, 1, 3, generator=g),
    )


def rigid(turn: tuple[float, ...], shift: tuple[float, ...]) -> Tensor:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = rotation_matrix(turn), torch.tensor(shift, dtype=torch.float64)
    return matrix


def moved(splats: Splats, matrix: Tensor) -> Splats:
    """Centres alone: nothing here that is moved looks at the rest."""
    means = splats.means.double() @ matrix[:3, :3].T + matrix[:3, 3]
    return replace(splats, means=means.float())


def within(inner: Tensor, outer: Tensor) -> bool:
    return bool((inner <= outer).all())


def few(differing: Tensor) -> bool:
    """Rounding may move a centre across a border."""
    return int(differing.sum()) <= 1


# ------------------------------------------------------------------------------------------------- in space


@QUICK
@given(seeds, turns, st.tuples(*[st.floats(0.1, 4)] * 3))
def test_a_box_holds_its_inner_sphere_and_lies_in_its_outer_one(seed: int, turn, size) -> None:
    means, centre = cloud(seed).means, (0.2, -0.1, 3.0)
    box = inside_box(means, Box(centre, size, turn))
    assert within(inside_sphere(means, centre, min(size) / 2 * 0.999), box)
    assert within(box, inside_sphere(means, centre, math.dist(size, (0, 0, 0)) / 2 * 1.001))


@QUICK
@given(seeds, turns, st.tuples(*[st.floats(-5, 5)] * 3))
def test_shapes_move_with_the_scene(seed: int, turn, shift) -> None:
    splats, matrix = cloud(seed), rigid(turn, shift)
    centre = torch.tensor([0.3, 0.0, 2.5], dtype=torch.float64)
    there = tuple((matrix[:3, :3] @ centre + matrix[:3, 3]).tolist())
    after = moved(splats, matrix).means
    assert few(inside_sphere(splats.means, (0.3, 0.0, 2.5), 1.2) ^ inside_sphere(after, there, 1.2))
    box, turned = Box((0.3, 0.0, 2.5), (1.0, 2.0, 3.0)), Box(there, (1.0, 2.0, 3.0), turn)
    assert few(inside_box(splats.means, box) ^ inside_box(after, turned))


@QUICK
@given(seeds, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_ranges_split_what_there_is(seed: int, a: float, b: float, c: float) -> None:
    splats, (low, middle, high) = cloud(seed), sorted([a, b, c])
    for values in (longest_extents(splats), splats.opacities.sigmoid()):
        whole = Selection(in_range(values, low, high))
        parts = Selection(in_range(values, low, middle)).add(in_range(values, middle, high))
        assert parts == whole
        assert whole == Selection(in_range(values, low, math.inf)).remove(values > high)
        assert in_range(values, -math.inf, math.inf).all()


def test_the_size_is_the_longest_axis() -> None:
    splats = replace(cloud(0, 2), scales=torch.tensor([[0.1, 3.0, 0.2], [0.5, 0.4, 0.3]]).log())
    assert torch.allclose(longest_extents(splats), torch.tensor([3.0, 0.5]))


# ------------------------------------------------------------------------------------------------- on a picture


outlines = corners.map(Outline)
strokes = st.builds(Stroke, st.lists(corner, min_size=1, max_size=5), st.floats(1, 20))


@QUICK
@given(seeds, outlines | strokes, outlines | strokes)
def test_what_is_drawn_obeys_the_algebra_of_sets(seed: int, a: Outline | Stroke, b: Outline | Stroke) -> None:
    splats = cloud(seed)
    for seen in (True, False):
        alone = [Selection(drawn_over(splats, CAMERA, [one], seen)) for one in (a, b)]
        both = Selection(drawn_over(splats, CAMERA, [a, b], seen))
        assert both == alone[0].add(alone[1])
        assert both.remove(alone[0]).intersect(alone[0]).count == 0
        assert both.remove(alone[0]).add(alone[0].intersect(alone[1])) == alone[1]
        assert alone[0].combine(alone[1], "set") == alone[1]
    assert not drawn_over(splats, CAMERA, []).any()


@QUICK
@given(seeds, corners, st.floats(1, 20))
def test_the_visible_are_some_of_those_all_the_way_through(seed: int, points, radius: float) -> None:
    splats = cloud(seed)
    for drawn in (Outline(points), Stroke(points, radius)):
        assert within(drawn_over(splats, CAMERA, [drawn]), drawn_over(splats, CAMERA, [drawn], visible_only=False))


def test_what_is_hidden_is_left_out() -> None:
    wall = Splats(
        means=torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 4.0], [0.0, 0.0, -2.0]]),
        quats=torch.tensor([[1.0, 0, 0, 0]] * 3),
        scales=torch.tensor([[1.0] * 2 + [0.01], [0.05] * 3, [0.05] * 3]).log(),
        opacities=torch.full((3,), 12.0),
        sh=torch.zeros(3, 1, 3),
    )
    # A Gaussian covers 99.9 % at most: what is behind one has a thousandth of its pixels.
    assert drawn_over(wall, CAMERA, [Outline(SQUARE)], min_visible=0.1).tolist() == [True, False, False]
    assert drawn_over(wall, CAMERA, [Outline(SQUARE)], visible_only=False).tolist() == [True, True, False]


@QUICK
@given(seeds, st.booleans())
def test_a_rectangle_is_a_polygon(seed: int, seen: bool) -> None:
    splats = cloud(seed)
    expected = rectangle(splats, CAMERA, SQUARE[0], SQUARE[2], seen)
    for points in (SQUARE, SQUARE[::-1], SQUARE[2:] + SQUARE[:2]):
        assert torch.equal(drawn_over(splats, CAMERA, [Outline(points)], seen), expected)


@QUICK
@given(seeds, st.integers(3, 12), corner, st.floats(2, 30))
def test_a_brush_inside_a_polygon_and_one_around_it(seed: int, sides: int, centre, radius: float) -> None:
    angles = [2 * math.pi * side / sides for side in range(sides)]
    points = [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]
    pixels = torch.rand(500, 2, generator=torch.Generator().manual_seed(seed)) * 100
    polygon = Outline(points).contains(pixels)
    assert within(Stroke([centre], radius * math.cos(math.pi / sides) * 0.999).contains(pixels), polygon)
    assert within(polygon, Stroke([centre], radius * 1.001).contains(pixels))
    # Going over it to and fro from corner to corner leaves nothing of it out.
    fan = [point for corner in points for point in (centre, corner)] + [centre]
    assert within(polygon, Stroke(fan, radius).contains(pixels))


@QUICK
@given(corners, seeds)
def test_outlines_are_what_they_go_around(points, seed: int) -> None:
    """Wherever they begin, closed or not; a star that crosses itself has its middle inside."""
    pixels = torch.rand(300, 2, generator=torch.Generator().manual_seed(seed)) * 120 - 20
    inside = Outline(points).contains(pixels)
    assert torch.equal(inside, Outline(points[1:] + points[:1]).contains(pixels))
    assert torch.equal(inside, Outline([*points, points[0]]).contains(pixels))
    star = [(50 + 40 * math.sin(4 * math.pi * i / 5), 50 - 40 * math.cos(4 * math.pi * i / 5)) for i in range(5)]
    middle = torch.tensor([[50.0, 50.0], [50.0, 15.0], [50.0, 5.0], [torch.nan, 50.0]])
    assert Outline(star).contains(middle).tolist() == [True, True, False, False]
    assert Stroke(star, 3.0).contains(middle[3:]).tolist() == [False]


@QUICK
@given(seeds, corners, turns, st.tuples(*[st.floats(-3, 3)] * 3), st.floats(0.2, 5), st.integers(2, 4))
def test_where_the_camera_is_does_not_matter(seed: int, points, turn, shift, size: float, factor: int) -> None:
    """A scene that moves with its camera, that grows away from it, or that is seen in more pixels."""
    splats, drawn = cloud(seed), Outline(points)
    splats = splats.subset((splats.means[:, 2] - 0.01).abs() > 0.05)
    before = drawn_over(splats, CAMERA, [drawn], visible_only=False)
    matrix = rigid(turn, shift)
    camera = replace(CAMERA, viewmat=torch.linalg.inv(matrix).float())
    assert few(before ^ drawn_over(moved(splats, matrix), camera, [drawn], visible_only=False))
    grown = replace(splats, means=splats.means * (1 + size))
    assert few(before ^ drawn_over(grown, CAMERA, [drawn], visible_only=False))
    finer = Outline([(x * factor, y * factor) for x, y in points])
    assert few(before ^ drawn_over(splats, CAMERA.scaled(factor), [finer], visible_only=False))


def test_pixels_of_another_picture() -> None:
    splats = cloud(3)
    mirrored = [(80 - x, y) for x, y in ((5.0, 5.0), (35.0, 10.0), (20.0, 50.0))]
    expected = drawn_over(splats, CAMERA, [Outline([(80 - x, y) for x, y in mirrored])])

    def mirror(pixels: Tensor) -> Tensor:
        return torch.stack([80 - pixels[:, 0], pixels[:, 1]], dim=1)

    assert expected.any()
    assert torch.equal(drawn_over(splats, CAMERA, [Outline(mirrored)], to_drawn=mirror), expected)
    assert not drawn_over(splats, CAMERA, [Outline(mirrored)], to_drawn=lambda p: p * torch.nan).any()


# ------------------------------------------------------------------------------------------------- by color


def sheet(colors: Tensor) -> Splats:
    """A wall of discs that touch, one a pixel of colors [H, W, 3]."""
    height, width = colors.shape[:2]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    means = torch.stack([x.flatten() - width / 2, y.flatten() - height / 2, torch.full((x.numel(),), 20.0)], dim=1)
    return Splats(
        means=means.float(),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(len(means), 1),
        scales=torch.tensor([[0.4, 0.4, 0.01]]).log().repeat(len(means), 1),
        opacities=torch.full((len(means),), 6.0),
        sh=((colors.reshape(-1, 1, 3) - 0.5) / SH_C0),
    )


def test_a_flood_stops_where_the_color_does() -> None:
    colors = torch.full((12, 20, 3), 0.1)
    colors[2:10, 2:8] = torch.tensor([0.8, 0.1, 0.1])
    colors[2:10, 12:18] = torch.tensor([0.75, 0.15, 0.1])
    wall = sheet(colors)
    x, y = (float(v) for v in (K @ (wall.means[5 * 20 + 5] / 20))[:2])
    found = pick(wall, CAMERA, x, y)
    color = color_at(wall, found)
    both, one = of_color(wall, color), flood(wall, found.top, color)
    red = colors[..., 0].flatten() > 0.5
    assert torch.equal(both, red)
    assert torch.equal(one, red & (torch.arange(240) % 20 < 10))
    assert of_color(wall, color, 200.0).all()
    assert flood(wall, 0, color, 1.0).nonzero().tolist() == [[0]]


@QUICK
@given(seeds, st.tuples(*[st.floats(0, 1)] * 3), st.floats(0, 60), st.floats(0, 60), st.integers(0, 199))
def test_floods_are_of_one_color(seed: int, color, a: float, b: float, start: int) -> None:
    splats = cloud(seed)
    narrow, wide = (Selection(flood(splats, start, color, tolerance)) for tolerance in sorted((a, b)))
    assert bool(narrow.mask[start])
    assert within(of_color(splats, color, min(a, b)), of_color(splats, color, max(a, b)))
    assert narrow.remove(of_color(splats, color, min(a, b))).count <= 1, "the one to begin with"
    assert wide.remove(of_color(splats, color, max(a, b))).count <= 1


# ------------------------------------------------------------------------------------------------- every tool


def place(u: float) -> tuple[float, float, float]:
    return 2 * u - 1, 1 - 2 * u, 2 + 2 * u


def look_for(u: float) -> tuple[float, float, float]:
    return u, 1 - u, 0.5


def ring(u: float) -> list[tuple[float, float]]:
    """A line drawn by hand around a place, as a page gives it: many points, not closed."""
    return [(20 + 40 * u + 15 * math.cos(a / 6), 30 + 12 * math.sin(a / 6)) for a in range(36)]


Tool = Callable[[Splats, float], Tensor]
ON_A_PICTURE: dict[str, Callable[[float], Outline | Stroke]] = {
    "lasso": lambda u: Outline(ring(u)),
    "polygon": lambda u: Outline([(x + 40 * (u - 0.5), y) for x, y in SQUARE]),
    "brush": lambda u: Stroke(ring(u)[:18], 6.0),
}
TOOLS: dict[str, Tool] = {
    **{name: lambda s, u, draw=draw: drawn_over(s, CAMERA, [draw(u)], False) for name, draw in ON_A_PICTURE.items()},
    "sphere": lambda s, u: inside_sphere(s.means, place(u), 1.2),
    "box": lambda s, u: inside_box(s.means, Box(place(u), (1.5, 2.0, 3.0), (1.0, u, 0.0, 0.2))),
    "flood": lambda s, u: flood(s, 0, look_for(u), 60.0),
    "color": lambda s, u: of_color(s, look_for(u), 45.0),
    "size": lambda s, u: in_range(longest_extents(s), 0.1 + 0.1 * u, 0.3 + 0.1 * u),
    "opacity": lambda s, u: in_range(s.opacities.sigmoid(), u / 2, u / 2 + 0.45),
}


@pytest.mark.parametrize("name", TOOLS)
@QUICK
@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_every_tool_selects_a_set(name: str, seed: int, u: float, v: float) -> None:
    """In whatever order Gaussians are kept; what is added, taken away and intersected is what sets are."""
    splats, tool = cloud(seed), TOOLS[name]
    order = torch.randperm(len(splats), generator=torch.Generator().manual_seed(seed))
    if name == "flood":  # begins at the first one
        order = torch.cat([order.new_zeros(1), order[order > 0]])
    a, b = Selection(tool(splats, u)), Selection(tool(splats, v))
    assert torch.equal(tool(splats.subset(order), u), a.mask[order])
    everything = Selection.all(len(splats))
    assert a.add(b) == everything.remove(everything.remove(a).intersect(everything.remove(b)))
    assert a.remove(b).add(a.intersect(b)) == a
    assert a.remove(b) == a.intersect(b.invert())
    assert a.combine(b, "set") == b
    assert a.add(a) == a.intersect(a) == a
    assert a.remove(a).count == 0


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_tells_gaussians_apart(name: str) -> None:
    """What the test above selects is neither nothing nor everything."""
    counts = [int(TOOLS[name](cloud(seed), u).sum()) for seed in range(4) for u in (0.2, 0.7)]
    assert 0 < sum(counts) < 8 * 200
    assert len(set(counts)) > 1


def test_what_is_drawn_leaves_out_what_is_hidden_as_any_tool_does() -> None:
    for name, draw in ON_A_PICTURE.items():
        splats = cloud(1)
        expected = in_front(TOOLS[name](splats, 0.4), splats, CAMERA)
        assert torch.equal(drawn_over(splats, CAMERA, [draw(0.4)]), expected), name


@pytest.mark.parametrize("name", TOOLS)
@QUICK
@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_every_tool_takes_the_visible_alone(name: str, seed: int, u: float, v: float) -> None:
    """What is visible of sets is as sets are; behind walls that fill the picture nothing is left, and all without."""
    splats, tool = cloud(seed), TOOLS[name]
    splats = splats.subset(splats.means[:, 2] > 0.6)

    def seen(mask: Tensor) -> Selection:
        return Selection(in_front(mask, splats, CAMERA))

    a, b = (Selection(tool(splats, at)) for at in (u, v))
    assert within(seen(a.mask).mask, a.mask)
    assert seen(seen(a.mask).mask) == seen(a.mask)
    assert seen(a.add(b).mask) == seen(a.mask).add(seen(b.mask))
    assert seen(a.remove(b).mask) == seen(a.mask).remove(seen(b.mask)) == seen(a.mask).remove(b)
    assert seen(a.intersect(b).mask) == a.intersect(seen(b.mask))
    walls = Splats(
        means=torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, 0.4]]),
        quats=torch.tensor([[1.0, 0, 0, 0]] * 2),
        scales=torch.tensor([[5.0, 5.0, 1e-3]] * 2).log(),
        opacities=torch.full((2,), 12.0),
        sh=(torch.tensor([0.0, 0.0, 1.0]) - 0.5).repeat(2, 1, 1) / SH_C0,  # of no color that is looked for
    )
    behind = Splats.cat([splats, walls])
    through = tool(behind, u)
    assert torch.equal(through[: len(splats)], a.mask)
    assert not in_front(through, behind, CAMERA)[: len(splats)].any()


def test_what_is_out_of_view_is_not_in_front() -> None:
    splats = cloud(2)
    splats = splats.subset(splats.means[:, 2] > 0.6)
    everything = torch.ones(len(splats), dtype=torch.bool)
    assert in_front(everything, splats, CAMERA).any()
    behind = replace(CAMERA, viewmat=torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])))
    assert not in_front(everything, splats, behind).any()


@pytest.mark.parametrize("count", [0, 1])
def test_few_gaussians(count: int) -> None:
    splats = cloud(0, count)
    assert len(drawn_over(splats, CAMERA, [Outline(SQUARE), Stroke([(3, 3)], 2)])) == count
    assert len(of_color(splats, (0.5, 0.5, 0.5))) == count
    assert in_range(longest_extents(splats), 0, math.inf).all()


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Outline([(0, 0), (1, 1)]), "three|3 at least"),
        (lambda: Outline([(0, 0), (1, 1), (math.nan, 2)]), "no number"),
        (lambda: Stroke([], 3), "1 at least"),
        (lambda: Stroke([(0, 0)], 0), "above zero"),
        (lambda: Stroke([(0, 0)], math.inf), "above zero"),
        (lambda: in_range(torch.zeros(1), 2, 1), "smaller number first"),
        (lambda: in_range(torch.zeros(1), math.nan, 1), "smaller number first"),
        (lambda: of_color(cloud(0, 1), (255.0, 0.0, 0.0)), "from 0 to 1"),
        (lambda: of_color(cloud(0, 1), (0.0, 0.0, 0.0), -1.0), "no distance"),
    ],
)
def test_bad_input(attempt, message: str) -> None:
    with pytest.raises(GsegError, match=message):
        attempt()


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_brushes_that_are_none(radius: float) -> None:
    with pytest.raises(GsegError, match="A brush has a radius"):
        Stroke([(1.0, 1.0)], radius)
