"""How far ellipsoids reach along many directions, without what little may stick out."""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel, part

CHUNK = 256
"""Ellipsoids whose reach is computed before it is looked at: what is loaded of them stays in the cache."""


@kernel
def sides(start, stop, axes, means, shapes, weights, most, low, high):  # type: ignore[no-untyped-def]
    """Lower and upper sides along each column of axes start..stop.

    Args:
        axes: [R, 3, 3].
        means: [3, n], shapes: [6, n], xx, xy, xz, yy, yz, zz of the half axes' products with themselves; float64.
        weights: [n].
        most: weight that may lie beyond each side. Where all of them weigh no more, nothing may.
        low, high: [R, 3], written.
    """
    count = means.shape[1]
    lows, highs = np.empty(CHUNK), np.empty(CHUNK)
    # Of each side the farthest ends, as a heap whose root is the nearest; and what weight they have.
    ends, loads = np.empty((2, count)), np.empty((2, count))
    for place in range(start, stop):
        for axis in range(3):
            x, y, z = axes[place, 0, axis], axes[place, 1, axis], axes[place, 2, axis]
            xx, xy, xz, yy, yz, zz = x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z
            below, above = 0, 0
            below_load, above_load = 0.0, 0.0
            farthest_below, farthest_above = -math.inf, -math.inf
            for first in range(0, count, CHUNK):
                size = min(CHUNK, count - first)
                for i in range(size):
                    g = np.uintp(first + i)
                    square = xx * shapes[0, g] + xy * shapes[1, g] + xz * shapes[2, g]
                    square += yy * shapes[3, g] + yz * shapes[4, g] + zz * shapes[5, g]
                    reach = math.sqrt(max(square, 0.0))
                    middle = x * means[0, g] + y * means[1, g] + z * means[2, g]
                    lows[np.uintp(i)] = reach - middle
                    highs[np.uintp(i)] = reach + middle
                for i in range(size):
                    end = lows[np.uintp(i)]
                    if below_load <= most or end > ends[0, 0]:
                        farthest_below = max(farthest_below, end)
                        below, below_load = _kept(ends[0], loads[0], below, below_load, end, weights[first + i], most)
                    end = highs[np.uintp(i)]
                    if above_load <= most or end > ends[1, 0]:
                        farthest_above = max(farthest_above, end)
                        above, above_load = _kept(ends[1], loads[1], above, above_load, end, weights[first + i], most)
            low[place, axis] = -(ends[0, 0] if below_load > most else farthest_below)
            high[place, axis] = ends[1, 0] if above_load > most else farthest_above


@part
def _kept(ends, loads, count, load, end, weight, most):  # type: ignore[no-untyped-def]
    """Add an end to a heap of the farthest, and let go of the nearest while the others weigh more than `most`.

    Returns:
        How many there are, and their weight.
    """
    at = count
    while at > 0:
        parent = (at - 1) // 2
        if ends[parent] <= end:
            break
        ends[at], loads[at] = ends[parent], loads[parent]
        at = parent
    ends[at], loads[at] = end, weight
    count += 1
    load += weight
    while count > 1 and load - loads[0] > most:
        load -= loads[0]
        count -= 1
        last, last_load = ends[count], loads[count]
        at = 0
        while True:
            child = 2 * at + 1
            if child >= count:
                break
            if child + 1 < count and ends[child + 1] < ends[child]:
                child += 1
            if ends[child] >= last:
                break
            ends[at], loads[at] = ends[child], loads[child]
            at = child
        ends[at], loads[at] = last, last_load
    return count, load
