"""Label sums of sparse pixel rows, and how a loss on them changes with the strength of each Gaussian."""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel


@kernel
def agreement_gradient(  # type: ignore[no-untyped-def]
    start, stop, chosen, crow, col, val, targets, labels, strengths, num_labels, sharpness, robust, out
):
    """Gradient of the generalised cross entropy of some rows by the strengths: added to rows of `out`, one a part.

    A label's score is `sharpness` times its summed weight times strength; labels that do not occur in a row have the
    score 0 and are counted, not visited.

    Args:
        start, stop: parts of `chosen`, which are as many as `out` has rows.
        chosen: [B] rows.
        crow, col, val: [R, N] weights in CSR; `col` may have Gaussians of label 0, which take part in nothing.
        targets: [R] the label that each row should have, 1..num_labels-1.
        labels: [N] label of each Gaussian.
        strengths: [N].
        num_labels: K, 0 included.
        robust: q; the gradient of each row is multiplied with p_target^q.
        out: [parts, N].
    """
    real = val.dtype.type
    sums = np.zeros(num_labels, val.dtype)
    names = np.empty(num_labels, np.int64)
    parts = out.shape[0]
    for part in range(start, stop):
        for number in range(part * len(chosen) // parts, (part + 1) * len(chosen) // parts):
            row = chosen[number]
            target = np.int64(targets[row])
            found = 0
            for k in range(crow[row], crow[row + 1]):
                g = np.uintp(col[k])
                label = np.int64(labels[g])
                if label > 0:
                    if sums[label] == 0:
                        names[found] = label
                        found += 1
                    sums[label] += val[k] * strengths[g] + real(1e-30)
            top = real(0)
            for i in range(found):
                top = max(top, sums[names[i]])
            total = (num_labels - 1 - found) * math.exp(-sharpness * top)
            for i in range(found):
                total += math.exp(sharpness * (sums[names[i]] - top))
            truth = math.exp(sharpness * (sums[target] - top)) / total
            pull = sharpness * truth**robust
            for i in range(found):
                label = names[i]
                share = math.exp(sharpness * (sums[label] - top)) / total
                sums[label] = pull * (share - (1 if label == target else 0))
            for k in range(crow[row], crow[row + 1]):
                g = np.uintp(col[k])
                label = np.int64(labels[g])
                if label > 0:
                    out[part, g] += val[k] * sums[label]
            for i in range(found):
                sums[names[i]] = 0


@kernel
def winners(start, stop, crow, col, val, labels, strengths, num_labels, out):  # type: ignore[no-untyped-def]
    """The label with the largest summed weight times strength of rows start..stop, 0 where there is none: [R]."""
    sums = np.zeros(num_labels, val.dtype)
    names = np.empty(num_labels, np.int64)
    for row in range(start, stop):
        found = 0
        for k in range(crow[row], crow[row + 1]):
            g = np.uintp(col[k])
            label = np.int64(labels[g])
            if label > 0:
                if sums[label] == 0:
                    names[found] = label
                    found += 1
                sums[label] += val[k] * strengths[g] + val.dtype.type(1e-30)
        best, answer = val.dtype.type(0), 0
        for i in range(found):
            if sums[names[i]] > best:
                best, answer = sums[names[i]], names[i]
            sums[names[i]] = 0
        out[row] = answer
