"""Loops over the pixels of masks and over neighbours, compiled; for the threads of `gseg_ns.rendering.threads`."""

from __future__ import annotations

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def mask_variances(first, last, first_run, starts, stops, boxes, height, points, usable, out):  # type: ignore[no-untyped-def]
    """Summed variance of the points of each mask, see `scales.mask_scales`.

    Args:
        first: the first mask.
        last: one past the last mask.
        first_run: int64 [M + 1], where the runs of each mask begin.
        starts: int64 [R], first column-major pixel of each run.
        stops: int64 [R], one past its last pixel.
        boxes: int64 [M, 4], x, y, width, height.
        height: of the image.
        points: float32 [H, W, 3].
        usable: bool [H, W], which of them count.
        out: float64 [M].
    """
    for mask in range(first, last):
        left, top, wide, high = boxes[mask]
        out[mask] = 0.0
        if wide == 0:
            continue
        inside = np.zeros((high + 2, wide + 2), np.uint8)  # with a border that is in no mask
        for run in range(first_run[mask], first_run[mask + 1]):
            begin = starts[run]
            while begin < stops[run]:
                column = begin // height
                end = min(stops[run], (column + 1) * height)
                for row in range(begin - column * height, end - column * height):
                    inside[row - top + 1, column - left + 1] = 1
                begin = end
        for least in (5, 1):  # without the border; where that leaves too little, all of it
            count, x, y, z = 0, 0.0, 0.0, 0.0
            for row in range(high):
                for column in range(wide):
                    if _counts(inside, row, column, least) and usable[top + row, left + column]:
                        point = points[top + row, left + column]
                        count += 1
                        x += point[0]
                        y += point[1]
                        z += point[2]
            if count < 2:
                continue
            x, y, z = x / count, y / count, z / count
            total = 0.0
            for row in range(high):
                for column in range(wide):
                    if _counts(inside, row, column, least) and usable[top + row, left + column]:
                        point = points[top + row, left + column]
                        total += (point[0] - x) ** 2 + (point[1] - y) ** 2 + (point[2] - z) ** 2
            out[mask] = total / count
            break


@njit(cache=True, nogil=True, inline="always")
def _counts(inside, row, column, least):  # type: ignore[no-untyped-def]
    """Whether a pixel is in the mask, with at least this many of the nine around it."""
    if inside[row + 1, column + 1] == 0:
        return False
    around = 0
    for down in range(3):
        for right in range(3):
            around += inside[row + down, column + right]
    return around >= least


@_compiled
def add_pairs(first, last, neighbours, weights, labels, both, same):  # type: ignore[no-untyped-def]
    """Add what one view says of each Gaussian and its neighbours, see `smoothing.NeighbourVotes.add`.

    Args:
        first: the first Gaussian.
        last: one past the last Gaussian.
        neighbours: int64 [N, K].
        weights: float32 [N], how much the view shows of each; 0: nothing.
        labels: int32 [N], its mask in the view.
        both: float32 [N, K], is added to.
        same: float32 [N, K], is added to.
    """
    for gaussian in range(first, last):
        weight = weights[gaussian]
        if weight > 0:
            for rank in range(neighbours.shape[1]):
                other = neighbours[gaussian, rank]
                shared = min(weight, weights[other])
                both[gaussian, rank] += shared
                if labels[gaussian] == labels[other]:
                    same[gaussian, rank] += shared
