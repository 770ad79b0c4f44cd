"""The class of the highest linear score, without most of the scores."""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel, part

# Rows that are decided together: neighbours are alike, and what cannot win for their mean and distance from it is
# looked at once.
TOGETHER = 32
# Rounding of the scores, in parts of their terms: what is that close to winning is looked at.
ROUNDING = 1e-5
# Classes whose scores of `FOUR` rows are summed at a time, `FOUR` terms each: they stay in registers or the nearest
# cache, and a weight that was loaded serves all of these rows.
LANES = 32
FOUR = 4


@part
def add_terms(sums, terms, weights, at):  # type: ignore[no-untyped-def]
    """Add to `FOUR` rows of `LANES` sums the next `FOUR` terms of theirs.

    Args:
        sums: [FOUR * LANES].
        terms: [FOUR, FOUR], of rows, then dimensions.
        weights: from `at` on the weights of the first dimension, [LANES], and so on.
    """
    a0, a1, a2, a3 = terms[0, 0], terms[0, 1], terms[0, 2], terms[0, 3]
    b0, b1, b2, b3 = terms[1, 0], terms[1, 1], terms[1, 2], terms[1, 3]
    c0, c1, c2, c3 = terms[2, 0], terms[2, 1], terms[2, 2], terms[2, 3]
    d0, d1, d2, d3 = terms[3, 0], terms[3, 1], terms[3, 2], terms[3, 3]
    for i in range(LANES):
        w0, w1 = weights[np.uintp(at + i)], weights[np.uintp(at + LANES + i)]
        w2, w3 = weights[np.uintp(at + 2 * LANES + i)], weights[np.uintp(at + 3 * LANES + i)]
        sums[np.uintp(i)] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
        sums[np.uintp(LANES + i)] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
        sums[np.uintp(2 * LANES + i)] += c0 * w0 + c1 * w1 + c2 * w2 + c3 * w3
        sums[np.uintp(3 * LANES + i)] += d0 * w0 + d1 * w1 + d2 * w2 + d3 * w3


@kernel
def highest(start, stop, rows, weights, biases, lengths, out):  # type: ignore[no-untyped-def]
    """Decide blocks start..stop of `TOGETHER` rows: the first class of the highest score weights^T row + bias.

    A row is its block's mean and a rest no longer than r; by Cauchy and Schwarz its score of a class differs from the
    mean's by at most r times the length of the class' weights. Classes that cannot reach the best one are left out.

    Args:
        rows: [R, D], weights [D, C], biases [C], float32; lengths [C], of the columns of `weights`.
        out: [R] int64, written.
    """
    dim, classes = weights.shape
    padded = (dim + FOUR - 1) // FOUR * FOUR
    scores, kept = np.empty(classes, np.float32), np.empty(classes, np.int64)
    packed = np.zeros((classes + LANES - 1) // LANES * padded * LANES, np.float32)
    packed_biases = np.empty((classes + LANES - 1) // LANES * LANES, np.float32)
    local = np.zeros((TOGETHER, padded), np.float32)
    sums, best = np.empty(FOUR * LANES, np.float32), np.empty(FOUR * LANES, np.float32)
    which = np.empty(FOUR * LANES, np.int32)
    mean = np.empty(dim, np.float32)
    longest = np.float32(0)
    for c in range(classes):
        longest = max(longest, lengths[c])
    for block in range(start, stop):
        first, last = block * TOGETHER, min((block + 1) * TOGETHER, rows.shape[0])
        mean[:] = 0
        for row in range(first, last):
            for d in range(dim):
                mean[d] += rows[row, d]
        size = 0.0
        for d in range(dim):
            mean[d] /= np.float32(last - first)
            size += mean[d] * mean[d]
        radius = 0.0
        for row in range(first, last):
            away = 0.0
            for d in range(dim):
                away += (rows[row, d] - mean[d]) * (rows[row, d] - mean[d])
            radius = max(radius, away)
        radius = math.sqrt(radius)
        for c in range(classes):
            scores[np.uintp(c)] = biases[np.uintp(c)]
        for d in range(dim):
            value = mean[d]
            for c in range(classes):
                scores[np.uintp(c)] += value * weights[d, np.uintp(c)]
        reach = np.float32(radius)
        bar = np.float32(-np.inf)
        for c in range(classes):
            bar = max(bar, scores[np.uintp(c)] - reach * lengths[np.uintp(c)])
        bar -= np.float32(ROUNDING * (abs(bar) + longest * (math.sqrt(size) + radius)))
        count = 0
        for c in range(classes):
            kept[np.uintp(count)] = c
            # Not smaller, rather than larger: where numbers are not finite, everything is looked at.
            count += 0 if scores[np.uintp(c)] + reach * lengths[np.uintp(c)] < bar else 1
        if count == 1:
            for row in range(first, last):
                out[row] = kept[0]
            continue
        chunks = (count + LANES - 1) // LANES
        for chunk in range(chunks):
            low, high = chunk * LANES, min((chunk + 1) * LANES, count)
            for i in range(low, high):
                packed_biases[i] = biases[kept[i]]
            packed_biases[high : (chunk + 1) * LANES] = -np.inf
            for d in range(dim):
                at = (chunk * padded + d) * LANES - low
                for i in range(low, high):
                    packed[at + i] = weights[d, kept[i]]
                packed[at + high : at + low + LANES] = 0
        local[:, :] = 0
        for row in range(first, last):
            for d in range(dim):
                local[row - first, d] = rows[row, d]
        for row in range(0, last - first, FOUR):
            best[:] = -np.inf
            which[:] = 0
            for chunk in range(chunks):
                for r in range(FOUR):
                    for i in range(LANES):
                        sums[np.uintp(r * LANES + i)] = packed_biases[np.uintp(chunk * LANES + i)]
                for d in range(0, padded, FOUR):
                    add_terms(sums, local[row : row + FOUR, d : d + FOUR], packed, (chunk * padded + d) * LANES)
                for i in range(FOUR * LANES):
                    higher = sums[np.uintp(i)] > best[np.uintp(i)]
                    best[np.uintp(i)] = sums[np.uintp(i)] if higher else best[np.uintp(i)]
                    which[np.uintp(i)] = np.int32(chunk) if higher else which[np.uintp(i)]
            for r in range(min(FOUR, last - first - row)):
                top = best[r * LANES]
                number = which[r * LANES] * LANES
                for i in range(1, LANES):
                    value, other = best[r * LANES + i], which[r * LANES + i] * LANES + i
                    if value > top or (value == top and other < number):
                        top, number = value, other
                out[first + row + r] = kept[number]
