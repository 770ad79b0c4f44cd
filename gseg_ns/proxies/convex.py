"""Convex bodies around points: hulls of few vertices, boxes that stand upright, and several hulls of one mesh."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gseg_ns.errors import missing_extra
from gseg_ns.splats.mesh import TriangleMesh

if TYPE_CHECKING:
    from scipy.spatial import ConvexHull

_PIECES = 16
"""Most of them."""
_CONCAVITY = 0.05
"""Where CoACD stops: how deep, for the size of the mesh, a piece may still be dented."""
_REBUILT = 40
"""Voxels along the mesh where CoACD builds it anew: it does so where triangles cross, and brings the process down if it
may not. With 30, two bars became an eighth larger than they are; its own 50 leaves more to cut."""
_SEARCH = {"resolution": 600, "mcts_nodes": 10, "mcts_iterations": 30, "mcts_max_depth": 2}
"""How hard CoACD looks for the next cut. With its own settings (2000, 20, 150, 3) a table of 242 vertices took 7.7 s of
a processor and its pieces had 1.20 times its volume, with these 2.3 s and 1.18 times."""


def convex_hull(points: NDArray[np.float64], vertices: int = 64) -> TriangleMesh:
    """The convex hull of points, or of as many of them as it may have vertices, from the most prominent on.

    Args:
        points: [n, 3], not all in one plane.
        vertices: most that it has, at least 4; physics engines take no more than 64 or 255.

    Raises:
        ValueError: the points are in one plane.
    """
    from scipy.spatial import ConvexHull, QhullError

    points = np.asarray(points, np.float64)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    try:
        hull = ConvexHull(points - middle)
        if len(hull.vertices) > vertices:
            hull = _fewer(points[hull.vertices] - middle, vertices)
    except QhullError as error:
        raise ValueError("the points of a convex hull are in one plane") from error
    kept, faces = np.unique(hull.simplices, return_inverse=True)
    faces = faces.reshape(-1, 3).astype(np.int64)
    corners = hull.points[kept]
    # Qhull's triangles run either way round; its equations point outwards.
    normals = np.cross(corners[faces[:, 1]] - corners[faces[:, 0]], corners[faces[:, 2]] - corners[faces[:, 0]])
    backwards = (normals * hull.equations[:, :3]).sum(axis=1) < 0
    faces[backwards] = faces[backwards, ::-1]
    return TriangleMesh(corners + middle, faces)


def upright_box(points: NDArray[np.float64], up: NDArray[np.float64]) -> TriangleMesh:
    """The smallest box around points with a side that faces up.

    Seen from above, one of its sides lies along one of the convex hull (Freeman and Shapira 1975).

    Args:
        points: [n, 3].
        up: [3].
    """
    from scipy.spatial import ConvexHull, QhullError

    points = np.asarray(points, np.float64)
    upwards = np.asarray(up, np.float64) / np.linalg.norm(up)
    level = np.cross(upwards, np.eye(3)[np.abs(upwards).argmin()])
    level /= np.linalg.norm(level)
    axes = np.stack([level, np.cross(upwards, level), upwards], axis=1)
    local = points @ axes
    flat = local[:, :2]
    try:
        ring = flat[ConvexHull(flat).vertices]
        sides = np.roll(ring, -1, axis=0) - ring
    except QhullError:  # all in one upright plane
        away = flat - flat[0]
        sides = away[np.linalg.norm(away, axis=1).argmax()][None]
    best, low, high, turned = np.inf, local.min(axis=0), local.max(axis=0), axes
    for angle in np.arctan2(sides[:, 1], sides[:, 0]):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        seen = flat @ turn
        least, most = seen.min(axis=0), seen.max(axis=0)
        if (area := float((most - least).prod())) < best:
            best, low[:2], high[:2] = area, least, most
            turned = np.column_stack([axes[:, :2] @ turn, upwards])
    corners = np.array(list(product(*zip(low, high, strict=True)))) @ turned.T
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])
    return TriangleMesh(corners, faces)


def convex_pieces(mesh: TriangleMesh, vertices: int = 64) -> list[TriangleMesh]:
    """Convex bodies that together are nearly a mesh (CoACD, Wei et al. 2022).

    Args:
        mesh: closed, of some hundred vertices: the time grows with them.
        vertices: most that a piece has.

    Raises:
        GsegError: the package `coacd` is not installed.
    """
    try:
        import coacd
    except ImportError as error:
        raise missing_extra("Convex pieces need the package coacd", "physics") from error

    coacd.set_log_level("off")
    pieces = coacd.run_coacd(
        coacd.Mesh(mesh.vertices, mesh.faces),
        threshold=_CONCAVITY,
        max_convex_hull=_PIECES,
        preprocess_resolution=_REBUILT,
        seed=0,
        **_SEARCH,
    )
    return [convex_hull(np.asarray(points), vertices) for points, _ in pieces]


def _fewer(corners: NDArray[np.float64], count: int) -> ConvexHull:
    """The hull of `count` of a hull's corners [n, 3]: the corner that sticks out farthest is taken, again and again.

    Corners that lie far out along evenly spread directions would leave out more: a long body has most of its surface
    where few directions lead.
    """
    from scipy.spatial import ConvexHull

    chosen = _spanning(corners)
    hull = ConvexHull(corners[chosen])
    while len(chosen) < count:
        out = (corners @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1)
        out[chosen] = -np.inf
        chosen.append(int(out.argmax()))
        hull = ConvexHull(corners[chosen])
    return hull


def _spanning(corners: NDArray[np.float64]) -> list[int]:
    """Four of the corners of a body, not in one plane: each as far as can be from those before it."""
    first = int(corners[:, 0].argmin())
    away = corners - corners[first]
    second = int(np.linalg.norm(away, axis=1).argmax())
    third = int(np.linalg.norm(np.cross(away, away[second]), axis=1).argmax())
    fourth = int(np.abs(away @ np.cross(away[second], away[third])).argmax())
    return [first, second, third, fourth]
