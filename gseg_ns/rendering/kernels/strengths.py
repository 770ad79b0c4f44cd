"""Label sums of sparse pixel rows, and how a loss on them changes with the strength of each Gaussian."""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel, part

BLOCK = 1024
"""Strengths that `adam_step` takes at a time."""


@kernel
def by_label(start, stop, crow, col, val, labels, num_labels, longest, runs):  # type: ignore[no-untyped-def]
    """Bring the weights of rows start..stop into runs of one label, in the order in which labels appear; in place.

    Those of label 0 go to the end.

    Args:
        crow, col, val: [R, N] weights in CSR.
        labels: [N] label of each Gaussian.
        num_labels: K, 0 included.
        longest: weights of the longest row.
        runs: [R], written: runs of each row.
    """
    place = np.full(num_labels, -1, np.int64)
    names = np.empty(longest, np.int64)
    ends = np.empty(longest + 1, np.int64)
    new_col, new_val = np.empty(longest, col.dtype), np.empty(longest, val.dtype)
    for row in range(start, stop):
        begin, end = crow[row], crow[row + 1]
        found = 0
        for k in range(begin, end):
            label = np.int64(labels[col[k]])
            if label > 0:
                if place[label] < 0:
                    place[label] = found
                    names[found] = label
                    ends[found] = 0
                    found += 1
                ends[place[label]] += 1
        total = 0
        for i in range(found):
            count = ends[i]
            ends[i] = total
            total += count
        last = total
        for k in range(begin, end):
            label = np.int64(labels[col[k]])
            at = last
            if label > 0:
                at = ends[place[label]]
                ends[place[label]] += 1
            else:
                last += 1
            new_col[at], new_val[at] = col[k], val[k]
        for k in range(begin, end):
            col[k], val[k] = new_col[k - begin], new_val[k - begin]
        for i in range(found):
            place[names[i]] = -1
        runs[row] = found


@kernel
def list_runs(start, stop, crow, col, labels, begins, run_labels, run_ends):  # type: ignore[no-untyped-def]
    """The runs of rows start..stop that `by_label` has made.

    Args:
        begins: [R + 1], the first run of each row.
        run_labels, run_ends: [runs], written: the label, and where in `col` the run ends.
    """
    for row in range(start, stop):
        k = crow[row]
        for run in range(begins[row], begins[row + 1]):
            label = labels[col[k]]
            while k < crow[row + 1] and labels[col[k]] == label:
                k += 1
            run_labels[run], run_ends[run] = label, k


@part
def _label_sums(row, crow, col, val, begins, run_labels, run_ends, target, strengths, sums):  # type: ignore[no-untyped-def]
    """Summed weight times strength of each run of a row into `sums`; which run is the target's (-1: none), the most."""
    real = val.dtype.type
    first, found = begins[row], begins[row + 1] - begins[row]
    right, top = -1, real(0)
    k = crow[row]
    for i in range(found):
        total = real(0)
        end = run_ends[first + i]
        for at in range(k, end):
            total += val[at] * strengths[np.uintp(col[at])] + real(1e-30)
        k = end
        if run_labels[first + i] == target:
            right = i
        sums[i] = total
        top = max(top, total)
    return right, top


@kernel
def agreement_gradient(  # type: ignore[no-untyped-def]
    start, stop, chosen, crow, col, val, begins, run_labels, run_ends, targets, strengths, num_labels, sharpness,
    robust, out,
):  # fmt: skip
    """Gradient of the generalised cross entropy of some rows by the strengths: added to rows of `out`, one a part.

    A label's score is `sharpness` times its summed weight times strength; labels that do not occur in a row have the
    score 0 and are counted, not visited.

    Args:
        start, stop: parts of `chosen`, which are as many as `out` has rows.
        chosen: [B] rows.
        crow, col, val: [R, N] weights in CSR, each row as `by_label` has left it.
        begins, run_labels, run_ends: its runs, see `list_runs`.
        targets: [R] the label that each row should have, 1..num_labels-1.
        strengths: [N].
        num_labels: K, 0 included.
        robust: q; the gradient of each row is multiplied with p_target^q.
        out: [parts, N].
    """
    real = val.dtype.type
    most = 0
    for row in chosen:
        most = max(most, begins[row + 1] - begins[row])
    sums, odds = np.empty(most, val.dtype), np.empty(most, np.float64)
    parts = out.shape[0]
    for piece in range(start, stop):
        for number in range(piece * len(chosen) // parts, (piece + 1) * len(chosen) // parts):
            row = chosen[number]
            first, found = begins[row], begins[row + 1] - begins[row]
            right, top = _label_sums(
                row, crow, col, val, begins, run_labels, run_ends, np.int64(targets[row]), strengths, sums
            )
            silent = math.exp(-sharpness * top)
            whole = (num_labels - 1 - found) * silent
            for i in range(found):
                odds[i] = math.exp(sharpness * (sums[i] - top))
                whole += odds[i]
            truth = (odds[right] if right >= 0 else silent) / whole
            pull = sharpness * truth**robust
            k = crow[row]
            for i in range(found):
                slope = real(pull * (odds[i] / whole - (1 if i == right else 0)))
                end = run_ends[first + i]
                for at in range(k, end):
                    out[piece, np.uintp(col[at])] += val[at] * slope
                k = end


@kernel
def disagreement(  # type: ignore[no-untyped-def]
    start, stop, chosen, crow, col, val, begins, run_labels, run_ends, targets, strengths, num_labels, sharpness, out
):
    """1 - p of the target of the rows start..stop of `chosen`, see `agreement_gradient`: [B]."""
    most = 0
    for number in range(start, stop):
        most = max(most, begins[chosen[number] + 1] - begins[chosen[number]])
    sums = np.empty(most, val.dtype)
    for number in range(start, stop):
        row = chosen[number]
        found = begins[row + 1] - begins[row]
        right, top = _label_sums(
            row, crow, col, val, begins, run_labels, run_ends, np.int64(targets[row]), strengths, sums
        )
        silent = math.exp(-sharpness * top)
        whole = (num_labels - 1 - found) * silent
        for i in range(found):
            whole += math.exp(sharpness * (sums[i] - top))
        truth = math.exp(sharpness * (sums[right] - top)) if right >= 0 else silent
        out[number] = 1 - truth / whole


@kernel
def adam_step(start, stop, parts, rows, mean, square, values, rate, correction, floor):  # type: ignore[no-untyped-def]
    """A step of Adam for the strengths start..stop, in one walk; what it has read of the gradient is zero afterwards.

    Args:
        parts: [parts, N] the gradient's sums over rows, added up in this order.
        rows: of how many rows they are; the step is that of their mean.
        mean, square: [N] running means of the gradient and of its square, with weights 0.9 and 0.999 of the past.
        values: [N], written: the strengths, not below `floor`.
        rate: of this step, divided by what `mean` lacks by its start at zero.
        correction: what `square` lacks.
    """
    real = values.dtype.type
    share, length = real(1 / rows), real(rate)
    up, least = real(1 / correction), real(floor)
    sums = np.empty(BLOCK, values.dtype)
    for begin in range(start, stop, BLOCK):
        count = min(BLOCK, stop - begin)
        sums[:] = 0
        for piece in range(parts.shape[0]):
            row = parts[piece]
            for i in range(count):
                sums[np.uintp(i)] += row[np.uintp(begin + i)]
                row[np.uintp(begin + i)] = real(0)
        for i in range(count):
            at = np.uintp(begin + i)
            gradient = share * sums[np.uintp(i)]
            first = mean[at] + real(0.1) * (gradient - mean[at])
            second = square[at] + real(0.001) * (gradient * gradient - square[at])
            mean[at], square[at] = first, second
            values[at] = max(values[at] - length * first / (math.sqrt(second * up) + real(1e-15)), least)


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
