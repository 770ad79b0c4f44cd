"""Triangle meshes as plain arrays, for what stands for an object where it has to be touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TriangleMesh:
    """Triangles whose corners go round counter-clockwise, seen from outside."""

    vertices: NDArray[np.float64]  # [V, 3]
    faces: NDArray[np.int64]  # [F, 3]

    @property
    def volume(self) -> float:
        """What a closed mesh encloses, in cubic units."""
        # From the middle: far from the origin, tetrahedra as large as the distance would cancel.
        corners = (self.vertices - self.vertices.mean(axis=0))[self.faces]
        return float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6)

    def normals(self) -> NDArray[np.float64]:
        """Of the faces, outwards, of length 1 (zero where a face has no area): [F, 3]."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        normals = np.cross(b - a, c - a)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)

    def is_closed(self) -> bool:
        """Whether every edge is shared by exactly two triangles that run along it in opposite directions."""
        if not len(self.faces):
            return False
        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        count = len(self.vertices)
        there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
        there = np.sort(there)
        return bool((np.diff(there) > 0).all() and np.array_equal(there, np.sort(back)))


@dataclass(frozen=True)
class Proxy:
    """What stands for an object in a physics engine: closed meshes that may touch or overlap."""

    kind: str
    """`box`, `hull`, `pieces` or `mesh`; all but `mesh` are convex."""
    meshes: tuple[TriangleMesh, ...]
    surrounds: bool = False
    """Whether it is a shell around other objects (a room): hollow, and never convex."""

    @property
    def volume(self) -> float:
        """Of all meshes together, in cubic units."""
        return sum(mesh.volume for mesh in self.meshes)

    def moved(self, offset: NDArray[np.float64]) -> Proxy:
        """The same, shifted by [3]."""
        return Proxy(self.kind, tuple(TriangleMesh(m.vertices + offset, m.faces) for m in self.meshes), self.surrounds)
