"""Which Gaussian adds how much to which pixel: label sums, sparse rows, the largest contributor.

All kernels visit the tile lists exactly as compositing does and take their weights from `weights`.
"""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel
from gseg_ns.rendering.kernels.weights import (
    CHECK_EVERY,
    LANES,
    blend_row,
    column_limits,
    cutoff,
    drawn_alpha,
    falloff,
    finished,
    next_transmittance,
    open_tile,
    row_limits,
    uncapped_alpha,
)


@kernel
def localise_labels(  # type: ignore[no-untyped-def]
    start, stop, labels, num_labels, width, height, tile_size, tile_width, tile_height, local, present, counts
):
    """Number the labels that occur in each tile 0, 1, ... in order of appearance.

    Args:
        labels: [C, H, W] integers; those outside 0..num_labels-1 are ignored.
        local: [C, H, W] int32, written: number within the tile, -1 where ignored.
        present: [tiles, tile_size^2] int32, written: the tile's labels.
        counts: [tiles], written: how many.
    """
    per_camera = tile_width * tile_height
    for tile in range(start, stop):
        camera = tile // per_camera
        tile_y = (tile - camera * per_camera) // tile_width * tile_size
        tile_x = (tile - camera * per_camera) % tile_width * tile_size
        found = 0
        last_label, last_number = np.int64(-1), -1
        for y in range(tile_y, min(tile_y + tile_size, height)):
            for x in range(tile_x, min(tile_x + tile_size, width)):
                label = np.int64(labels[camera, y, x])
                if label != last_label:
                    last_label, last_number = label, -1
                    if 0 <= label < num_labels:
                        for number in range(found):
                            if present[tile, number] == label:
                                last_number = number
                        if last_number < 0:
                            last_number = found
                            present[tile, found] = label
                            found += 1
                local[camera, y, x] = last_number
        counts[tile] = found


@kernel
def vote(  # type: ignore[no-untyped-def]
    start, stop, means2d, conics, opacities, offsets, flatten_ids, width, height, tile_size, tile_width, tile_height,
    local, counts, pair_offsets, pair_sums,
):  # fmt: skip
    """Sum the weights of each (tile, Gaussian) pair by the tile's own label numbers.

    Args:
        local, counts: from `localise_labels`.
        pair_offsets: [tiles], where each tile's sums begin in `pair_sums`: counts[tile] numbers for each pair.
        pair_sums: written.
    """
    real = means2d.dtype.type
    half, zero = real(0.5), real(0)
    stride = (tile_size + LANES - 1) // LANES * LANES
    trans = np.empty(stride * tile_size, means2d.dtype)
    number = np.empty(stride * tile_size, np.int32)
    weight = np.empty(stride, means2d.dtype)
    per_camera = tile_width * tile_height
    for tile in range(start, stop):
        found = counts[tile]
        if found == 0:
            continue
        camera = tile // per_camera
        tile_y = (tile - camera * per_camera) // tile_width * tile_size
        tile_x = (tile - camera * per_camera) % tile_width * tile_size
        rows, columns = open_tile(trans, tile_x, tile_y, stride, tile_size, width, height)
        number[:] = -1
        for row in range(rows):
            for column in range(columns):
                number[row * stride + column] = local[camera, tile_y + row, tile_x + column]
        begin, end = offsets[tile], offsets[tile + 1]
        pair_sums[pair_offsets[tile] : pair_offsets[tile] + found * (end - begin)] = zero
        for k in range(begin, end):
            if (k - begin) % CHECK_EVERY == CHECK_EVERY - 1 and finished(trans):
                break
            g = flatten_ids[k]
            opacity = opacities[g]
            limit = cutoff(opacity)
            if not limit >= 0:
                continue
            x, y = means2d[g, 0], means2d[g, 1]
            a, b, c = conics[g, 0], conics[g, 1], conics[g, 2]
            slot = pair_offsets[tile] + found * (k - begin)
            first_row, last_row = row_limits(y, a, b, c, limit, tile_y, rows)
            for row in range(first_row, last_row):
                dy = real(tile_y + row) + half - y
                first, last = column_limits(x, dy, a, b, c, limit, tile_x, columns)
                base = row * stride
                blend_row(trans, weight, base, first, last, tile_x, x, dy, a, b, c, opacity)
                if found <= 4:
                    for label in range(found):
                        total = zero
                        for i in range(first, last):
                            total += weight[i] if number[base + i] == label else zero
                        pair_sums[slot + label] += total
                else:
                    for i in range(first, last):
                        if number[base + i] >= 0:
                            pair_sums[slot + number[base + i]] += weight[i]


@kernel
def gather_votes(  # type: ignore[no-untyped-def]
    start, stop, num_gaussians, offsets, flatten_ids, present, counts, pair_offsets, pair_sums, out
):
    """Add the pairs' sums to rows start..stop of `out` [N, labels], in list order whatever the cut."""
    for tile in range(counts.shape[0]):
        found = counts[tile]
        if found == 0:
            continue
        for k in range(offsets[tile], offsets[tile + 1]):
            g = flatten_ids[k] % num_gaussians
            if start <= g < stop:
                slot = pair_offsets[tile] + found * (k - offsets[tile])
                for number in range(found):
                    out[g, present[tile, number]] += pair_sums[slot + number]


@kernel
def top(  # type: ignore[no-untyped-def]
    start, stop, means2d, conics, opacities, offsets, flatten_ids, width, height, tile_size, tile_width, tile_height,
    num_gaussians, out_ids, out_weights,
):  # fmt: skip
    """The Gaussian of the largest weight at each pixel (the nearest of equals), -1 where nothing is drawn.

    Args:
        out_ids: [C, H, W] int64, out_weights [C, H, W], written.
    """
    real = means2d.dtype.type
    half = real(0.5)
    stride = (tile_size + LANES - 1) // LANES * LANES
    trans = np.empty(stride * tile_size, means2d.dtype)
    best = np.empty(stride * tile_size, means2d.dtype)
    owner = np.empty(stride * tile_size, np.int32)
    weight = np.empty(stride, means2d.dtype)
    per_camera = tile_width * tile_height
    for tile in range(start, stop):
        camera = tile // per_camera
        tile_y = (tile - camera * per_camera) // tile_width * tile_size
        tile_x = (tile - camera * per_camera) % tile_width * tile_size
        rows, columns = open_tile(trans, tile_x, tile_y, stride, tile_size, width, height)
        best[:] = real(0)
        owner[:] = -1
        begin, end = offsets[tile], offsets[tile + 1]
        for k in range(begin, end):
            if (k - begin) % CHECK_EVERY == CHECK_EVERY - 1 and finished(trans):
                break
            g = flatten_ids[k]
            opacity = opacities[g]
            limit = cutoff(opacity)
            if not limit >= 0:
                continue
            x, y = means2d[g, 0], means2d[g, 1]
            a, b, c = conics[g, 0], conics[g, 1], conics[g, 2]
            name = np.int32(g % num_gaussians)
            first_row, last_row = row_limits(y, a, b, c, limit, tile_y, rows)
            for row in range(first_row, last_row):
                dy = real(tile_y + row) + half - y
                first, last = column_limits(x, dy, a, b, c, limit, tile_x, columns)
                base = row * stride
                blend_row(trans, weight, base, first, last, tile_x, x, dy, a, b, c, opacity)
                for i in range(first, last):
                    larger = weight[i] > best[base + i]
                    owner[base + i] = name if larger else owner[base + i]
                    best[base + i] = weight[i] if larger else best[base + i]
        for row in range(rows):
            for column in range(columns):
                out_ids[camera, tile_y + row, tile_x + column] = owner[row * stride + column]
                out_weights[camera, tile_y + row, tile_x + column] = best[row * stride + column]


@kernel
def pixel_rows(  # type: ignore[no-untyped-def]
    start, stop, groups, order, pixels, means2d, conics, opacities, offsets, flatten_ids, width, tile_size, tile_width,
    row_starts, cols, vals,
):  # fmt: skip
    """Weights of chosen pixels, front to back, as sparse rows.

    Two calls: with `cols` empty, `row_starts[p + 1]` receives the number of weights of pixel p; with `row_starts`
    holding the exclusive sums, `cols` and `vals` are filled.

    Args:
        groups: [tiles + 1] into `order`, which lists the positions in `pixels` tile by tile.
        pixels: [P] flat indices y * width + x.
    """
    real = means2d.dtype.type
    half, done = real(0.5), real(1e-4)
    fill = cols.shape[0] > 0
    longest = 0
    for tile in range(start, stop):
        if groups[tile + 1] > groups[tile]:
            longest = max(longest, offsets[tile + 1] - offsets[tile])
    shape = np.empty((6, longest), means2d.dtype)
    alphas = np.empty(longest, means2d.dtype)
    for tile in range(start, stop):
        if groups[tile + 1] == groups[tile]:
            continue
        begin = offsets[tile]
        length = offsets[tile + 1] - begin
        for k in range(length):
            g = flatten_ids[begin + k]
            shape[0, k], shape[1, k] = means2d[g, 0], means2d[g, 1]
            shape[2, k], shape[3, k], shape[4, k] = conics[g, 0], conics[g, 1], conics[g, 2]
            shape[5, k] = opacities[g]
        for member in range(groups[tile], groups[tile + 1]):
            position = order[member]
            pixel = pixels[position]
            px, py = real(pixel % width) + half, real(pixel // width) + half
            for k in range(length):
                sigma = falloff(px - shape[0, k], py - shape[1, k], shape[2, k], shape[3, k], shape[4, k])
                alphas[k] = drawn_alpha(uncapped_alpha(shape[5, k], sigma), sigma)
            before = real(1)
            found = row_starts[position] if fill else 0
            for k in range(length):
                alpha = alphas[k]
                if alpha > 0:
                    after = next_transmittance(before, alpha)
                    if not after > done:
                        break
                    if fill:
                        cols[found] = flatten_ids[begin + k]
                        vals[found] = alpha * before
                    found += 1
                    before = after
            if not fill:
                row_starts[position + 1] = found


@kernel
def sparse_times_dense(start, stop, crow, col, val, features, out):  # type: ignore[no-untyped-def]
    """Rows start..stop of out [P, D] = W features, W in CSR."""
    for p in range(start, stop):
        out[p] = 0
        for k in range(crow[p], crow[p + 1]):
            for d in range(features.shape[1]):
                out[p, d] += val[k] * features[col[k], d]


@kernel
def transpose_times_dense(start, stop, block, crow, col, val, grad, out):  # type: ignore[no-untyped-def]
    """Channel blocks start..stop of out [N, D] += W^T grad; blocks have `block` channels."""
    low, high = start * block, min(stop * block, grad.shape[1])
    for p in range(crow.shape[0] - 1):
        for k in range(crow[p], crow[p + 1]):
            for d in range(low, high):
                out[col[k], d] += val[k] * grad[p, d]
