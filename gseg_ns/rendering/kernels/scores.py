"""The class of the highest linear score, without most of the scores."""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel

# Rows that are decided together: neighbours are alike, and what cannot win for their mean and distance from it is
# looked at once.
TOGETHER = 32
# Rounding of the scores, in parts of their terms: what is that close to winning is looked at.
ROUNDING = 1e-5


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
    scores, kept_scores = np.empty(classes, np.float32), np.empty(classes, np.float32)
    kept, packed = np.empty(classes, np.int64), np.empty((dim, classes), np.float32)
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
        for d in range(dim):
            for i in range(count):
                packed[d, np.uintp(i)] = weights[d, kept[np.uintp(i)]]
        for row in range(first, last):
            for i in range(count):
                kept_scores[np.uintp(i)] = biases[kept[np.uintp(i)]]
            for d in range(dim):
                value = rows[row, d]
                for i in range(count):
                    kept_scores[np.uintp(i)] += value * packed[d, np.uintp(i)]
            best = kept_scores[0]
            for i in range(1, count):
                best = max(best, kept_scores[np.uintp(i)])
            place = 0
            while place < count - 1 and kept_scores[place] < best:
                place += 1
            out[row] = kept[place]
