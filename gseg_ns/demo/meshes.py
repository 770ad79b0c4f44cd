"""Closed triangle meshes for the demo scene: revolved profiles, prisms, rounded boxes and tubes.

Every function returns a watertight mesh with outward normals, resting where its docstring says, z up, in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: [V, 3] positions.
        triangles: [T, 3] vertex indices, counter-clockwise seen from outside.
    """

    vertices: FloatArray
    triangles: IntArray

    def moved(self, offset: Sequence[float] | FloatArray = (0.0, 0.0, 0.0), rotation: FloatArray | None = None) -> Mesh:
        """The mesh rotated by `rotation` [3, 3], then translated by `offset`."""
        vertices = self.vertices if rotation is None else self.vertices @ rotation.T
        return Mesh(vertices + np.asarray(offset, dtype=np.float64), self.triangles)


def corner_normals(mesh: Mesh, crease_degrees: float = 38.0) -> FloatArray:
    """Shading normals [T, 3, 3] of every triangle's corners, smooth but across edges sharper than `crease_degrees`.

    A corner averages the area-weighted normals of those faces around its vertex which differ from its own face by less
    than the crease angle.
    """
    points = mesh.vertices[mesh.triangles]
    area_normals = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    unit = area_normals / np.maximum(np.linalg.norm(area_normals, axis=1, keepdims=True), 1e-20)
    corners = mesh.triangles.reshape(-1)
    faces = np.repeat(np.arange(len(mesh.triangles)), 3)
    order = np.argsort(corners, kind="stable")
    valence = np.bincount(corners, minlength=len(mesh.vertices))
    starts = np.cumsum(valence) - valence
    # All pairs (corner, face around the same vertex), as flat arrays.
    pair_count = valence[corners]
    first = np.repeat(np.arange(len(corners)), pair_count)
    within = np.arange(len(first)) - np.repeat(np.cumsum(pair_count) - pair_count, pair_count)
    other = faces[order[starts[corners[first]] + within]]
    smooth = np.einsum("ij,ij->i", unit[faces[first]], unit[other]) > np.cos(np.radians(crease_degrees))
    result = np.zeros((len(corners), 3))
    np.add.at(result, first[smooth], area_normals[other[smooth]])
    result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-20)
    return result.reshape(-1, 3, 3)


def _grid_triangles(rows: int, columns: int, wrap_rows: bool, wrap_columns: bool) -> IntArray:
    """Two triangles for each cell of a grid of vertices, row-major [rows, columns]."""
    i, j = np.meshgrid(
        np.arange(rows if wrap_rows else rows - 1), np.arange(columns if wrap_columns else columns - 1), indexing="ij"
    )
    i2, j2 = (i + 1) % rows, (j + 1) % columns
    a, b, c, d = (x.reshape(-1) for x in (i * columns + j, i * columns + j2, i2 * columns + j2, i2 * columns + j))
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def _without_slivers(vertices: FloatArray, triangles: IntArray) -> Mesh:
    """Weld equal vertices (the poles of a revolved profile) and drop the triangles that this leaves without area."""
    keys, index = np.unique(np.round(vertices, 7), axis=0, return_inverse=True)
    triangles = index.reshape(-1)[triangles]
    a, b, c = triangles.T
    return Mesh(keys, triangles[(a != b) & (b != c) & (c != a)])


def revolved(profile: Sequence[tuple[float, float]], segments: int = 40) -> Mesh:
    """The profile of (radius, z) points turned about the z axis.

    The profile runs up the outside, from the axis to the axis, so that the surface is closed.
    """
    radius, z = np.asarray(profile, dtype=np.float64).T
    angle = np.arange(segments) * (2 * np.pi / segments)
    vertices = np.stack(
        [
            radius[:, None] * np.cos(angle),
            radius[:, None] * np.sin(angle),
            np.broadcast_to(z[:, None], (len(z), segments)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    return _without_slivers(vertices, _grid_triangles(len(z), segments, False, True))


def sphere(radius: float, segments: int = 40) -> Mesh:
    """A ball about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    return revolved([(radius * np.cos(a) if abs(a) < 1.57 else 0.0, radius * np.sin(a)) for a in angle], segments)


def cylinder(radius: float, height: float, top_radius: float | None = None, bevel: float = 0.0) -> Mesh:
    """A cylinder, or a frustum with `top_radius`, standing on z = 0 with bevelled rims."""
    top = radius if top_radius is None else top_radius
    if bevel == 0.0:
        return revolved([(0, 0), (radius, 0), (top, height), (0, height)])
    half = 0.3 * bevel
    return revolved(
        [
            (0, 0),
            (radius - bevel, 0),
            (radius - half, half),
            (radius, bevel),
            (top, height - bevel),
            (top - half, height - half),
            (top - bevel, height),
            (0, height),
        ]
    )


def torus(radius: float, tube: float, start: float = 0.0, stop: float = 2 * np.pi, segments: int = 48) -> Mesh:
    """A ring in the plane z = 0 about the origin, or its arc from `start` to `stop` (radians) with closed ends."""
    whole = stop - start >= 2 * np.pi - 1e-9
    angle = np.linspace(start, stop, segments, endpoint=not whole)
    around = np.arange(20) * (2 * np.pi / 20)
    ring = radius + tube * np.cos(around)
    vertices = np.stack(
        [
            np.cos(angle)[:, None] * ring,
            np.sin(angle)[:, None] * ring,
            np.broadcast_to(tube * np.sin(around), (segments, 20)),
        ],
        axis=-1,
    )
    triangles = _grid_triangles(segments, 20, whole, True)[:, ::-1]
    if whole:
        return Mesh(vertices.reshape(-1, 3), triangles)
    centres = vertices.mean(axis=1)[[0, -1]]
    first, last = segments * 20, segments * 20 + 1
    j = np.arange(20)
    caps = np.concatenate(
        [
            np.stack([np.full(20, first), j, (j + 1) % 20], 1),
            np.stack([np.full(20, last), (segments - 1) * 20 + (j + 1) % 20, (segments - 1) * 20 + j], 1),
        ]
    )
    return Mesh(np.concatenate([vertices.reshape(-1, 3), centres]), np.concatenate([triangles, caps]))


def rod(start: Sequence[float], end: Sequence[float], radius: float) -> Mesh:
    """A round bar between two points."""
    a, b = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    axis = (b - a) / np.linalg.norm(b - a)
    side = np.cross(axis, [1.0, 0.0, 0.0] if abs(axis[0]) < 0.7 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    rotation = np.stack([side, np.cross(axis, side), axis], axis=1)
    length = float(np.linalg.norm(b - a))
    return revolved([(0, 0), (radius, 0), (radius, length), (0, length)], 16).moved(a, rotation)


def rounded_box(size: Sequence[float], bevel: float = 0.012) -> Mesh:
    """A box of extents `size`, standing on z = 0 with its axis through the origin, with rounded edges.

    Each vertex of a cube's surface grid goes to its nearest point of the inner box plus the bevel radius along the way.
    """
    half = np.asarray(size, dtype=np.float64) / 2
    bevel = min(bevel, 0.49 * float(half.min()))
    lines = [np.array([-h, -h + 0.59 * bevel, -h + bevel, h - bevel, h - 0.59 * bevel, h]) for h in half]
    vertices, triangles, count = [], [], 0
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for sign in (-1.0, 1.0):
            grid = np.empty((6, 6, 3))
            grid[..., axis] = sign * half[axis]
            grid[..., u], grid[..., v] = np.meshgrid(lines[u], lines[v], indexing="ij")
            # Row-major cells go up u, then v: clockwise seen along +axis.
            faces = _grid_triangles(6, 6, False, False)
            triangles.append((faces[:, ::-1] if sign > 0 else faces) + count)
            vertices.append(grid.reshape(-1, 3))
            count += 36
    points = np.concatenate(vertices)
    inner = np.clip(points, -(half - bevel), half - bevel)
    away = points - inner
    points = inner + bevel * away / np.linalg.norm(away, axis=1, keepdims=True)
    return _without_slivers(points + np.array([0.0, 0.0, half[2]]), np.concatenate(triangles))


def _ear_clip(polygon: FloatArray) -> list[tuple[int, int, int]]:
    """Triangles of a simple counter-clockwise polygon [P, 2]."""

    def cross(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = polygon[a], polygon[b], polygon[c]
        return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))

    left = list(range(len(polygon)))
    triangles = []
    while len(left) > 3:
        for k in range(len(left)):
            a, b, c = left[k - 1], left[k], left[(k + 1) % len(left)]
            inside = (
                cross(a, b, p) >= 0 and cross(b, c, p) >= 0 and cross(c, a, p) >= 0 for p in left if p not in (a, b, c)
            )
            if cross(a, b, c) > 1e-12 and not any(inside):
                triangles.append((a, b, c))
                left.pop(k)
                break
        else:
            raise ValueError("The polygon is not simple and counter-clockwise.")
    return [*triangles, (left[0], left[1], left[2])]


def prism(polygon: Sequence[tuple[float, float]], height: float, bevel: float = 0.01) -> Mesh:
    """A simple counter-clockwise polygon [P] of (x, y), extruded from z = 0 to `height`, with bevelled rims.

    Raises:
        ValueError: the polygon crosses itself or is clockwise.
    """
    outline = np.asarray(polygon, dtype=np.float64)
    edge = np.roll(outline, -1, axis=0) - outline
    edge /= np.linalg.norm(edge, axis=1, keepdims=True)
    inward = np.stack([-edge[:, 1], edge[:, 0]], axis=1)
    previous = np.roll(inward, 1, axis=0)
    mitre = (inward + previous) / (1 + np.einsum("ij,ij->i", inward, previous))[:, None]
    rings = [(bevel, 0.0), (0.3 * bevel, 0.3 * bevel), (0.0, bevel)]
    rings += [(inset, height - z) for inset, z in reversed(rings)]
    count = len(outline)
    vertices = np.concatenate([np.column_stack([outline + inset * mitre, np.full(count, z)]) for inset, z in rings])
    cap = np.asarray(_ear_clip(outline), dtype=np.int64)
    triangles = np.concatenate(
        [_grid_triangles(len(rings), count, False, True), cap[:, ::-1], cap + (len(rings) - 1) * count]
    )
    return Mesh(vertices, triangles)
