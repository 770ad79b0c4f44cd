"""What chosen pixels see, one row of weights a pixel, and products with such rows.

Weights are those of `weights`, front to back as compositing takes them.
"""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel
from gseg_ns.rendering.kernels.weights import (
    OPACITY,
    A,
    B,
    C,
    X,
    Y,
    drawn_alpha,
    falloff,
    next_transmittance,
    uncapped_alpha,
)

# Gaussians that a single pixel evaluates at a time, before it looks whether it is finished.
CHUNK = 64


@kernel
def pixel_rows(  # type: ignore[no-untyped-def]
    start, stop, groups, order, pixels, packed, offsets, flatten_ids, width, tile_size, tile_width, lengths
):
    """Weights of the chosen pixels of tiles start..stop, front to back, row after row in the order of `order`.

    How many there will be is known at the end alone: they are listed in arrays that grow, since the weights cost far
    more than a copy.

    Args:
        groups: [tiles + 1] into `order`, which lists the positions in `pixels` tile by tile.
        pixels: [P] flat indices y * width + x.
        lengths: [P], written: the number of weights of each of these tiles' pixels.

    Returns:
        Gaussians int32 and their weights.
    """
    real = packed.dtype.type
    half, done = real(0.5), real(1e-4)
    longest = np.int64(0)
    for tile in range(start, stop):
        if groups[tile + 1] > groups[tile]:
            longest = max(longest, offsets[tile + 1] - offsets[tile])
    shape = np.empty((6, longest), packed.dtype)
    alphas = np.empty(longest, packed.dtype)
    drawn = np.empty(CHUNK + 1, np.int64)
    room = 32 * (groups[stop] - groups[start]) + CHUNK
    cols, vals = np.empty(room, np.int32), np.empty(room, packed.dtype)
    found = np.int64(0)
    x, y, a, b, c, opacity = shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]
    for tile in range(start, stop):
        if groups[tile + 1] == groups[tile]:
            continue
        begin = offsets[tile]
        length = offsets[tile + 1] - begin
        for k in range(length):
            g = flatten_ids[begin + k]
            x[k], y[k], opacity[k] = packed[g, X], packed[g, Y], packed[g, OPACITY]
            a[k], b[k], c[k] = packed[g, A], packed[g, B], packed[g, C]
        for member in range(groups[tile], groups[tile + 1]):
            position = order[member]
            pixel = pixels[position]
            px, py = real(pixel % width) + half, real(pixel // width) + half
            before = real(1)
            first = found
            for chunk in range(0, length, CHUNK):
                chunk_end = min(chunk + CHUNK, length)
                for k in range(chunk, chunk_end):
                    at = np.uintp(k)  # an unsigned index needs no test for negative ones, so the loop vectorises
                    sigma = falloff(px - x[at], py - y[at], a[at], b[at], c[at])
                    alphas[at] = drawn_alpha(uncapped_alpha(opacity[at], sigma), sigma)
                # Half of the alphas are 0 without pattern: collect the others without a branch to mispredict.
                kept = 0
                for k in range(chunk, chunk_end):
                    drawn[np.uintp(kept)] = k
                    kept += 1 if alphas[np.uintp(k)] > 0 else 0
                if found + kept > room:
                    room += room // 2 + CHUNK
                    more_cols, more_vals = np.empty(room, np.int32), np.empty(room, packed.dtype)
                    more_cols[:found], more_vals[:found] = cols[:found], vals[:found]
                    cols, vals = more_cols, more_vals
                for i in range(kept):
                    k = drawn[i]
                    after = next_transmittance(before, alphas[k])
                    if not after > done:
                        before = real(-1)
                        break
                    cols[found] = flatten_ids[begin + k]
                    vals[found] = alphas[k] * before
                    found += 1
                    before = after
                if before < 0:
                    break
            lengths[position] = found - first
    return cols[:found], vals[:found]


@kernel
def place_rows(start, stop, first, order, crow, listed_cols, listed_vals, cols, vals):  # type: ignore[no-untyped-def]
    """Copy rows that `pixel_rows` listed to where they belong.

    Args:
        start, stop: positions in `order`, counted from `first`, whose rows begin at 0 of what is listed.
        crow: [P + 1], where each row belongs.
        cols, vals: written.
    """
    source = np.int64(0)
    for member in range(first, first + start):
        source += crow[order[member] + 1] - crow[order[member]]
    for member in range(first + start, first + stop):
        place = crow[order[member]]
        for k in range(crow[order[member] + 1] - place):
            cols[np.uintp(place + k)] = listed_cols[np.uintp(source + k)]
            vals[np.uintp(place + k)] = listed_vals[np.uintp(source + k)]
        source += crow[order[member] + 1] - place


@kernel
def sparse_times_dense(start, stop, crow, col, val, features, out):  # type: ignore[no-untyped-def]
    """Rows start..stop of out [P, D] = W features, W in CSR."""
    for p in range(start, stop):
        out[p] = 0
        row = np.uintp(p)
        for k in range(crow[p], crow[p + 1]):
            g, w = np.uintp(col[k]), val[k]
            for d in range(features.shape[1]):
                out[row, np.uintp(d)] += w * features[g, np.uintp(d)]


@kernel
def transpose_times_dense(start, stop, block, crow, col, val, grad, out):  # type: ignore[no-untyped-def]
    """Channel blocks start..stop of out [N, D] += W^T grad; blocks have `block` channels."""
    low, high = start * block, min(stop * block, grad.shape[1])
    for p in range(crow.shape[0] - 1):
        row = np.uintp(p)
        for k in range(crow[p], crow[p + 1]):
            g, w = np.uintp(col[k]), val[k]
            for d in range(low, high):
                out[g, np.uintp(d)] += w * grad[row, np.uintp(d)]
