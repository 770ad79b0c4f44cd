"""Photographs compared along rays; for `gseg_ns.rendering.threads`, compiled.

Pictures lie in flat arrays, one after the other: `places` says of each where it begins, how high and how wide it is.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, error_model="numpy")

FEWEST = 2
"""Other photographs that have to show a place for a color to be compared."""
BEST = 0.5
"""The part of them, those that are most alike, that counts: the others have something before the place."""
_MOST = 0.3
"""Difference of colors beyond which it does not matter how different they are."""


@_compiled
def _in_world(inverse, lens, row, column, depth):  # type: ignore[no-untyped-def]
    x, y = (column + 0.5 - lens[2]) / lens[0] * depth, (row + 0.5 - lens[3]) / lens[1] * depth
    a = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] * depth + inverse[0, 3]
    b = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] * depth + inverse[1, 3]
    c = inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2] * depth + inverse[2, 3]
    return a, b, c


@_compiled
def _in_picture(view, lens, a, b, c):  # type: ignore[no-untyped-def]
    """Where a picture has a place, in pixels, and how deep; outside of all pictures where it is behind."""
    depth = view[2, 0] * a + view[2, 1] * b + view[2, 2] * c + view[2, 3]
    if depth <= 0:
        return -1.0, -1.0, depth
    u = (view[0, 0] * a + view[0, 1] * b + view[0, 2] * c + view[0, 3]) / depth * lens[0] + lens[2]
    v = (view[1, 0] * a + view[1, 1] * b + view[1, 2] * c + view[1, 3]) / depth * lens[1] + lens[3]
    return u, v, depth


@_compiled
def compare(  # type: ignore[no-untyped-def]
    start, stop, rows, columns, me, others, places, views, inverses, lenses, depths, own, colors, steps, slack, costs
):
    """How different the colors are that photographs show of places along the rays of one of them.

    Args:
        start, stop: pixels of it.
        rows, columns: int64 [n].
        me: its number.
        others: int64 [m], the photographs that it is compared with.
        places: int64 [V, 3].
        views, inverses: float64 [V, 4, 4], to the cameras and back.
        lenses: float64 [V, 4], fx, fy, cx, cy in pixels.
        depths: float32 [all pixels], of the object where it is seen, else of what is seen.
        own: bool [all pixels], where that is the object.
        colors: uint8 [all pixels, 3].
        steps: float64 [s], lengths along the ray behind the object's depth, 0 among them.
        slack: a length; what ends nearer than this before a place is the place.
        costs: float32 [n, s] becomes the mean difference of colors in 0..1, and more where pictures show what is behind
            the object there; nan where too few show it.
    """
    alike, found, past = np.empty(len(others)), np.empty(len(steps), np.int64), np.empty(len(steps))
    zero = 0
    for j in range(len(steps)):
        if abs(steps[j]) < abs(steps[zero]):
            zero = j
    for i in range(start, stop):
        row, column = rows[i], columns[i]
        here = places[me, 0] + row * places[me, 2] + column
        x, y = (column + 0.5 - lenses[me, 2]) / lenses[me, 0], (row + 0.5 - lenses[me, 3]) / lenses[me, 1]
        along = 1 / math.sqrt(x * x + y * y + 1)
        for j in range(len(steps)):
            a, b, c = _in_world(inverses[me], lenses[me], row, column, depths[here] + steps[j] * along)
            count, behind = 0, 0
            for k in others:
                u, v, depth = _in_picture(views[k], lenses[k], a, b, c)
                if not (u >= 0 and v >= 0 and u < places[k, 2] and v < places[k, 1]):
                    continue
                there = places[k, 0] + int(v) * places[k, 2] + int(u)
                if not own[there]:
                    behind += depths[there] > depth
                    continue
                # What hides the deeper place may be what is looked behind.
                if depths[there] < depth - slack - max(steps[j], 0.0):
                    continue
                u, v = u - 0.5, v - 0.5
                if not (u >= 0 and v >= 0 and u < places[k, 2] - 1 and v < places[k, 1] - 1):
                    continue
                left, top = int(u), int(v)
                u, v = u - left, v - top
                above = places[k, 0] + top * places[k, 2] + left
                below = above + places[k, 2]
                difference = 0.0
                for channel in range(3):
                    shown = (1 - v) * ((1 - u) * colors[above, channel] + u * colors[above + 1, channel]) + v * (
                        (1 - u) * colors[below, channel] + u * colors[below + 1, channel]
                    )
                    difference += abs(shown - colors[here, channel])
                alike[count] = min(difference / (3 * 255), _MOST)
                count += 1
            found[j] = count
            past[j] = behind / max(behind + count, 1)
            if count < FEWEST:
                costs[i, j] = np.nan
                continue
            best = max(FEWEST, math.ceil(BEST * count))
            costs[i, j] = np.sort(alike[:count])[:best].mean()
        few, before = 0.5 * found[zero], past[zero]
        for j in range(len(steps)):
            if found[j] < few:
                costs[i, j] = np.nan
            else:
                costs[i, j] += _MOST * max(past[j] - before, 0.0)


@_compiled
def choose(start, stop, lattice, costs, steps, least, ratio, shifts):  # type: ignore[no-untyped-def]
    """The step at which a pixel and those around it are most alike in other photographs.

    Args:
        start, stop: rows of the lattice.
        lattice: int64 [h, w], the number of the pixel there, or -1.
        costs: float32 [n, s], see `compare`.
        steps: float64 [s], 0 among them.
        least: float64 [n], shorter steps are none.
        ratio: of the cost at step 0, that of the chosen one has to be below.
        shifts: float64 [n], becomes the chosen steps, 0 where none is that much better.
    """
    high, wide = lattice.shape
    zero = 0
    for j in range(len(steps)):
        if abs(steps[j]) < abs(steps[zero]):
            zero = j
    for a in range(start, stop):
        for b in range(wide):
            i = lattice[a, b]
            if i < 0:
                continue
            best, chosen, now = math.inf, zero, math.nan
            for j in range(len(steps)):
                if math.isnan(costs[i, j]):
                    continue
                total, count = 0.0, 0
                for c in range(max(a - 1, 0), min(a + 2, high)):
                    for d in range(max(b - 1, 0), min(b + 2, wide)):
                        k = lattice[c, d]
                        if k >= 0 and not math.isnan(costs[k, j]):
                            total += costs[k, j]
                            count += 1
                if count < 3:
                    continue
                if j == zero:
                    now = total / count
                if total / count < best:
                    best, chosen = total / count, j
            shifts[i] = steps[chosen] if best < ratio * now and steps[chosen] >= least[i] else 0.0


@_compiled
def medians(start, stop, lattice, values, out):  # type: ignore[no-untyped-def]
    """The median of what is two places around each pixel of a lattice, see `choose`: [n]."""
    high, wide = lattice.shape
    around = np.empty(25)
    for a in range(start, stop):
        for b in range(wide):
            if lattice[a, b] < 0:
                continue
            count = 0
            for c in range(max(a - 2, 0), min(a + 3, high)):
                for d in range(max(b - 2, 0), min(b + 3, wide)):
                    if lattice[c, d] >= 0:
                        around[count] = values[lattice[c, d]]
                        count += 1
            out[lattice[a, b]] = np.median(around[:count])


@_compiled
def confirm(  # type: ignore[no-untyped-def]
    start, stop, rows, columns, me, places, views, inverses, lenses, depths, own, near, least, out
):
    """Which pixels of a picture other pictures agree with: enough of them, and no fewer than see through the place.

    Args:
        start, stop, rows, columns, me, places, views, inverses, lenses, depths, own: see `compare`.
        near: a length; depths that differ by less agree.
        least: so many have to.
        out: bool [n].
    """
    for i in range(start, stop):
        here = places[me, 0] + rows[i] * places[me, 2] + columns[i]
        a, b, c = _in_world(inverses[me], lenses[me], rows[i], columns[i], depths[here])
        agree, through = 0, 0
        for k in range(len(views)):
            if k == me:
                continue
            u, v, depth = _in_picture(views[k], lenses[k], a, b, c)
            if not (u >= 0 and v >= 0 and u < places[k, 2] and v < places[k, 1]):
                continue
            there = places[k, 0] + int(v) * places[k, 2] + int(u)
            if own[there]:
                agree += abs(depths[there] - depth) < near
                through += depths[there] - depth >= near
        out[i] = agree >= least and agree >= through
