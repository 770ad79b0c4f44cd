from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gseg_ns.proxies import closed_surface, convex_hull, convex_pieces, make_proxy, upright_box
from gseg_ns.proxies.surface import _Grid, _mesh, _without_corners_that_touch, _without_gaps
from gseg_ns.splats import Placement, Splats, write_objects
from gseg_ns.splats.mesh import TriangleMesh
from gseg_ns.splats.objects import Proxies

UP = torch.tensor([0.0, 0, 1])


def ball(count: int = 3000, radius: float = 1.0) -> Splats:
    """Flat opaque Gaussians on a sphere, as training leaves them on a surface."""
    g = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    # From z to the normal, the shortest way.
    quats = torch.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], torch.zeros(count)], dim=1)
    return Splats(
        means=radius * normals,
        quats=quats,
        scales=(radius * torch.tensor([0.06, 0.06, 0.004])).log().repeat(count, 1),
        opacities=torch.full((count,), 4.0),
        sh=torch.zeros(count, 1, 3),
    )


def test_a_ball_is_closed_and_as_large_as_it_is() -> None:
    mesh = closed_surface(ball(), UP, resolution=64)
    assert mesh.is_closed()
    upper = mesh.vertices[mesh.vertices[:, 2] > 0]
    distance = np.linalg.norm(upper, axis=1)
    # 2 % of the diagonal of its box.
    assert np.quantile(np.abs(distance - 1), 0.95) < 0.02 * 2 * 3**0.5
    assert abs(np.median(distance) - 1) < 0.02
    # Below, what no view from above sees is solid: half a ball on half of a cylinder of its radius, at most.
    assert 4 / 3 * np.pi < mesh.volume < 1.05 * (2 / 3 * np.pi + np.pi)


_TOUCHING = """
.#.. .#.. .### .###
..#. ..#. .#.. .#..
.##. .##. ..#. ..#.
##.# .#.. .##. ..#."""
"""Slabs of voxels of an object, some of which touch in edges alone."""


def test_a_mesh_of_voxels_that_touch_in_edges_is_closed() -> None:
    solid = np.array([[[c == "#" for c in row] for row in slab.split()] for slab in _TOUCHING.split("\n")[1:]])
    grid = _Grid(np.zeros(3), 1.0, len(solid))

    def mesh(solid: NDArray[np.bool_]) -> TriangleMesh:
        return _mesh(np.where(solid, -1, 1).astype(np.float32), grid)

    assert not mesh(solid).is_closed()  # four triangles meet in an edge
    filled = _without_corners_that_touch(solid)
    assert (filled >= solid).all()
    assert mesh(filled).is_closed()
    for part in (0.2, 0.5, 0.8):
        noise = np.random.default_rng(0).random((20, 20, 20)) < part
        assert _mesh(np.where(_without_corners_that_touch(noise), -1, 1).astype(np.float32), grid).is_closed()


@pytest.mark.parametrize(("kind", "most"), [("box", 8), ("hull", 40), ("mesh", 300)])
def test_kinds(kind: str, most: int) -> None:
    proxy = make_proxy(ball(), UP, False, kind, most)  # type: ignore[arg-type]
    [mesh] = proxy.meshes
    assert mesh.is_closed()
    assert (8 if kind == "box" else 4.1) * 0.9 < mesh.volume < (8 if kind == "box" else 5.3) * 1.06
    assert len(mesh.vertices) <= 1.1 * most


@pytest.mark.parametrize("up", [[0.0, 0, 1], [0.0, 0, -1], [1.0, 2, -3]])
@pytest.mark.parametrize("degrees", [0, 1, 5, 30, 44.7])
def test_upright_boxes_are_the_smallest(up: list[float], degrees: float) -> None:
    standing = Rotation.align_vectors([up], [[0.0, 0, 1]])[0] * Rotation.from_euler("z", degrees, degrees=True)
    cube = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 2) for z in (0.0, 3)])
    for points, volume in ((cube, 6.0), (cube[cube[:, 0] == 0], 0.0), (cube[:1], 0.0), (cube[cube[:, 2] == 0], 0.0)):
        box = upright_box(standing.apply(points) + 7, np.array(up))
        assert abs(box.volume - volume) < 1e-6
        low, high = (ends for ends in (box.vertices.min(axis=0), box.vertices.max(axis=0)))
        assert (standing.apply(points) + 7 >= low - 1e-6).all()
        assert (standing.apply(points) + 7 <= high + 1e-6).all()


def test_hulls_and_boxes() -> None:
    g = np.random.default_rng(0)
    points = g.random((500, 3)) * [1, 2, 3] + [100, 0, 0]
    hull = convex_hull(points, 30)
    assert hull.is_closed()
    assert 4 < hull.volume < 6
    assert len(hull.vertices) <= 30
    turned = points @ np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]])
    box = upright_box(turned, np.array([0.0, 0, 1]))
    assert box.is_closed()
    assert box.volume == pytest.approx(6, rel=0.05)
    with pytest.raises(ValueError, match="in one plane"):
        convex_hull(points * [1, 1, 0])


def test_a_hull_of_few_vertices_leaves_out_little_of_a_long_body() -> None:
    """A bottle: most of it is where few directions lead."""
    along, around = np.meshgrid(np.linspace(0, 8, 60), np.linspace(0, 2 * np.pi, 60, endpoint=False), indexing="ij")
    radius = np.where(along < 5, 1.0, 0.35)
    bottle = np.stack([radius * np.cos(around), radius * np.sin(around), along], axis=-1).reshape(-1, 3)
    hull = convex_hull(bottle, 64)
    assert len(hull.vertices) <= 64
    corners = hull.vertices[hull.faces]
    normals = hull.normals()
    out = ((bottle[:, None] - corners[None, :, 0]) * normals[None]).sum(axis=2).max(axis=1)
    assert out.max() < 0.005 * np.linalg.norm([2, 2, 8])


def test_pieces_of_a_bent_body_leave_its_corner_empty() -> None:
    pytest.importorskip("coacd")
    boxes = [upright_box(np.array(list(np.ndindex(2, 2, 2))) * size, UP.numpy()) for size in ([3.0, 1, 1], [1.0, 1, 3])]
    # An L of two boxes that overlap: closed, and a third of its hull is empty.
    faces = np.concatenate([boxes[0].faces, boxes[1].faces + len(boxes[0].vertices)])
    bent = TriangleMesh(np.concatenate([box.vertices for box in boxes]), faces)
    pieces = convex_pieces(bent, 32)
    assert len(pieces) >= 2
    assert all(piece.is_closed() and len(piece.vertices) <= 32 for piece in pieces)
    volume = sum(piece.volume for piece in pieces)
    assert 4.8 < volume < 5.6
    assert convex_hull(bent.vertices).volume > 6.5


@pytest.mark.parametrize("vertices", [None, 255])
def test_what_is_cut_into_pieces_has_few_vertices(monkeypatch: pytest.MonkeyPatch, vertices: int | None) -> None:
    """However many the pieces may have: CoACD's time grows with what it is handed."""
    handed: list[tuple[TriangleMesh, int]] = []

    def pieces(mesh: TriangleMesh, most: int) -> list[TriangleMesh]:
        handed.append((mesh, most))
        return [mesh]

    monkeypatch.setattr("gseg_ns.proxies.making.convex_pieces", pieces)
    make_proxy(ball(), UP, False, "pieces", vertices)
    [(mesh, most)] = handed
    assert mesh.is_closed()
    assert 100 < len(mesh.vertices) < 350
    assert most == (vertices or 64)


def test_narrow_gaps_and_air_behind_them_are_filled() -> None:
    solid = np.zeros((40, 40, 40), bool)
    solid[4:36, 4:36, 0:36] = True  # up to the grid's end
    solid[15:25, 15:25, 15:25] = False  # a hollow
    solid[19:21, 19:21, 25:36] = False  # that two voxels lead to
    solid[6:16, 4:36, 26:36] = False  # and a wide notch
    filled = _without_gaps(solid, 3.0)
    assert (filled >= solid).all()
    assert filled[15:25, 15:25, 15:25].all()
    assert filled[19:21, 19:21, 25:32].all()
    # A ball gets into the notch, though not into its edges.
    assert not filled[9:13, 8:32, 31:].any()
    assert not filled[:, :, 36:].any()


def test_exports_with_something_to_touch(tmp_path: Path) -> None:
    splats, groups = ball(), torch.ones(3000, dtype=torch.int64)
    proxies = Proxies(lambda part: make_proxy(part.splats, part.up, part.surrounds, "hull", 128), density=1000.0)
    placement = Placement(meters_per_unit=0.1)
    [entry] = write_objects(tmp_path / "a", splats, groups, "glb", placement=placement, proxies=proxies)
    # In metres: water in a ball of 10 cm radius weighs 4.2 kg, and 5.2 kg where its lower half is a cylinder.
    assert 4.1 < entry["proxy"]["mass"] < 5.3
    index = json.loads((tmp_path / "a/objects.json").read_text())
    assert (tmp_path / "a" / index["objects"][0]["proxy"]["file"]).exists()
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.load(tmp_path / "a" / entry["proxy"]["file"], force="mesh")
    assert mesh.is_watertight
    # It stands where a fiftieth of the Gaussians, evenly spread over a sphere's height, are below.
    np.testing.assert_allclose(mesh.bounds, [[-0.1, -0.096, -0.1], [0.1] * 3], atol=0.002)


def test_a_stage_with_colliders(tmp_path: Path) -> None:
    pytest.importorskip("pxr.UsdVol")
    from pxr import Usd, UsdGeom, UsdPhysics

    splats, groups = ball(), torch.ones(3000, dtype=torch.int64)
    proxies = Proxies(lambda part: make_proxy(part.splats, part.up, part.surrounds, "hull", 32))
    write_objects(tmp_path / "a", splats, groups, "usd", proxies=proxies)
    stage = Usd.Stage.Open(str(tmp_path / "a/scene.usda"))
    [mesh] = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    assert mesh.HasAPI(UsdPhysics.CollisionAPI)
    assert UsdPhysics.MeshCollisionAPI(mesh).GetApproximationAttr().Get() == "convexHull"
    assert UsdGeom.Imageable(mesh).ComputePurpose() == "guide"
    geometry = UsdGeom.Mesh(mesh)
    points, normals = np.array(geometry.GetPointsAttr().Get()), np.array(geometry.GetNormalsAttr().Get())
    corners = points[np.array(geometry.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)]
    assert geometry.GetNormalsInterpolation() == "uniform"
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    # The normals of a convex body point away from its middle, and stand upon its faces.
    assert (((corners.mean(axis=1) - points.mean(axis=0)) * normals).sum(axis=1) > 0).all()
    np.testing.assert_allclose(((corners[:, 1] - corners[:, 0]) * normals).sum(axis=1), 0, atol=1e-5)
