from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gseg_ns.errors import GsegError
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats
from gseg_ns.splats.transform import transform
from gseg_ns.views import ViewOptions, ViewPlan, choose_views, choosing, draw_view
from gseg_ns.views.places import Places
from gseg_ns.views.solids import Body, Solids
from gseg_ns.views.upright import Frame
from splats_by_hand import SMALL, THINGS, ball, box, make_room, sheet


def centres(cameras: list[Camera]) -> np.ndarray:
    return np.array([torch.linalg.inv(camera.viewmat.double())[:3, 3].numpy() for camera in cameras])


def seen_parts(splats: Splats, cameras: list[Camera], label: int) -> np.ndarray:
    """How many views see each Gaussian of a thing but for its bottom: it lies where the view draws one."""
    means = splats.means[(splats.extra["label"] == label) & (splats.means[:, 2] > 0.02)]
    counts = np.zeros(len(means), int)
    for camera in cameras:
        drawn = draw_view(splats, camera)
        local = means @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
        pixel = local @ camera.K.T
        column, row = (pixel[:, :2] / pixel[:, 2:].clamp_min(1e-6)).floor().long().unbind(1)
        inside = (local[:, 2] > 0.01) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        depth = drawn.depth[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
        counts += (inside & (local[:, 2] < depth + 0.08)).numpy()
    return counts


def test_a_room_is_seen_from_within_its_free_space(room: Splats, room_plan: ViewPlan) -> None:
    assert room_plan.kind == "room"
    assert len(room_plan.cameras) == SMALL.count
    places = centres(room_plan.cameras)
    assert (places > 0.1).all()
    assert (places < [3.9, 3.9, 2.4]).all()
    for low, high in THINGS.values():
        assert not ((places > np.array(low) - 0.05) & (places < np.array(high) + 0.05)).all(axis=1).any()


def test_up_is_where_the_floor_is_not(room_plan: ViewPlan) -> None:
    assert room_plan.up[2] > np.cos(np.radians(2))
    assert room_plan.up_is_certain
    for camera in room_plan.cameras:  # down in the picture is down in the room, nothing is tilted
        assert camera.viewmat[1, 2] <= 0
        assert abs(float(camera.viewmat[0, 2])) < 0.05


@pytest.mark.parametrize("thing", list(THINGS))
def test_every_thing_is_seen(room: Splats, room_plan: ViewPlan, thing: int) -> None:
    assert (seen_parts(room, room_plan.cameras, thing) >= 1).mean() > 0.9


def test_equal_splats_give_equal_cameras(room: Splats, room_plan: ViewPlan) -> None:
    few = choose_views(room.clone(), replace(SMALL, count=3))
    for one, other in zip(few.cameras, room_plan.cameras, strict=False):
        assert torch.equal(one.viewmat, other.viewmat)


def test_a_room_that_is_turned_scaled_and_moved_is_the_same_room(room: Splats) -> None:
    turn = Rotation.from_euler("xyz", [37, -52, 110], degrees=True).as_matrix()
    moved = transform(room, torch.tensor(turn), torch.tensor([5.0, -3.0, 9.0]), 7.0)
    plan = choose_views(moved, SMALL)
    assert plan.kind == "room"
    assert plan.up_is_certain
    up = turn.T @ np.array(plan.up)
    assert up[2] > np.cos(np.radians(2))
    places = (centres(plan.cameras) - [5.0, -3.0, 9.0]) @ turn / 7
    assert (places > 0.1).all()
    assert (places < [3.9, 3.9, 2.4]).all()
    back = []
    for camera in plan.cameras:
        view = camera.viewmat.clone()
        view[:3, 3] = (view[:3, :3] @ torch.tensor([5.0, -3.0, 9.0]) + view[:3, 3]) / 7
        view[:3, :3] = view[:3, :3] @ torch.tensor(turn).float()
        back.append(Camera(view, camera.K, camera.width, camera.height))
    for thing in THINGS:
        assert (seen_parts(room, back, thing) >= 1).mean() > 0.7


def test_a_thing_alone_is_seen_from_all_around_and_up_is_said_to_be_a_guess() -> None:
    plan = choose_views(ball(), SMALL)
    assert plan.kind == "object"
    assert not plan.up_is_certain
    ways = centres(plan.cameras)
    length = np.linalg.norm(ways, axis=1)
    assert (length > 0.55).all()
    directions = ways / length[:, None]
    # No half of the sphere is left out.
    assert (directions.max(axis=0) > 0.3).all()
    assert (directions.min(axis=0) < -0.3).all()
    for camera in plan.cameras:
        assert 0.05 < float(draw_view(ball(), camera).alpha.mean()) < 0.95


def test_an_up_that_is_given_is_taken(room: Splats) -> None:
    plan = choose_views(ball(), replace(SMALL, count=2, up=(0.0, -2.0, 0.0)))
    assert plan.up == pytest.approx((0, -1, 0))
    assert plan.up_is_certain


def test_a_far_background_does_not_change_where_cameras_are(room: Splats) -> None:
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(1500, 3))
    ways *= 60 / np.linalg.norm(ways, axis=1, keepdims=True)
    sky = sheet([0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.3, 0.9])
    far = sky.subset(torch.arange(1500) % len(sky))
    far.means[:] = torch.tensor(ways, dtype=torch.float32)
    far.scales[:] = 1.0
    far.extra["label"] = torch.zeros(1500, dtype=torch.long)
    plan = choose_views(Splats.cat([room, far]), replace(SMALL, count=4))
    assert plan.kind == "room"
    places = centres(plan.cameras)
    assert (places > 0.1).all()
    assert (places < [3.9, 3.9, 2.4]).all()


def test_pictures_look_at_things_and_not_at_the_blur_above_them(room: Splats) -> None:
    """Trainings leave coarse Gaussians below a ceiling that no photograph shows."""
    angle = torch.arange(16) / 16 * 2 * torch.pi
    blur = sheet([0, 0, 0], [0.4, 0, 0], [0, 0.4, 0], [0.5, 0.5, 0.5])
    assert len(blur) == len(angle)
    blur.means[:] = torch.stack([2 + 1.7 * angle.cos(), 2 + 1.7 * angle.sin(), 2 + 0.3 * (3 * angle).sin()], dim=1)
    blur.scales[:] = np.log(0.2)
    blur.extra["label"] = torch.zeros(len(blur), dtype=torch.long)
    plan = choose_views(Splats.cat([room, blur]), replace(SMALL, count=8))
    assert plan.kind == "room"
    rises = [float(camera.viewmat[2, 2]) for camera in plan.cameras]
    assert np.degrees(np.arcsin(rises)).mean() < -25


def test_both_rooms_of_a_flat_are_looked_into() -> None:
    """A door leads from one to the other."""
    other = transform(make_room(), torch.eye(3), torch.tensor([4.0, 0.0, 0.0]))
    flat = Splats.cat([make_room(), other])
    x, y, z = flat.means.unbind(1)
    flat = flat.subset(~(((x - 4).abs() < 0.02) & ((y - 2).abs() < 0.5) & (z < 2)))
    plan = choose_views(flat, replace(SMALL, count=8))
    assert plan.kind == "room"
    first = centres(plan.cameras)[:, 0] < 4
    assert 2 <= int(first.sum()) <= 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ViewOptions(count=0), "--count is 0"),
        (ViewOptions(fov=170), "--fov is 170"),
        (ViewOptions(width=2), "--width is 2"),
        (ViewOptions(up=(0.0, 0.0, 0.0)), "--up has no direction"),
    ],
)
def test_options_that_cannot_be_are_one_message(options: ViewOptions, message: str) -> None:
    with pytest.raises(GsegError, match=message):
        choose_views(ball(), options)


def test_a_splat_of_nothing_is_one_message() -> None:
    with pytest.raises(GsegError, match="too few"):
        choose_views(ball(count=20))
    faint = ball()
    faint.opacities[:] = -1.9
    faint.scales[:] = -9.0
    faint = faint.subset(torch.arange(60))
    faint.means[:] *= 100
    with pytest.raises(GsegError, match="--cameras"):
        choose_views(faint)


def make_fog() -> Splats:
    """As trainings leave it on all sides but those that photographs were taken from."""
    rng = np.random.default_rng(0)
    fog = ball(count=6000)
    ways = rng.normal(size=(len(fog), 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    fog.means[:] = torch.tensor(ways * rng.uniform(0.8, 4, (len(fog), 1)), dtype=torch.float32)
    fog.scales[:], fog.opacities[:] = np.log(0.15), -1.5
    return fog


def test_a_fog_is_refused_and_not_photographed() -> None:
    with pytest.raises(GsegError, match=r"a fog from .*--cameras"):
        choose_views(make_fog(), replace(SMALL, count=4, kind="room"))


@pytest.fixture(scope="module")
def one_sided() -> Splats:
    """A shelf on a wall that was photographed from +x, and the fog that a training leaves on the other sides."""
    fog = make_fog()
    wall = sheet([0, -1.5, -1.5], [0, 3, 0], [0, 0, 3], [0.7, 0.7, 0.8])
    shelf = box([0.1, -0.4, -0.4], [0.5, 0.4, 0.3], [0.9, 0.3, 0.2])
    return Splats.cat([fog.subset(fog.means[:, 0] < 0.1), wall, shelf])


def looks_at_the_shelf(plan: ViewPlan) -> bool:
    forwards = np.array([camera.viewmat[2, :3].numpy() for camera in plan.cameras])
    return bool((centres(plan.cameras)[:, 0] > 0.5).all() and (forwards[:, 0] < -0.5).all())


def test_what_was_photographed_from_one_side_is_looked_at_from_there(one_sided: Splats) -> None:
    plan = choose_views(one_sided, replace(SMALL, count=8, kind="focus"))
    assert plan.kind == "focus"
    assert len(plan.cameras) == 8
    assert looks_at_the_shelf(plan)


def test_a_room_that_is_a_fog_is_looked_at_from_where_it_is_none(
    one_sided: Splats, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = choosing._find

    def a_room_behind(body: Body, options: ViewOptions, tell: choosing.Tell) -> Iterator[tuple[Frame, Solids, Places]]:
        frame, solids, places = next(find(body, replace(options, kind="room"), tell))
        behind = np.flatnonzero(places.positions @ frame.turn[:, 0] < -0.5)
        turns = [places.turns[place] for place in behind]
        yield frame, solids, replace(places, positions=places.positions[behind], turns=turns)

    monkeypatch.setattr(choosing, "_find", a_room_behind)
    plan = choose_views(one_sided, replace(SMALL, count=8))
    assert plan.kind == "focus"
    assert looks_at_the_shelf(plan)


def test_a_thing_amid_a_coarse_background_is_looked_at_from_within_it() -> None:
    """As photographs of one thing leave it: from outside of what is behind it, that is all one would see."""
    rng = np.random.default_rng(0)
    behind = ball(count=60)
    ways = rng.normal(size=(len(behind), 3))
    behind.means[:] = torch.tensor(6 * ways / np.linalg.norm(ways, axis=1, keepdims=True), dtype=torch.float32)
    behind.scales[:], behind.opacities[:] = 0.0, 3.0
    plan = choose_views(Splats.cat([ball(), behind]), replace(SMALL, count=6))
    assert plan.kind == "focus"
    places = np.linalg.norm(centres(plan.cameras), axis=1)
    assert ((places > 0.25) & (places < 3)).all()
    alone = choose_views(ball(), replace(SMALL, count=2))
    assert alone.kind == "object"


@pytest.mark.parametrize("captured", [0, 3000])
def test_a_hollow_thing_that_was_cut_out_is_no_room(captured: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mug: from within it all is fog, as in a room of which no photograph was taken."""
    choose = choosing._Planner.choose

    def dark(planner: Any, tell: choosing.Tell) -> list[Any]:
        planner.met_fog = planner._places.kind == "room"
        return [] if planner.met_fog else choose(planner, tell)

    monkeypatch.setattr(choosing._Planner, "choose", dark)
    monkeypatch.setattr(choosing, "_CAPTURED", captured)
    assert choose_views(ball(count=2500), replace(SMALL, count=2)).kind == ("object" if captured else "focus")


@pytest.mark.parametrize("why", ["no place", "no picture", "fog"])
def test_where_nothing_is_amid_a_background_it_is_one_thing_but_not_a_fog(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "_BACKGROUND", -1)
    amid, choose = choosing._focus, choosing._Planner.choose

    def nowhere(*given: Any) -> Places:
        places = amid(*given)
        return replace(places, positions=places.positions[:0], turns=[])

    def none(planner: Any, tell: choosing.Tell) -> list[Any]:
        if planner._places.kind != "focus":
            return choose(planner, tell)
        planner.met_fog = why == "fog"
        return []

    if why == "no place":
        monkeypatch.setattr(choosing, "_focus", nowhere)
    else:
        monkeypatch.setattr(choosing._Planner, "choose", none)
    if why == "fog":
        with pytest.raises(GsegError, match="fog"):
            choose_views(ball(), replace(SMALL, count=2))
    else:
        assert choose_views(ball(), replace(SMALL, count=2)).kind == "object"


def test_antialiased_splats_are_drawn_so() -> None:
    splats = ball()
    camera = choose_views(splats, replace(SMALL, count=1)).cameras[0]
    thin = replace(splats, scales=splats.scales - 3)
    soft = replace(thin, rasterize_mode="antialiased")
    assert float(draw_view(soft, camera).alpha.sum()) < 0.9 * float(draw_view(thin, camera).alpha.sum())
    assert project_splats(soft, camera)["opacities"].sum() < project_splats(thin, camera)["opacities"].sum()
