"""Scenes in tiny units: a room whose unit is a kilometre is seen as one in metres is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.lifting.votes import view_votes
from gseg_ns.rendering import Camera
from gseg_ns.runs import load_run
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.projection import NEAR, near_of, project_splats
from gseg_ns.views import draw_view, write_views
from gseg_ns.views.places import look_along
from splats_by_hand import make_room

TINY = 1e-3


@pytest.fixture(scope="module")
def room() -> Splats:
    return make_room()


def scaled(room: Splats, factor: float) -> tuple[Splats, Camera]:
    """The room, and a camera in it."""
    view = np.eye(4)
    eye = np.array([2.0, 0.4, 1.6]) * factor
    view[:3, :3] = look_along(np.array([0.1, 1.0, -0.5]))
    view[:3, 3] = -view[:3, :3] @ eye
    K = torch.tensor([[60.0, 0, 48], [0, 60, 36], [0, 0, 1]])
    splats = replace(room, means=room.means * factor, scales=room.scales + float(np.log(factor)))
    return splats, Camera(torch.tensor(view, dtype=torch.float32), K, 96, 72)


def test_what_is_near_is_a_matter_of_units(room: Splats) -> None:
    assert near_of(room.means) == NEAR
    assert near_of(room.means * 100) == NEAR
    assert 0 < near_of(room.means * TINY) < 0.1 * TINY
    assert near_of(room.means[:0]) == near_of(torch.full((3, 3), float("nan"))) == NEAR


def test_votes_and_pictures_are_those_of_the_room_in_metres(room: Splats) -> None:
    large, small = scaled(room, 1.0), scaled(room, TINY)
    labels = torch.arange(72 * 96).reshape(72, 96) % 5
    one, other = (view_votes(project_splats(*pair), labels) for pair in (large, small))
    assert len(one.gaussians) > 1000
    assert abs(len(one.gaussians) - len(other.gaussians)) < 0.02 * len(one.gaussians)
    assert abs(float(one.weights.sum() - other.weights.sum())) < 1e-2 * float(one.weights.sum())
    pictures = [draw_view(*pair).rgb for pair in (large, small)]
    assert float((pictures[0] - pictures[1]).abs().mean()) < 0.01
    assert float(pictures[0].mean()) > 0.2


def test_models_draw_what_was_photographed(room: Splats, tmp_path: Path) -> None:
    splats, camera = scaled(room, TINY)
    write_ply(tmp_path / "room.ply", splats)
    write_views(tmp_path / "views", splats, [camera, camera], {})
    run = load_run(tmp_path / "room.ply", tmp_path / "views", allow_unfinished=True)
    drawn = run.model.picture(run.view("view_00000").camera).cpu()
    assert float((drawn - draw_view(splats, camera).rgb).abs().mean()) < 0.01
