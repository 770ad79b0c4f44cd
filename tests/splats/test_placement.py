from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch

from gseg_ns.splats import Placement, original_placement, to_original_frame
from gseg_ns.splats.placement import Axis, axis_vector, turn_between
from gseg_ns.splats.ply_header import PlyHeader, parse_header
from random_splats import make

FRAME = torch.tensor([[0.0, -1, 0, 1], [0, 0, -1, 2], [1, 0, 0, 3]])


@pytest.mark.parametrize(("start", "end"), itertools.product(get_args(Axis), repeat=2))
def test_axes_turn_into_each_other(start: Axis, end: Axis) -> None:
    turn = turn_between(start, end)
    torch.testing.assert_close(turn @ axis_vector(start), axis_vector(end))
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(turn) == pytest.approx(1)


def test_z_up_becomes_y_up_as_gltf_exporters_do() -> None:
    turned = Placement().with_up("y")
    assert (turned.rotation @ torch.tensor([1.0, 2, 3], dtype=torch.float64)).tolist() == [1, 3, -2]


def test_the_frame_of_the_capture() -> None:
    splats = make()
    placement = original_placement(FRAME, 0.5, unit=4.0)
    torch.testing.assert_close(placement.of(splats).means, to_original_frame(splats, FRAME, 0.5).means)
    # Nerfstudio's z is the capture's -y.
    assert (placement.frame, placement.meters_per_unit) == ("original", 2.0)
    up = FRAME[:, :3].T @ torch.tensor([0.0, 0, 1])
    assert torch.equal(placement.up_vector().float(), up)
    upright = placement.with_up("y").in_meters()
    torch.testing.assert_close((upright.rotation @ torch.tensor([0.0, 0, 1]).double()).tolist(), [0.0, 1.0, 0.0])
    assert (upright.scale, upright.meters_per_unit) == (4.0, 1.0)


def test_what_moves_nothing_copies_nothing() -> None:
    splats = make()
    assert Placement().of(splats) is splats
    assert Placement().with_up("z").in_meters().is_identity


@pytest.mark.parametrize("name", ["red mug", 'a/b "ü" 🫖\nformat ascii', ""])
def test_header_lines_say_what_was_written(name: str) -> None:
    placement = original_placement(FRAME, 0.5, unit=0.3).with_up("-y")
    header = PlyHeader(placement, "00ff", 7, name)
    lines = header.comments()
    assert all(line.isascii() and line.isprintable() for line in lines)
    read = parse_header(["made by somebody", *lines])
    assert (read.run, read.group, read.name) == ("00ff", 7, name)
    assert read.placement is not None
    torch.testing.assert_close(read.placement.rotation, placement.rotation)
    torch.testing.assert_close(read.placement.translation, placement.translation)
    assert read.placement.scale == pytest.approx(placement.scale)
    assert (read.placement.frame, read.placement.up) == ("original", "-y")
    assert read.placement.meters_per_unit == pytest.approx(0.15)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["object: x", "run: ../..", "from run: 1 2 3"],
        ["from run: " + "nan " * 12],
        ["from run: 0 0 0 0 0 0 0 0 0 0 0 0", 'object: 3 "'],
        ["from run: 1 0 0 0 0 -1 0 0 0 0 1 0"],
    ],
)
def test_lines_that_make_no_sense_say_nothing(lines: list[str]) -> None:
    assert parse_header(lines).placement is None
    assert parse_header(lines).run == ""


@pytest.mark.parametrize("value", ["0", "-5", "1e999", "1e-300", "nan", "inf", "--", "1e300"])
def test_a_foreign_header_says_nothing_absurd(value: str) -> None:
    whole = PlyHeader(Placement(), run="a1", group=3, name="mug").comments()
    unit = parse_header([f"unit: {value} m" if line.startswith("unit") else line for line in whole])
    assert unit.placement is not None
    assert unit.placement.meters_per_unit is None
    if value not in ("0", "-5"):
        moved = parse_header(
            [f"{line} {value}".replace(" 0 ", " ", 1) if "from run" in line else line for line in whole]
        )
        assert moved.placement is None
    other = parse_header([line.replace("frame: nerfstudio", f"frame: {value}") for line in whole])
    assert other.placement is not None
    assert other.placement.frame == "nerfstudio"
