from __future__ import annotations

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.rendering import Camera, dominant_labels
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats
from gseg_ns.views.orbit import Orbit, Thing, is_cut_off, orbit, thing_of, up_of
from gseg_ns.views.places import look_along
from splats_by_hand import THINGS


def clicked(eye: list[float], thing: int) -> Camera:
    """A camera that looks at a thing."""
    middle = np.mean(THINGS[thing], axis=0)
    view = np.eye(4)
    view[:3, :3] = look_along(middle - np.array(eye))
    view[:3, 3] = -view[:3, :3] @ np.array(eye)
    K = torch.tensor([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])
    return Camera(torch.tensor(view, dtype=torch.float32), K, 128, 96)


def mask_of(room: Splats, camera: Camera, thing: int) -> torch.Tensor:
    labels = room.extra["label"].long() + 1
    return dominant_labels(project_splats(room, camera), labels)[0] == thing + 1


def places(found: Orbit) -> list[np.ndarray]:
    return [
        np.array([torch.linalg.inv(camera.viewmat.double())[:3, 3].numpy() for camera in way]) for way in found.ways
    ]


@pytest.mark.parametrize("thing", [1, 2, 3])
def test_both_ways_around_a_thing_see_it(room: Splats, thing: int) -> None:
    camera = clicked([2.0, 2.0, 1.4], thing)
    found = orbit(room, camera, mask_of(room, camera, thing), np.array([0.0, 0, 1]), count=12)
    ways = places(found)
    assert sum(len(way) for way in ways) >= 8
    for way, cameras in zip(ways, found.ways, strict=True):
        # Inside of the room, or over its walls: from behind one nothing of it is seen.
        within = ((way[:, :2] > 0) & (way[:, :2] < 4)).all(axis=1)
        assert bool((within | (way[:, 2] > 2.3)).all())
        assert bool((way[:, 2] > 0).all())
        for one in cameras:
            assert (one.width, one.height) == (128, 96)
            assert float(mask_of(room, one, thing).float().mean()) > 0.02
    middle = np.mean(THINGS[thing], axis=0)
    assert np.linalg.norm(np.array(found.centre) - middle) < 0.4
    # One to the left, one to the right.
    forward = middle - np.array([2.0, 2.0, 1.4])
    sides = [float(np.cross(forward[:2], (way[0] - middle)[:2])) for way in ways]
    assert sides[0] * sides[1] < 0


def test_it_begins_beside_the_view(room: Splats) -> None:
    camera = clicked([2.0, 2.0, 1.4], 2)
    mask = mask_of(room, camera, 2)
    found = orbit(room, camera, mask, np.array([0.0, 0, 1]), count=24)
    eye = np.array([2.0, 2.0, 1.4])
    for way in places(found):
        steps = np.linalg.norm(np.diff(np.concatenate([eye[None], way]), axis=0), axis=1)
        assert steps[0] < 0.6
    again = orbit(room, camera, mask, np.array([0.0, 0, 1]), count=24)
    assert all(torch.equal(a.viewmat, b.viewmat) for a, b in zip(found.ways[0], again.ways[0], strict=True))


def test_up_is_that_of_the_floor(room: Splats) -> None:
    assert float(up_of(room, clicked([2.0, 2.0, 1.4], 1))[2]) > 0.99


def test_a_mask_of_nothing_is_told(room: Splats) -> None:
    camera = clicked([2.0, 2.0, 1.4], 1)
    with pytest.raises(GsegError, match="shows nothing"):
        orbit(room, camera, torch.zeros(96, 128, dtype=torch.bool), np.array([0.0, 0, 1]))


def test_a_thing_that_is_given_is_looked_at_from_as_far_as_it_asks(room: Splats) -> None:
    camera = clicked([2.0, 2.0, 1.4], 2)
    mask = mask_of(room, camera, 2)
    thing = thing_of(room, camera, mask)
    up = np.array([0.0, 0, 1])
    own, same = (orbit(room, camera, mask, up, 6, thing=one) for one in (None, thing))
    assert all(torch.equal(a.viewmat, b.viewmat) for a, b in zip(own.ways[0], same.ways[0], strict=True))
    farther = orbit(room, camera, mask, up, 6, thing=Thing(thing.centre, 1.5 * thing.radius))
    ends = [np.linalg.norm(places(found)[0][-1] - thing.centre) for found in (own, farther)]
    assert ends[1] > 1.2 * ends[0]


def test_what_reaches_out_of_most_pictures_is_cut_off() -> None:
    whole, cut = torch.zeros(20, 30, dtype=torch.bool), torch.zeros(20, 30, dtype=torch.bool)
    whole[5:10, 5:10] = True
    cut[12:, 5:8] = True
    nothing = torch.zeros(20, 30, dtype=torch.bool)
    assert not is_cut_off([whole, cut, nothing])
    assert is_cut_off([whole, cut, cut, nothing, nothing])
    assert not is_cut_off([nothing])
