"""Loops over voxels and rays, compiled; for the threads of `gseg_ns.rendering.threads`.

Positions are in voxels: voxel (i, j, k) reaches from i to i + 1, and so on.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, error_model="numpy")

_SPAN = 2.0
"""Standard deviations that a Gaussian is filled in to."""
_MOST_SAMPLES = 20_000
"""Of one Gaussian: what is larger is filled in more coarsely."""


@_compiled
def fill(means, axes, sizes, opacities, density, grain, stamp, best):  # type: ignore[no-untyped-def]
    """Add what Gaussians hold back of a ray, -log(1 - alpha), to the voxels that they pass through.

    Each Gaussian is sampled along its axes closer than voxels are, and counts in a voxel with its strongest sample.

    Args:
        means: float64 [N, 3].
        axes: float64 [N, 3, 3], its unit axes in rows, the longest first.
        sizes: float64 [N, 3], its standard deviations along them.
        opacities: float64 [N].
        density: float32 [X, Y, Z], is added to.
        grain: float32 [X, Y, Z]; the middle size of each Gaussian is added, times what it adds to the density.
        stamp: int32 [X, Y, Z]: -1 everywhere; the last Gaussian that passed.
        best: float32 [X, Y, Z]: what it has added.
    """
    wide, deep, high = density.shape
    counts = np.empty(3, np.int64)
    for gaussian in range(len(means)):
        samples = 1.0
        for axis in range(3):
            counts[axis] = math.ceil(_SPAN * sizes[gaussian, axis] / 0.5 - 0.5)
            samples *= 2 * counts[axis] + 1
        if samples > _MOST_SAMPLES:
            fewer = (_MOST_SAMPLES / samples) ** (1 / 3)
            for axis in range(3):
                counts[axis] = int(counts[axis] * fewer)
        steps = np.where(counts > 0, _SPAN / np.maximum(counts, 1), 0.0)
        for a in range(-counts[0], counts[0] + 1):
            for b in range(-counts[1], counts[1] + 1):
                for c in range(-counts[2], counts[2] + 1):
                    u, v, w = a * steps[0], b * steps[1], c * steps[2]
                    off = u * u + v * v + w * w
                    if off > _SPAN * _SPAN:
                        continue
                    u, v, w = u * sizes[gaussian, 0], v * sizes[gaussian, 1], w * sizes[gaussian, 2]
                    turn = axes[gaussian]
                    i = math.floor(means[gaussian, 0] + u * turn[0, 0] + v * turn[1, 0] + w * turn[2, 0])
                    j = math.floor(means[gaussian, 1] + u * turn[0, 1] + v * turn[1, 1] + w * turn[2, 1])
                    k = math.floor(means[gaussian, 2] + u * turn[0, 2] + v * turn[1, 2] + w * turn[2, 2])
                    if i < 0 or j < 0 or k < 0 or i >= wide or j >= deep or k >= high:
                        continue
                    held = -math.log1p(-min(opacities[gaussian] * math.exp(-0.5 * off), 0.99))
                    before = 0.0
                    if stamp[i, j, k] == gaussian:
                        before = best[i, j, k]
                        if held <= before:
                            continue
                    stamp[i, j, k] = gaussian
                    best[i, j, k] = held
                    density[i, j, k] += held - before
                    grain[i, j, k] += (held - before) * sizes[gaussian, 1]


@njit(cache=True, nogil=True, inline="always")
def _walk(solid, x, y, z, dx, dy, dz, begin, end):  # type: ignore[no-untyped-def]
    """Length along a unit direction at which a ray meets a solid voxel between two lengths; -1: it does not."""
    wide, deep, high = solid.shape
    length = begin
    while length < end:
        i, j, k = math.floor(x + length * dx), math.floor(y + length * dy), math.floor(z + length * dz)
        if i < 0 or j < 0 or k < 0 or i >= wide or j >= deep or k >= high:
            # Out of the grid for good, unless it comes from outside.
            if (i < 0 and dx <= 0) or (j < 0 and dy <= 0) or (k < 0 and dz <= 0):
                return -1.0
            if (i >= wide and dx >= 0) or (j >= deep and dy >= 0) or (k >= high and dz >= 0):
                return -1.0
        elif solid[i, j, k]:
            return length
        length += 0.5
    return -1.0


@_compiled
def hit_lengths(first, last, solid, places, directions, most, out):  # type: ignore[no-untyped-def]
    """How far rays get from places.

    Args:
        first: the first place.
        last: one past the last place.
        solid: bool [X, Y, Z].
        places: float64 [P, 3].
        directions: float64 [D, 3], of unit length.
        most: the greatest length that is looked at.
        out: float32 [P, D]; -1: nothing is met.
    """
    for place in range(first, last):
        x, y, z = places[place]
        for ray in range(len(directions)):
            dx, dy, dz = directions[ray]
            out[place, ray] = _walk(solid, x, y, z, dx, dy, dz, 0.5, most)


@_compiled
def sight(first, last, solid, places, voxels, skipped, out):  # type: ignore[no-untyped-def]
    """Which voxels are seen from which places: nothing solid is between but what lies next to the voxel.

    Args:
        first: the first place.
        last: one past the last place.
        solid: bool [X, Y, Z].
        places: float64 [P, 3], which may lie outside of the grid.
        voxels: int32 [V, 3].
        skipped: length at the voxel's end of the ray that may be solid.
        out: bool [P, V].
    """
    for place in range(first, last):
        for voxel in range(len(voxels)):
            x, y, z = voxels[voxel, 0] + 0.5, voxels[voxel, 1] + 0.5, voxels[voxel, 2] + 0.5
            dx, dy, dz = places[place, 0] - x, places[place, 1] - y, places[place, 2] - z
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            if length <= skipped:
                out[place, voxel] = False
                continue
            met = _walk(solid, x, y, z, dx / length, dy / length, dz / length, skipped, length)
            out[place, voxel] = met < 0


@_compiled
def look_shares(first, last, solid, places, place_of, turns, corners, near, most, out):  # type: ignore[no-untyped-def]
    """What of a picture shows nothing, and what of it shows something near.

    Args:
        first: the first picture.
        last: one past the last picture.
        solid: bool [X, Y, Z].
        places: float64 [P, 3].
        place_of: int64 [C], where each picture is taken from.
        turns: float64 [C, 3, 3], right, down and forward in rows.
        corners: float64 [R, 3], rays of a picture in its own coordinates, of unit length.
        near: length that counts as near.
        most: the greatest length that is looked at.
        out: float32 [C, 2], the shares.
    """
    for picture in range(first, last):
        x, y, z = places[place_of[picture]]
        turn = turns[picture]
        empty, close = 0, 0
        for ray in range(len(corners)):
            u, v, w = corners[ray]
            dx = u * turn[0, 0] + v * turn[1, 0] + w * turn[2, 0]
            dy = u * turn[0, 1] + v * turn[1, 1] + w * turn[2, 1]
            dz = u * turn[0, 2] + v * turn[1, 2] + w * turn[2, 2]
            met = _walk(solid, x, y, z, dx, dy, dz, 0.5, most)
            if met < 0:
                empty += 1
            elif met < near:
                close += 1
        out[picture, 0] = empty / len(corners)
        out[picture, 1] = close / len(corners)


@_compiled
def worth(turn, slopes, ids, ways, quality, weights, counts, seen, by_count, same):  # type: ignore[no-untyped-def]
    """What a picture adds to those that are taken already.

    Args:
        turn: float32 [3, 3], right, down and forward in rows.
        slopes: the tangents of half the picture's angles, across and down.
        ids: int32 [n], the voxels that its place sees.
        ways: float32 [n, 3], the directions in which it sees them, of unit length.
        quality: float32 [n], how well it sees them.
        weights: float32 [V].
        counts: int64 [V], in how many pictures each voxel is.
        seen: float32 [V, K, 3], the directions of the first of these.
        by_count: float64 [n], what one more is worth, by how many there are.
        same: cosine of the angle within which a direction is not new.
    """
    total = 0.0
    across, down = slopes
    most = len(by_count) - 1
    for row in range(len(ids)):
        x, y, z = ways[row]
        ahead = x * turn[2, 0] + y * turn[2, 1] + z * turn[2, 2]
        if ahead <= 0.1:
            continue
        if abs(x * turn[0, 0] + y * turn[0, 1] + z * turn[0, 2]) > across * ahead:
            continue
        if abs(x * turn[1, 0] + y * turn[1, 1] + z * turn[1, 2]) > down * ahead:
            continue
        voxel = ids[row]
        nearest = -1.0
        for other in range(min(counts[voxel], seen.shape[1])):
            cosine = x * seen[voxel, other, 0] + y * seen[voxel, other, 1] + z * seen[voxel, other, 2]
            nearest = max(nearest, cosine)
        new = 1.0 if nearest < same else max(0.15, (1 - nearest) / (1 - same))
        total += weights[voxel] * quality[row] * new * by_count[min(counts[voxel], most)]
    return total
