"""A tray with a reflection below it, and views that show the tray."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gseg_ns.proxies import Seen, Sight, closed_surface
from gseg_ns.proxies.kernels import look_through
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.transform import transform

UP = torch.tensor([0.0, 0, 1])
HERE = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 1.0


def tray(faint: float = 0.36) -> Splats:
    """Flat Gaussians side by side: a square that covers `faint` of what is below, and its reflection, opaque."""
    along = torch.linspace(-1, 1, 41)
    places = torch.cartesian_prod(along, along)
    above = torch.cat([places, torch.zeros(len(places), 1)], dim=1)
    means = torch.cat([above - torch.tensor([0.0, 0, depth]) for depth in (0.0, 0.3, 0.5)])
    # Over each place their bells add up to 2 pi.
    each = 1 - (1 - faint) ** (1 / (2 * math.pi))
    opacities = torch.cat([torch.full((len(places),), each), torch.full((2 * len(places),), 0.9)])
    return Splats(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(len(means), 1),
        scales=torch.tensor([0.05, 0.05, 0.002]).log().repeat(len(means), 1),
        opacities=opacities.logit(),
        sh=torch.zeros(len(means), 1, 3),
    )


def view_of_tray(direction: list[float], name: int = 7, size: int = 96) -> Sight:
    """What a camera at a distance of 6 sees of it and of nothing else."""
    towards = -torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(towards, torch.eye(3, dtype=torch.float64)[int(towards.abs().argmin())]), dim=0
    )
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.stack([right, torch.linalg.cross(towards, right), towards])
    matrix[2, 3] = 6
    K = torch.tensor([[1.8 * size, 0, size / 2], [0, 1.8 * size, size / 2], [0, 0, 1]])
    y, x = (np.mgrid[:size, :size] + 0.5 - size / 2) / (1.8 * size)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix[:3, :3].numpy()
    eye = -6 * towards.numpy()
    places = eye - eye[2] / rays[..., 2:] * rays
    hit = (np.abs(places[..., :2]) < 1.05).all(axis=-1)
    labels = np.where(hit, name, 0).astype(np.int32)
    return Sight(Camera(matrix, K, size, size), labels, np.full(labels.shape, np.inf, np.float32))


AROUND = tuple(
    view_of_tray([math.cos(a) * math.cos(b), math.sin(a) * math.cos(b), math.sin(b)])
    for b in (0.6, 1.2)
    for a in np.arange(6) * math.pi / 3 + b
)


def top(seen: Seen | None, splats: Splats | None = None) -> float:
    """How high most of the upper side is."""
    mesh = closed_surface(splats or tray(), UP, resolution=48, seen=seen)
    assert mesh.is_closed()
    upper = mesh.vertices[mesh.faces[mesh.normals()[:, 2] > 0.9]][:, 0]
    inner = upper[(np.abs(upper[:, :2]) < 0.7).all(axis=1)]
    return float(np.median(inner[:, 2]))


def test_a_surface_is_behind_what_is_painted_over_it_where_photographs_say_so() -> None:
    """Opaque Gaussians at two heights; photographs show a pattern that lies on the lower."""
    splats, seen = tray(0.99), {}
    for height in (0.0, -0.3):
        sights = []
        for sight in AROUND:
            view = sight.camera.viewmat.double().numpy()
            size, focal = sight.camera.width, float(sight.camera.K[0, 0])
            y, x = (np.mgrid[:size, :size] + 0.5 - size / 2) / focal
            rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ view[:3, :3]
            eye = -view[:3, :3].T @ view[:3, 3]
            x, y = np.moveaxis(8 * (eye + ((height - eye[2]) / rays[..., 2])[..., None] * rays)[..., :2], -1, 0)
            waves = np.stack([np.sin(x + 0.7 * y), np.sin(1.3 * y - 0.4 * x), np.cos(0.8 * x)], axis=-1)
            sights.append(replace(sight, photograph=(127 + 100 * waves).round().astype(np.uint8)))
        seen[height] = Seen(tuple(sights), 7, *HERE)
    assert abs(top(Seen(AROUND, 7, *HERE), splats)) < 0.03
    for height, sees in seen.items():
        assert abs(top(sees, splats) - height) < 0.05


def test_a_faint_surface_before_its_reflection_is_where_views_show_it() -> None:
    assert top(None) < -0.25
    assert abs(top(Seen(AROUND, 7, *HERE))) < 0.03
    # What these views call something else is not it.
    assert top(Seen(AROUND, 8, *HERE)) < -0.25


@pytest.mark.parametrize("scale", [0.2, 1.0, 30.0])
def test_the_same_surface_wherever_a_file_has_it(scale: float) -> None:
    rotation = torch.from_numpy(Rotation.from_euler("z", 90, degrees=True).as_matrix())
    shift = torch.tensor([3.0, -4, 5], dtype=torch.float64)
    there = transform(tray(), rotation, shift, scale)
    here = closed_surface(tray(), UP, resolution=32, seen=Seen(AROUND, 7, *HERE))
    moved = closed_surface(there, UP, resolution=32, seen=Seen(AROUND, 7, rotation, shift, scale))
    assert moved.volume == pytest.approx(scale**3 * here.volume, rel=0.01)
    middle = scale * here.vertices.mean(axis=0) @ rotation.numpy().T + shift.numpy()
    np.testing.assert_allclose(moved.vertices.mean(axis=0), middle, atol=0.03 * scale)


def test_views_see_past_an_object_but_not_through_what_is_before_it() -> None:
    sight = view_of_tray([1, 0, 0])
    shape = sight.labels.shape
    for depth, free in ((np.inf, True), (4.0, False)):
        wall = Sight(sight.camera, np.full(shape, 9, np.int32), np.full(shape, depth, np.float32))
        field, known = Seen((wall,), 7, *HERE).look(tray(), np.full(3, -1.0), 0.25, 8, 0.3)
        assert known.all() == free
        assert (field[known] > 0).all()
        assert (field[~known] == -1).all()


def test_what_a_view_says_of_voxels_along_its_axis() -> None:
    """The object's surface is 3 away: before it is air, right behind it is solid, farther behind nothing is said."""
    sums, weights = np.zeros((1, 1, 8), np.float32), np.zeros((1, 1, 8), np.float32)
    depths, lens = np.full((1, 1), 3.0, np.float32), np.array([1.0, 1, 0.5, 0.5])
    middles = 0.5 + 0.5 * (np.arange(8) + 0.75)
    origin = np.array([-0.25, -0.25, 0.625])
    for own, last in ((True, 3.5), (False, 3.0)):
        sums[:], weights[:] = 0, 0
        look_through(0, 1, origin, 0.5, np.eye(4), lens, depths, np.full((1, 1), own), 0.5, sums, weights)
        np.testing.assert_array_equal(weights[0, 0], middles < last)
        expected = np.where(middles < last, ((3 - middles) / 0.5).clip(-1, 1), 0)
        np.testing.assert_allclose(sums[0, 0], expected, atol=1e-6)
