"""Boxes of objects made of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gseg_ns.objects import OrientedBox, box_iou, box_of_points, fit_box
from gseg_ns.objects.boxes import Ellipsoids, _sides, box_around, sides_around
from gseg_ns.splats import Splats

CUBE = OrientedBox((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0))


def shell(half: tuple[float, float, float], rotation: Rotation, shift: np.ndarray, count: int = 600) -> np.ndarray:
    """Points on the faces of a box."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (count, 3))
    points[np.arange(count), rng.integers(0, 3, count)] = rng.choice([-1.0, 1.0], count)
    return rotation.apply(points * half) + shift


def discs(points: np.ndarray, size: float = 0.004) -> Splats:
    count = len(points)
    return Splats(
        torch.from_numpy(points).float(),
        torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4).clone(),
        torch.full((count, 3), size).log(),
        torch.full((count,), 3.0),
        torch.zeros(count, 1, 3),
    )


@pytest.mark.parametrize("turn", [(0, 0, 0), (0, 0, 30), (40, 25, 10)], ids=["along the axes", "turned", "lying"])
def test_the_box_of_a_box_is_itself(turn: tuple[int, int, int]) -> None:
    rotation = Rotation.from_euler("xyz", turn, degrees=True)
    shift = np.array([1.0, -2.0, 0.5])
    x, y, z, w = rotation.as_quat()
    truth = OrientedBox(tuple(shift), (0.5, 0.3, 0.1), (w, x, y, z))
    points = shell((0.5, 0.3, 0.1), rotation, shift)
    assert box_iou(box_of_points(points), truth) > 0.94
    assert box_iou(fit_box(discs(points)), truth) > 0.9


def test_what_is_round_stands_along_the_axes_of_the_scene() -> None:
    angle = np.tile(np.linspace(0, 2 * np.pi, 60, endpoint=False), 2)
    points = np.stack([np.cos(angle), np.sin(angle), np.repeat([-2.0, 2.0], 60)], axis=1)
    assert box_of_points(points).rotation[0] > 0.9999


def test_a_few_stray_gaussians_do_not_stretch_a_box_and_large_ones_fill_it() -> None:
    points = shell((0.5, 0.3, 0.1), Rotation.identity(), np.zeros(3), 2000)
    strays = np.concatenate([points, [[9.0, 0, 0], [0, 9.0, 9.0]]])
    assert max(fit_box(discs(strays)).half_sizes) < 0.55
    plate = discs(np.zeros((1, 3)))
    plate.scales = torch.tensor([[1.0, 1.0, 0.01]]).log()
    half = fit_box(plate).half_sizes
    assert half[0] == pytest.approx(half[1])
    assert 1 < half[0] < 1.2
    assert half[2] == pytest.approx(half[0] / 100)


def test_volume_in_common() -> None:
    assert box_iou(CUBE, CUBE) == pytest.approx(1)
    assert box_iou(CUBE, OrientedBox((1.0, 0.0, 0.0), (1.0, 1.0, 1.0), CUBE.rotation)) == pytest.approx(1 / 3)
    assert box_iou(CUBE, OrientedBox((3.0, 0.0, 0.0), (1.0, 1.0, 1.0), CUBE.rotation)) == 0
    assert box_iou(CUBE, OrientedBox((2.0, 0.0, 0.0), (1.0, 1.0, 1.0), CUBE.rotation)) == 0
    turned = OrientedBox((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (np.cos(np.pi / 8), 0.0, 0.0, np.sin(np.pi / 8)))
    octagon = 8 * (np.sqrt(2) - 1)
    assert box_iou(CUBE, turned) == pytest.approx(octagon / (8 - octagon))


def test_a_box_moves_with_the_frame_and_knows_what_is_inside() -> None:
    box = OrientedBox((1.0, 2.0, 3.0), (0.5, 0.3, 0.1), (1.0, 0.0, 0.0, 0.0))
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    moved = box.moved(quarter, np.array([0.0, 0.0, 1.0]), 2.0)
    assert moved.centre == pytest.approx((-4.0, 2.0, 8.0))
    assert moved.half_sizes == pytest.approx((0.6, 1.0, 0.2))  # axes are named as they lie in the scene
    assert moved.volume == pytest.approx(8 * box.volume)
    assert box.contains(np.array([[1.4, 2.2, 3.0], [1.6, 2.0, 3.0]])).tolist() == [True, False]
    assert np.abs(box.corners() - box.centre).max(axis=0) == pytest.approx((0.5, 0.3, 0.1))


def test_an_object_ends_where_it_stands() -> None:
    tray = shell((0.5, 0.3, 0.02), Rotation.from_euler("z", 30, degrees=True), np.zeros(3), 2000)
    reflection = np.array([[0.1 * k, 0.0, -0.1 * k - 0.2] for k in range(-2, 3)] * 5)
    around = np.array([[0.6, 0.1 * k, -0.022 + 0.001 * (k % 2)] for k in range(12)] + [[0.0, 0.6, -0.4]])

    def ends(below: np.ndarray, contacts: np.ndarray | None, up: float = 1.0) -> tuple[float, float]:
        points = np.concatenate([tray, below]) * [1, 1, up]
        touching = None if contacts is None else contacts * [1, 1, up]
        weights = None if contacts is None else np.ones(len(contacts))
        body = Ellipsoids(points, np.zeros((len(points), 3, 3)), np.ones(len(points)), touching, weights)
        box = box_around(body, np.array([0, 0, up]))
        low, high = sides_around(body, np.array([0, 0, up]))
        assert abs(box.axes[2, 2]) > 0.99
        sizes = np.array(box.half_sizes[:2])
        assert np.sort(sizes) == pytest.approx([0.3, 0.5], abs=0.03)
        assert (low[2], high[2]) == pytest.approx(
            (box.centre[2] - box.half_sizes[2], box.centre[2] + box.half_sizes[2])
        )
        return low[2], high[2]

    assert ends(reflection, None)[0] < -0.1
    assert ends(reflection, around) == pytest.approx((-0.02, 0.02), abs=0.002)
    assert ends(reflection, around, -1.0) == pytest.approx((-0.02, 0.02), abs=0.002)
    assert ends(reflection, around[:2])[0] < -0.1, "two places are no ground"
    # What hangs below in earnest stays: a leg of a table with much on it.
    leg = np.array([[0.0, 0.0, -0.01 * k] for k in range(1, 61)])
    assert ends(leg, around)[0] < -0.4


def test_an_upright_box_stands() -> None:
    points = shell((0.5, 0.3, 0.1), Rotation.from_euler("xyz", [25, 10, 40], degrees=True), np.ones(3), 500)
    assert abs(box_of_points(points).axes[2, 2]) < 0.95
    box = box_of_points(points, upright=True)
    assert box.axes[2, 2] == pytest.approx(1)
    assert box.contains(points, 1e-9).all()


@pytest.mark.parametrize("trimmed", [0.0, 0.005, 0.3])
@pytest.mark.parametrize("kind", ["even", "uneven", "few", "none"])
def test_sides_are_where_little_enough_of_the_weight_sticks_out(trimmed: float, kind: str) -> None:
    rng = np.random.default_rng(3)
    count = 700
    spread = Rotation.random(count, random_state=0).as_matrix() * rng.exponential(0.1, (count, 1, 3))
    spread[::3, :, 0] = 0  # flat
    weights = {
        "even": np.ones(count),
        "uneven": rng.exponential(1, count) ** 4 * (rng.random(count) < 0.6),
        "few": np.where(np.arange(count) == 5, 1.0, 0.0),
        "none": np.zeros(count),
    }[kind]
    body = Ellipsoids(rng.normal(size=(count, 3)), spread, weights)
    axes = Rotation.random(70, random_state=1).as_matrix()  # more than one thread's share
    low, high = _sides(body, trimmed, axes)
    for number in (0, 69):
        for axis in range(3):
            direction = axes[number][:, axis]
            reach = np.linalg.norm(direction @ spread, axis=1)
            for sign, side in ((1, high), (-1, -low)):
                ends = sign * body.means @ direction + reach
                order = np.argsort(-ends)
                beyond = weights[order].cumsum() > trimmed * weights.sum()
                expected = ends.max() if trimmed == 0 else ends[order[beyond.argmax()]]
                assert side[number, axis] == pytest.approx(expected, rel=1e-9)
