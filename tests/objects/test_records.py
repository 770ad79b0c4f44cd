"""The table of objects, and what floats."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from gseg_ns.objects import Evidence, find_floaters, fit_box, gather_evidence, object_records, schema
from gseg_ns.objects.surface import Surfaces
from gseg_ns.rendering import Camera, composite
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats


def ball(centre: tuple[float, float, float], count: int, color: float, seed: int) -> Splats:
    generator = torch.Generator().manual_seed(seed)
    points = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1) * 0.2
    return Splats(
        points + torch.tensor(centre),
        torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4).clone(),
        torch.full((count, 3), 0.03).log(),
        torch.full((count,), 3.0),
        torch.full((count, 1, 3), color),
    )


@pytest.fixture(scope="module")
def scene() -> tuple[Splats, torch.Tensor, Evidence]:
    """Two balls in front of a wall; of the first one three Gaussians float before the wall, and one behind it."""
    wall = ball((0.0, 0.0, 0.0), 900, -1.0, 2)
    grid = torch.linspace(-2, 2, 30)
    wall.means = torch.stack([*torch.meshgrid(grid, grid, indexing="ij"), torch.full((30, 30), 5.0)], -1).view(-1, 3)
    wall.scales = torch.full((900, 3), 0.1).log()
    stray = ball((0.0, 0.0, 0.0), 4, 1.0, 3)
    stray.means = torch.tensor([[0.9, 0.9, 3.0], [0.92, 0.9, 3.0], [1.2, -0.7, 4.0], [0.0, 0.0, 9.0]])
    stray.opacities = torch.tensor([-1.0, -1.0, -1.0, 3.0])
    splats = Splats.cat([ball((-0.5, 0.0, 3.0), 300, 1.0, 0), ball((0.5, 0.0, 3.0), 200, 0.0, 1), wall, stray])
    groups = torch.cat([torch.full((300,), 1), torch.full((200,), 2), torch.full((900,), 3), torch.full((4,), 1)])
    views = []
    for shift in (-0.3, 0.0, 0.3):
        viewmat = torch.eye(4)
        viewmat[0, 3] = shift
        camera = Camera(viewmat, torch.tensor([[80.0, 0, 48], [0, 80.0, 36], [0, 0, 1]]), 96, 72)
        labels = torch.full((72, 96), 3)
        rows, columns = torch.meshgrid(torch.arange(72) + 0.5, torch.arange(96) + 0.5, indexing="ij")
        for group, x in ((1, -0.5), (2, 0.5)):
            labels[((columns - 48 - 80 * (x + shift) / 3) ** 2 + (rows - 36) ** 2).sqrt() < 80 * 0.26 / 3] = group
        views.append((camera, labels))
    return splats, groups, gather_evidence(splats, groups, views)


def test_views_say_how_much_is_seen_as_what(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    splats, groups, evidence = scene
    assert evidence.num_views == 3
    assert evidence.views.tolist() == [0, 3, 3, 3]
    assert evidence.pixels.sum() == 3 * 72 * 96
    assert (evidence.own <= evidence.total + 1e-4).all()
    assert evidence.own[-4:].max() < 0.01
    assert evidence.total[-1] < 0.5  # behind the wall
    first = groups == 1
    first[-4:] = False
    front = first & (splats.means[:, 2] < 2.85)
    assert (evidence.front <= evidence.own).all()
    share = evidence.front / evidence.own.clamp_min(1e-6)
    assert share[front].median() > 0.5
    assert evidence.front[first & (splats.means[:, 2] > 3.15)].sum() < 0.01 * evidence.front[first].sum()


def test_floaters_are_found_by_what_views_show(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    splats, groups, evidence = scene
    floating = find_floaters(splats, groups, evidence)
    assert floating[-4:].all()
    assert floating.sum() <= 4 + 15  # of 500: at the edge of what is seen of a ball, tails lie on the wall
    # Also without views: crumbs apart from the rest.
    assert torch.nonzero(find_floaters(splats, groups))[:, 0].tolist() == [1400, 1401, 1402, 1403]
    # What is in no group does not float, and of what no view shows nothing is said but that.
    assert not find_floaters(splats, torch.zeros_like(groups), evidence).any()
    blind = replace(evidence, total=torch.zeros(1404), own=torch.zeros(1404))
    assert torch.equal(find_floaters(splats, groups, blind), find_floaters(splats, groups))


def test_a_part_of_its_own_is_no_floater(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    splats, groups, evidence = scene
    both = torch.where(groups == 2, 1, groups)  # two balls that are called one object
    assert not find_floaters(splats, both, replace(evidence, own=evidence.total))[:500].any()


def test_records_say_what_there_is(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    splats, groups, evidence = scene
    first, second, wall = object_records(splats, groups, evidence, {2: "jug"})
    assert [first.name, second.name, wall.name] == ["object 1", "jug", "object 3"]
    assert first.count + first.floaters == 304
    assert first.floaters >= 4
    assert first.centre == pytest.approx((-0.5, 0.0, 2.85), abs=0.05)  # the front is what views see
    assert max(first.box.half_sizes) < 0.26
    assert first.box.volume == pytest.approx(first.volume)
    assert first.low[0] == pytest.approx(-0.7, abs=0.05)
    assert first.high[0] == pytest.approx(-0.3, abs=0.05)
    assert first.color == pytest.approx((199, 199, 199), abs=1)
    assert second.color == pytest.approx((128, 128, 128), abs=1)
    assert first.views == 3
    assert first.confidence is not None
    assert 0.5 < first.confidence <= 1
    # With the floaters: what they do to a box.
    kept = object_records(splats, groups, evidence, floating=torch.zeros(len(splats), dtype=torch.bool))[0]
    assert kept.count == 304
    assert kept.floaters == 0


def test_a_faint_film_before_an_object_is_not_its_end() -> None:
    """It is all in the nearer half of pixels, and the eye puts no surface there."""
    film = ball((0.0, 0.0, 0.0), 1, 1.0, 0)
    film.means, film.scales = torch.tensor([[0.0, 0.0, 2.5]]), torch.full((1, 3), 0.1).log()
    film.opacities = torch.tensor([-2.0])
    splats = Splats.cat([ball((0.0, 0.0, 3.0), 300, 1.0, 0), film])
    labels = torch.zeros(72, 96, dtype=torch.int64)
    labels[29:43, 41:55] = 1
    camera = Camera(torch.eye(4), torch.tensor([[80.0, 0, 48], [0, 80.0, 36], [0, 0, 1]]), 96, 72)
    groups = torch.ones(301, dtype=torch.int64)
    evidence = gather_evidence(splats, groups, [(camera, labels)])
    assert evidence.front[-1] > 0.9 * evidence.own[-1] > 0.01 * evidence.own.sum()
    assert evidence.ends[-1] == 0
    assert evidence.ends.sum() == pytest.approx(14 * 14, abs=40)  # corners of the square show no ball
    (record,) = object_records(splats, groups, evidence, floating=torch.zeros(301, dtype=torch.bool))
    assert record.low[2] > 2.7
    (nearer,) = object_records(splats, groups, replace(evidence, ends=evidence.own), floating=torch.zeros(301).bool())
    assert nearer.low[2] < 2.55


def test_without_views_and_with_parents(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    splats, groups, _ = scene
    parents = torch.where(groups == 3, 7, 4)
    records = object_records(splats, groups, parents=parents, only=[1, 3])
    assert [(record.id, record.parent, record.views, record.confidence) for record in records] == [
        (1, 4, None, None),
        (3, None, None, None),
    ]
    assert records[0].box.half_sizes == pytest.approx((0.23, 0.23, 0.23), abs=0.03)


def test_rows_of_edits_take_the_evidence_along(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    evidence = scene[2]
    rows = evidence.rows(torch.tensor([5, -1, 5]))
    assert rows.own.tolist() == [float(evidence.own[5]), 0.0, float(evidence.own[5])]


def test_records_follow_the_schema(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    splats, groups, evidence = scene
    jsonschema.Draft202012Validator.check_schema(schema())
    check = jsonschema.Draft202012Validator(schema())
    listed = [record.as_dict() for record in object_records(splats, groups, evidence)]
    check.validate({"objects": listed, "views_asked": 3, "frame": "nerfstudio"})
    check.validate({"objects": [record.as_dict() for record in object_records(splats, groups)], "views_asked": None})
    assert list(check.iter_errors({"objects": [{**listed[0], "box": None}]}))
    row = object_records(splats, groups)[0].as_row()
    assert {"id", "centre_x", "extents_high_z", "box_half_sizes_y", "box_rotation_w", "dominant_color_g"} <= set(row)
    assert not [value for value in row.values() if isinstance(value, list | dict)]


def test_what_is_seen_through_a_surface_is_not_part_of_its_box() -> None:
    """A tray of many faint Gaussians, and its reflection below: as much weight as a leg would have."""
    generator = torch.Generator().manual_seed(0)
    top = torch.rand((900, 3), generator=generator) * torch.tensor([1.0, 0.6, 0.0]) - torch.tensor([0.5, 0.3, 0.0])
    below = top[::6] * 0.8 - torch.tensor([0.0, 0.0, 0.35])
    means = torch.cat([top, below])
    scales = torch.tensor([0.03, 0.03, 0.004]).log().repeat(len(means), 1)
    opacities = torch.cat([torch.full((len(top),), 0.3), torch.full((len(below),), 0.9)]).logit()
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(len(means), 1)
    splats = Splats(means, quats, scales, opacities, torch.zeros(len(means), 1, 3))
    groups = torch.ones(len(means), dtype=torch.int64)
    views = []
    for angle in torch.arange(0, 6.2, 0.7).tolist():
        at = torch.tensor([1.6 * math.cos(angle), 1.6 * math.sin(angle), 1.1])
        forward = -at / at.norm()
        right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]))
        right = right / right.norm()
        viewmat = torch.eye(4)
        viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
        viewmat[:3, 3] = -viewmat[:3, :3] @ at
        camera = Camera(viewmat, torch.tensor([[90.0, 0, 48], [0, 90.0, 36], [0, 0, 1]]), 96, 72)
        seen = composite(project_splats(splats, camera), torch.ones(len(means), 1))[..., 0]
        on_top = composite(project_splats(splats.subset(torch.arange(900)), camera), torch.ones(900, 1))[..., 0]
        views.append((camera, ((on_top > 0.5) & (seen > 0.5)).long()))
    evidence = gather_evidence(splats, groups, views)
    assert fit_box(splats, evidence.own).half_sizes[2] > 0.1, "it has weight enough to be part of a box"
    (record,) = object_records(splats, groups, evidence, floating=torch.zeros(len(means), dtype=torch.bool))
    assert 2 * record.box.half_sizes[2] < 0.1
    assert 2 * record.box.half_sizes[0] > 0.9


def test_the_surface_of_an_object_is_where_pixels_end(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    splats, groups, evidence = scene
    rows = torch.nonzero(groups == 1)[:300, 0]
    assert evidence.patches is not None
    body = Surfaces(splats, groups, evidence).of(rows, evidence.ends[rows])
    assert body is not None
    middles = torch.from_numpy(body.means) - torch.tensor([-0.5, 0.0, 3.0])
    assert ((middles.norm(dim=1) - 0.2).abs() < 0.08).all()
    assert ((middles.norm(dim=1) - 0.2).abs().median()) < 0.03
    assert (middles[:, 2] < 0.05).all(), "no view sees its back"
    assert body.spread.max() < 0.06

    # It moves with its Gaussians, also where they are turned and made larger, and is none of what no view sees.
    larger = splats.subset(rows)
    larger.means = 2 * larger.means[:, [1, 0, 2]] * torch.tensor([-1.0, 1.0, 1.0]) + 1
    larger.quats = torch.tensor([[0.5**0.5, 0, 0, 0.5**0.5]]).repeat(300, 1)
    larger.scales = larger.scales + math.log(2)
    moved = Surfaces(larger, groups[rows], evidence.rows(rows)).of(torch.arange(300), evidence.ends[rows])
    assert moved is not None
    expected = 2 * body.means[:, [1, 0, 2]] * [-1, 1, 1] + 1
    assert abs(moved.means - expected).max() < 1e-4
    assert Surfaces(splats, groups, evidence).of(torch.arange(1400, 1404), torch.ones(4)) is None
    assert Surfaces(splats, groups, replace(evidence, patches=None)).of(rows, evidence.ends[rows]) is None


def test_nothing_is_known_of_rows_of_no_gaussian(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    _, _, evidence = scene
    assert evidence.patches is not None
    seen = int(evidence.ends.argmax())
    rows = evidence.rows(torch.tensor([seen, -1]))
    assert rows.patches is not None
    assert torch.equal(rows.patches[0], evidence.patches[seen])
    assert not rows.patches[1].any()


def test_what_is_seen_as_its_neighbor_too_does_not_stretch_a_box(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    """A lump in the gap between an object and what it leans on, of which pixels of both show some."""
    splats, groups, evidence = scene
    rows = torch.nonzero(groups == 1)[:300, 0]
    low = rows[splats.means[rows, 1] < -0.05]
    own = evidence.own
    total = own.clone()
    total[low] = own[low] / 0.7
    told = replace(evidence, own=own, total=total)
    still = torch.zeros(len(splats), dtype=torch.bool)
    (whole,) = object_records(splats, groups, replace(told, total=own), floating=still, only=[1])
    (shorter,) = object_records(splats, groups, told, floating=still, only=[1])
    assert whole.low[1] < -0.17
    assert shorter.low[1] > -0.14
    assert shorter.high[1] == pytest.approx(whole.high[1], abs=0.02)
    # Where most is seen as something else, too, as of a wire, nothing else says how far it goes.
    wire = replace(told, total=own / 0.7)
    (all_of_it,) = object_records(splats, groups, wire, floating=still, only=[1])
    assert all_of_it.box == whole.box


def test_what_masks_call_its_neighbor_does_not_stretch_a_box(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    """A lump in a dark gap that covers what is behind it: pixels call it the object, and half of the masks do not."""
    splats, groups, evidence = scene
    low = torch.nonzero((groups == 1) & (splats.means[:, 1] < -0.05))[:, 0]
    still = torch.zeros(len(splats), dtype=torch.bool)

    def box(sure: torch.Tensor | None) -> Any:
        told = replace(evidence, total=evidence.own, sure=sure)
        return object_records(splats, groups, told, floating=still, only=[1])[0]

    certain = torch.full((len(splats),), 0.95)
    doubted = certain.index_fill(0, low, 0.55)
    whole, shorter = box(certain), box(doubted)
    assert whole.box == box(None).box
    assert whole.low[1] < -0.17
    assert shorter.low[1] > -0.14
    assert shorter.high[1] == pytest.approx(whole.high[1], abs=0.02)
    # Masks that are wrong half the time, of all of it or of most, say nothing of one end alone.
    assert box(torch.full_like(certain, 0.5)).box == whole.box
    most = torch.nonzero((groups == 1) & (splats.means[:, 1] < 0.08))[:, 0]
    assert box(certain.index_fill(0, most, 0.5)).box == whole.box
    rows = torch.tensor([int(low[0]), -1])
    assert evidence.sure is None
    assert evidence.rows(rows).sure is None
    told = replace(evidence, sure=doubted).rows(rows).to("cpu")
    assert told.sure is not None
    assert told.sure.tolist() == pytest.approx([0.55, 0])


def test_splitting_alone_changes_nothing_that_is_said(scene: tuple[Splats, torch.Tensor, Evidence]) -> None:
    """Halves that lie where the whole lay: the views say no more of an object because it has more Gaussians."""
    splats, groups, evidence = scene
    for split in (torch.arange(0, 300, 3), torch.arange(len(splats))):
        source = torch.cat([torch.arange(len(splats)), split])
        shared = evidence.shared(source)
        for name in ("total", "own", "front", "ends"):
            sums = torch.zeros(len(splats)).index_add_(0, source, getattr(shared, name))
            torch.testing.assert_close(sums, getattr(evidence, name))
        assert torch.equal(shared.total[split], shared.total[len(splats) :])
        assert shared.patches is not None
        assert evidence.patches is not None
        assert torch.equal(shared.patches, evidence.patches[source])
        assert torch.equal(shared.pixels, evidence.pixels)

        none = torch.zeros(len(source), dtype=torch.bool)
        before = object_records(splats, groups, evidence, floating=none[: len(splats)])
        after = object_records(splats.subset(source), groups[source], shared, floating=none)
        for old, new in zip(before, after, strict=True):
            assert new.confidence == pytest.approx(old.confidence, abs=1e-6)
            assert new.views == old.views
            assert new.centre == pytest.approx(old.centre, abs=2e-3)
            assert new.color == pytest.approx(old.color, abs=1)  # sums are rounded
    # As if halves were wholes, the views would say that all they are asked of is the object.
    double = object_records(splats.subset(source), groups[source], evidence.rows(source), floating=none)
    assert double[0].confidence == 1.0
    assert before[0].confidence is not None
    assert before[0].confidence < 0.95
