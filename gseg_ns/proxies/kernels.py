"""Where along rays Gaussians become opaque, and what views look through; for `gseg_ns.rendering.threads`, compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

TILE = 8
"""Pixels along a side of a tile."""

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def fill_lists(bounds, across, offsets, members):  # type: ignore[no-untyped-def]
    """Which Gaussians may touch which tile.

    Args:
        bounds: int64 [N, 4], first and one past the last tile of each, in columns and in rows.
        across: tiles in a row.
        offsets: int64 [tiles + 1]; holds zeros, becomes where the list of each tile begins.
        members: int64 [sum of tiles touched], the lists.
    """
    for g in range(len(bounds)):
        for row in range(bounds[g, 2], bounds[g, 3]):
            for column in range(bounds[g, 0], bounds[g, 1]):
                offsets[row * across + column + 1] += 1
    for tile in range(len(offsets) - 1):
        offsets[tile + 1] += offsets[tile]
    filled = offsets[:-1].copy()
    for g in range(len(bounds)):
        for row in range(bounds[g, 2], bounds[g, 3]):
            for column in range(bounds[g, 0], bounds[g, 1]):
                tile = row * across + column
                members[filled[tile]] = g
                filled[tile] += 1


@_compiled
def opaque_depths(  # type: ignore[no-untyped-def]
    start, stop, across, offsets, members, whitened, centres, reach, opacities, lens, level, least, part, out
):
    """Depth at which what is in front of it has an opacity of `level`; left as it is where all of it has less.

    A ray meets a Gaussian as a bell in one dimension: what of it counts at a depth is its value there before the
    peak, and its peak behind it (Yu, Sattler and Geiger 2024, Gaussian Opacity Fields).

    Args:
        start, stop: tiles.
        across: tiles in a row.
        offsets: int64 [tiles + 1].
        members: int64, lists of Gaussians a tile.
        whitened: float64 [N, 3, 3], from camera coordinates to where a Gaussian is round and of size 1.
        centres: float64 [N, 3], in those.
        reach: float64 [N], squared distance from the ray beyond which a Gaussian does not count.
        opacities: float64 [N].
        lens: float64 [4], focal lengths and middle in pixels: fx, fy, cx, cy.
        level: in 0..1.
        least: the opacity below which a pixel has no surface.
        part: whether `level` is a part of the opacity of all that the pixel shows.
        out: float32 [H, W].
    """
    high, wide = out.shape
    for tile in range(start, stop):
        first, last = offsets[tile], offsets[tile + 1]
        if first == last:
            continue
        peaks = np.empty(last - first)
        depths = np.empty(last - first)
        rates = np.empty(last - first)
        top, left = tile // across * TILE, tile % across * TILE
        for row in range(top, min(top + TILE, high)):
            for column in range(left, min(left + TILE, wide)):
                x, y = (column + 0.5 - lens[2]) / lens[0], (row + 0.5 - lens[3]) / lens[1]
                count, through, near, far = 0, 1.0, math.inf, 0.0
                for place in range(first, last):
                    g = members[place]
                    a = whitened[g, 0, 0] * x + whitened[g, 0, 1] * y + whitened[g, 0, 2]
                    b = whitened[g, 1, 0] * x + whitened[g, 1, 1] * y + whitened[g, 1, 2]
                    c = whitened[g, 2, 0] * x + whitened[g, 2, 1] * y + whitened[g, 2, 2]
                    u, v, w = centres[g, 0], centres[g, 1], centres[g, 2]
                    rate = a * a + b * b + c * c
                    depth = (a * u + b * v + c * w) / rate
                    # From the centre to the nearest point of the ray: differences of large squares would cancel.
                    u, v, w = u - depth * a, v - depth * b, w - depth * c
                    away = u * u + v * v + w * w
                    if not away < reach[g] or depth <= 0:
                        continue
                    peak = min(opacities[g] * math.exp(-0.5 * away), 0.999)
                    peaks[count], depths[count], rates[count] = peak, depth, rate
                    count += 1
                    through *= 1 - peak
                    near = min(near, depth - 3.5 / math.sqrt(rate))
                    far = max(far, depth)
                if through > 1 - least:
                    continue
                until = 1 - level * (1 - through) if part else 1 - level
                near = max(near, 0.0)
                for _ in range(14):
                    depth = 0.5 * (near + far)
                    through = 1.0
                    for k in range(count):
                        ahead = depths[k] - depth
                        if ahead > 0:
                            through *= 1 - peaks[k] * math.exp(-0.5 * ahead * ahead * rates[k])
                        else:
                            through *= 1 - peaks[k]
                        if through < until:
                            break
                    if through < until:
                        far = depth
                    else:
                        near = depth
                out[row, column] = 0.5 * (near + far)


@_compiled
def look_through(  # type: ignore[no-untyped-def]
    start, stop, origin, voxel, view, lens, depths, own, truncation, sums, weights
):
    """Adds to each voxel what one view says of it: how far before a surface it is, in -1..1 of the truncation.

    Where the view shows the object, what lies behind its surface by more than the truncation is not spoken of; where it
    shows something else, all that lies behind that is not.

    Args:
        start, stop: slabs of voxels along the first axis.
        origin: float64 [3], of the grid's least corner.
        voxel: a side of one.
        view: float64 [4, 4], from the grid's coordinates to the camera's.
        lens: float64 [4], fx, fy, cx, cy in pixels.
        depths: float32 [H, W].
        own: bool [H, W], where that is the object's depth.
        truncation: a length.
        sums, weights: float32 [X, Y, Z].
    """
    high, wide = depths.shape
    for i in range(start, stop):
        x = origin[0] + voxel * (i + 0.5)
        for j in range(sums.shape[1]):
            y = origin[1] + voxel * (j + 0.5)
            for k in range(sums.shape[2]):
                z = origin[2] + voxel * (k + 0.5)
                depth = view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3]
                if depth <= 0:
                    continue
                across = view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3]
                down = view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3]
                u, v = across / depth * lens[0] + lens[2], down / depth * lens[1] + lens[3]
                if not (u >= 0 and v >= 0 and u < wide and v < high):
                    continue
                row, column = int(v), int(u)
                before = depths[row, column] - depth
                if before > (-truncation if own[row, column] else 0.0):
                    sums[i, j, k] += min(before / truncation, 1.0)
                    weights[i, j, k] += 1
