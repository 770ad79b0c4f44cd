from __future__ import annotations

import numpy as np
import pytest

from gseg_ns.splats import Splats
from gseg_ns.views.solids import body_of, voxelize
from gseg_ns.views.upright import Frame, find_frame


def frame_of(splats: Splats) -> Frame:
    solids = voxelize(body_of(splats), 0.05, 44)
    return find_frame(solids.points(np.argwhere(solids.solid)), solids.voxel)


def test_the_floor_of_a_room_tells_up(room: Splats) -> None:
    frame = frame_of(room)
    assert frame.is_certain
    assert frame.reason == "the floor"
    assert frame.up[2] > np.cos(np.radians(2))


def test_where_no_layer_stands_out_up_is_a_guess() -> None:
    """A fog, as trainings from random points leave it, has a fullest layer, too."""
    points = np.random.default_rng(0).normal(size=(30_000, 3)) * [1.3, 1.0, 0.8]
    frame = find_frame(points, 0.05)
    assert not frame.is_certain
    assert frame.up == pytest.approx([0, 0, 1])
    assert "no layer stands out" in frame.reason


def test_a_floor_below_a_fog_still_tells_up(room: Splats) -> None:
    solids = voxelize(body_of(room), 0.05, 44)
    points = solids.points(np.argwhere(solids.solid))
    fog = np.random.default_rng(0).uniform([0, 0, 0], [4, 4, 2.4], size=(len(points) // 2, 3))
    frame = find_frame(np.concatenate([points, fog]), solids.voxel)
    assert frame.is_certain
    assert frame.up[2] > np.cos(np.radians(3))
