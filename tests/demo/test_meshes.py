from __future__ import annotations

import numpy as np
import pytest

from gseg_ns.demo.meshes import Mesh, corner_normals, cylinder, prism, revolved, rod, rounded_box, sphere, torus
from gseg_ns.demo.objects import BUILDERS, Paint

L_SHAPE = [(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (1.0, 1.0), (1.0, 2.0), (0.0, 2.0)]
MESHES = {
    "sphere": (sphere(0.5, 80), 4 / 3 * np.pi * 0.125),
    "cylinder": (cylinder(0.5, 1.0), np.pi * 0.25),
    "frustum": (cylinder(0.5, 1.0, 0.25), np.pi / 3 * (0.25 + 0.125 + 0.0625)),
    "torus": (torus(0.5, 0.1), 2 * np.pi**2 * 0.5 * 0.01),
    "arc": (torus(0.5, 0.1, 0.0, np.pi), np.pi**2 * 0.5 * 0.01),
    "rod": (rod((0, 0, 0), (1, 2, 2), 0.1), np.pi * 0.03),
    "box": (rounded_box((1.0, 2.0, 3.0), 0.001), 6.0),
    "prism": (prism(L_SHAPE, 1.0, 0.001), 3.0),
    "cup": (revolved([(0, 0), (0.5, 0), (0.5, 1), (0.4, 1), (0.4, 0.1), (0, 0.1)]), np.pi * (0.25 - 0.16 * 0.9)),
}


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.triangles].transpose(1, 0, 2)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def is_closed(mesh: Mesh) -> bool:
    edges = mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    directed = {(int(a), int(b)) for a, b in edges}
    return len(directed) == len(edges) and all((b, a) in directed for a, b in directed)


@pytest.mark.parametrize("name", MESHES)
def test_mesh_is_closed_and_has_its_volume(name: str) -> None:
    mesh, expected = MESHES[name]
    assert is_closed(mesh)
    assert volume(mesh) == pytest.approx(expected, rel=0.035)


def test_sphere_normals_point_away_from_the_centre() -> None:
    mesh = sphere(1.0)
    cosine = (corner_normals(mesh) * mesh.vertices[mesh.triangles]).sum(axis=-1)
    assert cosine.min() > 0.99


def test_sharp_edges_stay_sharp() -> None:
    mesh = prism([(0, 0), (1, 0), (1, 1), (0, 1)], 1.0, 0.2)
    normals = corner_normals(mesh)
    a, b, c = mesh.vertices[mesh.triangles].transpose(1, 0, 2)
    top = (mesh.vertices[mesh.triangles][..., 2] > 0.999).all(axis=1)
    assert top.sum() == 2
    assert np.cross(b - a, c - a)[top][:, 2].min() > 0
    # The bevel's first facet leaves the cap at 23 degrees and joins it; the next, past the crease angle, does not.
    assert normals[top][..., 2].min() > 0.9


def test_crossing_outline_is_refused() -> None:
    with pytest.raises(ValueError, match="not simple"):
        prism([(0, 0), (0, 1), (1, 1), (1, 0)], 1.0)


@pytest.mark.parametrize("category", sorted(BUILDERS))
def test_models_are_made_of_closed_parts(category: str) -> None:
    model = BUILDERS[category](Paint(np.random.default_rng(3)))
    assert model.category == category
    for part in model.parts:
        assert is_closed(part.mesh), part.name
        assert volume(part.mesh) > 0, part.name
    vertices = np.concatenate([part.mesh.vertices for part in model.parts])
    assert abs(vertices[:, 2].min()) < 0.01
    if model.top is not None:
        assert vertices[:, 2].max() == pytest.approx(model.top[0], abs=2e-3)
