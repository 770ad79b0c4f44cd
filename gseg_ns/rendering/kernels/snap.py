"""Labels of pixels by what looks alike around them."""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel


@kernel
def snap(start, stop, picture, labels, edge, band, chosen, num_labels, reach, by_color, by_distance, out):  # type: ignore[no-untyped-def]
    """The label that weighs most around chosen pixels of rows start..stop: one step of a joint bilateral filter.

    Args:
        picture: [H, W, 3] float32 or uint8.
        labels: [H, W] int32 in 0..num_labels-1; pixels of label 0 have no say.
        edge: [H, W] bool; of the chosen pixels those with a label that have one of these
        band: pixels to a side, or nearer, are asked.
        chosen: [H, W] bool.
        reach: pixels to each side that have a say.
        by_color: each weighs exp(-by_color * squared difference of colors
        by_distance: - by_distance * squared distance).
        out: [H, W] int32, written where a pixel is asked and something has a say.
    """
    height, width = labels.shape
    # Labels may be many, and few of them are near a pixel: the others are not looked at, and stay 0.
    sums, around = np.zeros(num_labels, np.float32), np.empty((2 * reach + 1) ** 2, np.int32)
    for y in range(start, stop):
        for x in range(width):
            if not (chosen[y, x] and labels[y, x] > 0):
                continue
            near = False
            for v in range(max(0, y - band), min(height, y + band + 1)):
                for u in range(max(0, x - band), min(width, x + band + 1)):
                    near |= edge[v, u]
            if not near:
                continue
            found = 0
            for v in range(max(0, y - reach), min(height, y + reach + 1)):
                for u in range(max(0, x - reach), min(width, x + reach + 1)):
                    label = labels[v, u]
                    if label > 0:
                        difference = np.float32(0)
                        for channel in range(3):
                            step = np.float32(picture[y, x, channel]) - np.float32(picture[v, u, channel])
                            difference += step * step
                        away = (y - v) * (y - v) + (x - u) * (x - u)
                        if sums[label] == 0:
                            around[found] = label
                            found += 1
                        sums[label] += np.float32(math.exp(-by_color * difference - by_distance * away))
            best = np.float32(0)
            for i in range(found):
                label = around[i]
                if sums[label] > best or (sums[label] == best and 0 < best and label < out[y, x]):
                    best, out[y, x] = sums[label], label
            for i in range(found):
                sums[around[i]] = 0
