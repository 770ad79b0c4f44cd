from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from gseg_ns.demo.layout import Layout, PlacedObject, hull_gap, make_layout


def world_vertices(item: PlacedObject) -> np.ndarray:
    return np.concatenate([part.mesh.vertices for part in item.model.parts]) @ item.rotation.T + item.position


def intersecting(layout: Layout) -> list[tuple[int, int]]:
    """Pairs of objects of which one has surface points inside the other; independent of the outlines used to place."""
    import open3d as o3d

    found = []
    for a, b in itertools.permutations(layout.objects, 2):
        vertices = world_vertices(a)
        other = world_vertices(b)
        low, high = other.min(axis=0), other.max(axis=0)
        if (vertices.max(axis=0) < low).any() or (vertices.min(axis=0) > high).any():
            continue
        triangles = [part.mesh.vertices[part.mesh.triangles] @ a.rotation.T + a.position for part in a.model.parts]
        corners = np.concatenate(triangles)
        samples = np.concatenate(
            [corners.mean(axis=1), *np.moveaxis(0.9 * corners + 0.1 * corners.mean(1)[:, None], 1, 0)]
        )
        samples = samples[((samples > low) & (samples < high)).all(axis=1)]
        if not len(samples):
            continue
        for part in b.model.parts:
            scene = o3d.t.geometry.RaycastingScene()
            mesh = part.mesh.moved(b.position, b.rotation)
            scene.add_triangles(mesh.vertices.astype(np.float32), mesh.triangles.astype(np.uint32))
            if scene.compute_occupancy(o3d.core.Tensor(samples.astype(np.float32))).numpy().any():
                found.append((a.object_id, b.object_id))
    return found


@pytest.mark.parametrize(("num_objects", "seed"), [(12, 0), (12, 1), (40, 2)])
def test_no_two_objects_intersect(num_objects: int, seed: int) -> None:
    assert intersecting(make_layout(num_objects, seed)) == []


def test_an_intersection_would_be_found() -> None:
    layout = make_layout(12)
    crate, ball = layout.objects[3], layout.objects[6]
    moved = replace(ball, position=crate.position + np.array([0.2, 0.0, 0.0]))
    assert (7, 4) in intersecting(replace(layout, objects=(*layout.objects[:6], moved)))


@pytest.mark.parametrize("num_objects", [1, 6, 100, 500])
def test_every_object_gets_a_place(num_objects: int) -> None:
    layout = make_layout(num_objects)
    assert [item.object_id for item in layout.objects] == list(range(1, num_objects + 1))
    standing = [item for item in layout.objects if item.support == 0]
    for item in layout.objects:
        vertices = world_vertices(item)
        assert np.abs(vertices[:, :2]).max() < layout.half_size - 0.5
        if item.support == 0:
            assert abs(vertices[:, 2].min()) < 1e-6
    centres = np.stack([item.position[:2] for item in standing])
    for k, item in enumerate(standing):
        near = np.flatnonzero(np.linalg.norm(centres[k + 1 :] - centres[k], axis=1) < 1.0) + k + 1
        assert all(hull_gap(item.hull, standing[j].hull) > 0 for j in near)


def test_small_rooms_have_copies_contacts_and_stacks() -> None:
    layout = make_layout(12)
    objects = layout.objects
    copies = [item for item in objects if item.copy_of is not None]
    assert {item.model.category for item in copies} == {"stool", "mug"}
    assert all(item.model is objects[item.copy_of - 1].model for item in copies if item.copy_of is not None)
    stacked = [item for item in objects if item.support != 0]
    assert stacked
    for item in stacked:
        below = world_vertices(objects[item.support - 1])
        assert world_vertices(item)[:, 2].min() == pytest.approx(below[:, 2].max(), abs=3e-3)
    floor = [item for item in objects if item.support == 0]
    gaps = [hull_gap(a.hull, b.hull) for a, b in itertools.combinations(floor, 2)]
    assert min(gaps) == pytest.approx(0.001, abs=1e-6)


def test_seed_decides() -> None:
    first, second, other = make_layout(20, 5), make_layout(20, 5), make_layout(20, 6)
    assert all(np.array_equal(a.position, b.position) for a, b in zip(first.objects, second.objects, strict=True))
    assert not np.array_equal(first.objects[0].position, other.objects[0].position)


def test_hull_gap_is_the_distance_between_facing_edges() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert hull_gap(square, square + np.array([1.5, 0.2])) == pytest.approx(0.5)
    assert hull_gap(square, square + np.array([0.75, 0.1])) == pytest.approx(-0.25)


def test_empty_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        make_layout(0)
