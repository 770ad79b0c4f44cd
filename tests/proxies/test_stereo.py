"""A painted sheet over a floor, and photographs of the floor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gseg_ns.proxies.stereo import Look, corrected
from gseg_ns.proxies.stereo_kernels import confirm

SIZE = 64
VOXEL = 0.025
LENS = np.array([1.8 * SIZE, 1.8 * SIZE, SIZE / 2, SIZE / 2])
AROUND = [(math.cos(a) * math.cos(b), math.sin(a) * math.cos(b), math.sin(b))
          for b in (1.0, 1.3) for a in np.arange(6) * math.pi / 3 + b]  # fmt: skip


def pattern(places: NDArray[np.float64]) -> NDArray[np.uint8]:
    x, y = 9 * places[..., 0], 9 * places[..., 1]
    waves = np.stack([np.sin(x + 0.7 * y), np.sin(1.3 * y - 0.4 * x), np.cos(0.8 * x) * np.sin(1.1 * y)], axis=-1)
    return (127 + 100 * waves).round().astype(np.uint8)


def look(direction: tuple[float, float, float], floor: float) -> Look:
    """A view from a distance of 4, in which the Gaussians lie in z = 0 and the photograph is of z = floor."""
    towards = -np.array(direction)
    right = np.cross(towards, [0.0, 0, 1])
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.cross(towards, right), towards])
    view[2, 3] = 4
    eye = -4 * towards
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2) / LENS[0]
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ view[:3, :3]
    # A ray's third number in the camera is 1, so that what it is multiplied with is a depth.
    depth, behind = (-eye[2] / rays[..., 2]), (floor - eye[2]) / rays[..., 2]
    own = (np.abs(eye + depth[..., None] * rays)[..., :2] < 0.8).all(axis=-1)
    shown = pattern(eye + behind[..., None] * rays)
    return Look(view, LENS, np.where(own, depth, np.inf).astype(np.float32), own, shown)


def heights(looks: list[Look], depths: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """How high the middle of each view ends."""
    found = []
    for one, depth in zip(looks, depths, strict=True):
        y, x = (np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2) / LENS[0]
        inner = (slice(SIZE // 2 - 5, SIZE // 2 + 5),) * 2
        places = (np.stack([x, y, np.ones_like(x)], axis=-1) * depth[..., None])[inner] - one.view[:3, 3]
        found.append((places @ one.view[:3, :3])[..., 2])
    return np.stack(found)


def test_where_photographs_agree_on_what_is_behind_it_is_there() -> None:
    looks = [look(direction, -0.25) for direction in AROUND]
    assert np.abs(heights(looks, [one.depth for one in looks])).max() < 1e-5
    found = heights(looks, corrected(looks, np.zeros(3), VOXEL))
    np.testing.assert_allclose(np.median(found, axis=(1, 2)), -0.25, atol=VOXEL)
    assert (np.abs(found + 0.25) < 2 * VOXEL).mean() > 0.9


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_what_photographs_show_there_or_before_it_stays(floor: float) -> None:
    looks = [look(direction, floor) for direction in AROUND]
    for one, depth in zip(looks, corrected(looks, np.zeros(3), VOXEL), strict=True):
        np.testing.assert_array_equal(depth, one.depth)


def test_what_photographs_do_not_tell_stays() -> None:
    looks = [look(direction, -0.25) for direction in AROUND]
    plain = np.full((SIZE, SIZE, 3), 90, np.uint8)
    untold = [
        [replace(one, photograph=plain) for one in looks],
        [replace(one, photograph=None) for one in looks],
        looks[:2],  # no third one to compare with
        [one if k == 0 else replace(one, own=np.zeros_like(one.own)) for k, one in enumerate(looks)],
        [],
    ]
    for case in untold:
        for one, depth in zip(case, corrected(case, np.zeros(3), VOXEL), strict=True):
            np.testing.assert_array_equal(depth, one.depth)


def test_noise_says_hardly_anything() -> None:
    random = np.random.default_rng(0)
    looks = [
        replace(look(direction, -0.25), photograph=random.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8))
        for direction in AROUND
    ]
    found = heights(looks, corrected(looks, np.zeros(3), VOXEL))
    assert (np.abs(found) < 1e-5).mean() > 0.97


@pytest.mark.parametrize(
    ("others", "sure"),
    [
        ([3.0, 3.05], True),
        ([3.0, 5.0], False),  # one is too few
        ([3.0, 3.05, 5.0, 5.0, 2.0], True),  # what ends before says nothing of it
        ([3.0, 3.05, 5.0, 5.0, 5.0], False),  # most see through
        ([3.0, None, None], False),
    ],
)
def test_others_confirm_a_depth_or_see_through_it(others: list[float | None], sure: bool) -> None:
    """Pictures of one pixel by one camera; None where one shows something else."""
    depths = np.array([3.0] + [3.0 if depth is None else depth for depth in others], np.float32)
    own = np.array([True] + [depth is not None for depth in others])
    count, out, start = len(depths), np.zeros(1, np.bool_), np.zeros(1, np.int64)
    places = np.array([(k, 1, 1) for k in range(count)])
    eyes, lenses = np.tile(np.eye(4), (count, 1, 1)), np.tile([1.0, 1, 0.5, 0.5], (count, 1))
    confirm(0, 1, start, start, 0, places, eyes, eyes, lenses, depths, own, 0.1, 2, out)
    assert out[0] == sure


def test_pictures_of_other_sizes_and_of_finer_pixels_than_voxels() -> None:
    looks = [look(direction, -0.25) for direction in AROUND]
    lens = LENS.copy()
    lens[3] -= 10
    looks[0] = Look(
        looks[0].view, lens, looks[0].depth[10:], looks[0].own[10:], looks[0].photograph[10:]  # type: ignore[index]
    )  # fmt: skip
    depths = corrected(looks, np.zeros(3), VOXEL)
    assert [depth.shape for depth in depths] == [(SIZE - 10, SIZE)] + [(SIZE, SIZE)] * (len(looks) - 1)
    coarse = corrected(looks, np.zeros(3), 3 * VOXEL)
    for few in (depths, coarse):
        found = heights(looks[1:], few[1:])
        assert abs(np.median(found) + 0.25) < VOXEL
