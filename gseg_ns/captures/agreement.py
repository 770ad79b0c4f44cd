"""Whether two accounts of the same cameras, or of the same points, agree, and in which frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from gseg_ns.captures.capture import Frame

MAX_ANGLE = 1.0
"""Degrees that two agreeing cameras may differ."""
MAX_OFFSET = 0.01
"""Part of the extent of all cameras that the places of two agreeing ones may differ."""


@dataclass(frozen=True)
class Agreement:
    """How the cameras of one account are found in another."""

    similarity: np.ndarray
    """From the one's world to the other's: [4, 4] float64."""
    agrees: np.ndarray
    """Which cameras it brings together: bool [N]."""

    @property
    def holds(self) -> bool:
        """Whether most cameras agree."""
        return bool(self.agrees.mean() > 0.5)


def agreeing(similarity: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Which cameras a similarity brings from `ours` to `theirs`: bool [N].

    Args:
        similarity: [4, 4].
        ours: camera to world [N, 4, 4].
        theirs: the same cameras in another world [N, 4, 4].
    """
    rotation = similarity[:3, :3] / np.cbrt(np.linalg.det(similarity[:3, :3]))
    relative = np.einsum("nji,njk->nik", rotation @ ours[:, :3, :3], theirs[:, :3, :3])
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    places = ours[:, :3, 3] @ similarity[:3, :3].T + similarity[:3, 3]
    offset = np.linalg.norm(places - theirs[:, :3, 3], axis=1)
    return (cosine > np.cos(np.radians(MAX_ANGLE))) & (offset <= MAX_OFFSET * _extent(theirs) + 1e-9)


def find_similarity(ours: np.ndarray, theirs: np.ndarray) -> Agreement:
    """The similarity that brings most cameras of one account to where the other has them.

    Each camera proposes a rotation, and pairs of cameras a scale and a shift; those of the largest agreeing set are
    averaged. One camera alone leaves the scale open: it is taken to be 1.

    Args:
        ours: camera to world [N, 4, 4].
        theirs: the same cameras in another world [N, 4, 4].
    """
    best = Agreement(np.eye(4), agreeing(np.eye(4), ours, theirs))
    rotations = theirs[:, :3, :3] @ ours[:, :3, :3].transpose(0, 2, 1)
    for index in np.linspace(0, len(ours) - 1, min(len(ours), 25)).astype(int):
        cosine = (np.einsum("ij,nij->n", rotations[index], rotations) - 1) / 2
        alike = cosine > np.cos(np.radians(2 * MAX_ANGLE))
        for members in (alike, None):
            similarity = _fit(rotations[index], ours, theirs, alike if members is not None else best.agrees & alike)
            if similarity is None:
                continue
            found = Agreement(similarity, agreeing(similarity, ours, theirs))
            if found.agrees.sum() > best.agrees.sum():
                best = found
    return best


def _fit(rotation: np.ndarray, ours: np.ndarray, theirs: np.ndarray, members: np.ndarray) -> np.ndarray | None:
    """The similarity of a rotation and of what the cameras `members` say: [4, 4], or None without any."""
    if not members.any():
        return None
    mean = (theirs[members, :3, :3] @ ours[members, :3, :3].transpose(0, 2, 1)).sum(axis=0)
    u, _, v = np.linalg.svd(mean)
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    a, b = ours[members, :3, 3] @ rotation.T, theirs[members, :3, 3]
    # Medians: some cameras may be wrong.
    from_a, from_b = np.linalg.norm(a - np.median(a, axis=0), axis=1), np.linalg.norm(b - np.median(b, axis=0), axis=1)
    spread = from_a > 1e-3 * from_a.max() if from_a.max() > 0 else np.zeros(len(a), dtype=bool)
    scale = float(np.median(from_b[spread] / from_a[spread])) if spread.any() else 1.0
    if not np.isfinite(scale) or scale <= 0:
        return None
    similarity = np.eye(4)
    similarity[:3, :3] = scale * rotation
    similarity[:3, 3] = np.median(b - scale * a, axis=0)
    return similarity


def _extent(poses: np.ndarray) -> float:
    """Diameter of the cameras' bounding box."""
    places = poses[:, :3, 3]
    return float(np.linalg.norm(places.max(axis=0) - places.min(axis=0)))


def same_cloud(points: np.ndarray, others: np.ndarray) -> bool:
    """Whether two clouds lie in the same place.

    Args:
        points: [N, 3].
        others: [M, 3], of which the others may be a part.
    """
    few = _sample(points, 2000)
    tree = cKDTree(_sample(others, 50_000))
    distance = np.median(tree.query(few)[0])
    low, high = np.percentile(others, (5, 95), axis=0)
    return bool(distance < 0.01 * np.linalg.norm(high - low) + 1e-9)


def seen_part(points: np.ndarray, frames: Sequence[Frame]) -> float:
    """Part of the points that some photograph shows, its borders taken twice as wide."""
    few = _sample(points, 1000)
    seen = np.zeros(len(few), dtype=bool)
    for frame in frames:
        local = (few - frame.pose[:3, 3]) @ frame.pose[:3, :3]
        depth = -local[:, 2]
        x, y = np.abs(local[:, 0]) * frame.lens.fx, np.abs(local[:, 1]) * frame.lens.fy
        seen |= (depth > 0) & (x < depth * frame.lens.width) & (y < depth * frame.lens.height)
    return float(seen.mean()) if len(seen) else 0.0


def _sample(points: np.ndarray, count: int) -> np.ndarray:
    points = points[np.isfinite(points).all(axis=1)]
    return points if len(points) <= count else points[np.linspace(0, len(points) - 1, count).astype(int)]
