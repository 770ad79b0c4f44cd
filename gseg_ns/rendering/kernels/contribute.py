"""Which Gaussian adds how much to which pixel: label sums, the largest contributor.

All kernels visit the tile lists exactly as compositing does and take their weights from `weights`.
"""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel
from gseg_ns.rendering.kernels.weights import (
    CHECK_EVERY,
    COLUMNS,
    LOOKAHEAD,
    PLANES,
    SIZE,
    TRANS,
    WEIGHT,
    blend,
    blocks_of,
    finished,
    new_block,
    new_lookahead,
    open_block,
    reaching,
    run_of,
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
    start, stop, packed, offsets, flatten_ids, width, height, tile_size, tile_width, tile_height,
    local, counts, pair_offsets, pair_sums, values, out_values, out_alpha,
):  # fmt: skip
    """Sum the weights of each (tile, Gaussian) pair by the tile's own label numbers; composite a value on the way.

    Args:
        local, counts: from `localise_labels`.
        pair_offsets: [tiles], where each tile's sums begin in `pair_sums`: counts[tile] numbers for each pair.
        pair_sums: written.
        values: [M], of each projected Gaussian; empty: nothing is composited.
        out_values, out_alpha: [C, H, W], written where there are values.
    """
    real = packed.dtype.type
    zero = real(0)
    block = new_block(2, packed.dtype)
    drawing = values.shape[0] > 0
    firsts, lasts, near = new_lookahead()
    across, down = blocks_of(tile_size)
    for tile in range(start, stop):
        found = counts[tile]
        begin, end = offsets[tile], offsets[tile + 1]
        pair_sums[pair_offsets[tile] : pair_offsets[tile] + found * (end - begin)] = 0
        for number in range(across * down if found > 0 or drawing else 0):
            camera, left, top, columns, rows = open_block(
                block, number, tile, tile_size, tile_width, tile_height, width, height
            )
            block[PLANES : PLANES + SIZE] = -1
            block[PLANES + SIZE :] = 0
            lowest, highest = found, -1
            for row in range(rows):
                for column in range(columns):
                    label = local[camera, top + row, left + column]
                    block[PLANES + row * COLUMNS + column] = label
                    if label >= 0:
                        lowest, highest = min(lowest, label), max(highest, label)
            ahead = begin if highest >= 0 or drawing else end
            while ahead < end and not finished(block):
                stop_at = min(ahead + LOOKAHEAD, end)
                count = reaching(packed, flatten_ids, ahead, stop_at, left, top, columns, rows, firsts, lasts, near)
                for i in range(count):
                    if i % CHECK_EVERY == CHECK_EVERY - 1 and finished(block):
                        break
                    k = ahead + near[i]
                    g = flatten_ids[k]
                    first, last = run_of(firsts[near[i]], lasts[near[i]])
                    blend(block, first, last, packed, g, left, top)
                    if drawing:
                        value = values[g]
                        for p in range(first, last):
                            block[np.uintp(PLANES + SIZE + p)] += block[np.uintp(WEIGHT + p)] * value
                    slot = pair_offsets[tile] + found * (k - begin)
                    if highest - lowest < 4:
                        for label in range(lowest, highest + 1):
                            name = real(label)
                            total = zero
                            for p in range(first, last):
                                total += block[np.uintp(WEIGHT + p)] if block[np.uintp(PLANES + p)] == name else zero
                            pair_sums[slot + label] += total
                    else:
                        for p in range(first, last):
                            label = np.int64(block[np.uintp(PLANES + p)])
                            if label >= 0:
                                pair_sums[slot + label] += block[np.uintp(WEIGHT + p)]
                ahead = stop_at
            for row in range(rows if drawing else 0):
                for column in range(columns):
                    p = row * COLUMNS + column
                    out_values[camera, top + row, left + column] = block[PLANES + SIZE + p]
                    out_alpha[camera, top + row, left + column] = real(1) - abs(block[TRANS + p])


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
def count_votes(start, stop, num_gaussians, offsets, flatten_ids, tile_counts, pair_offsets, pair_sums, entries):  # type: ignore[no-untyped-def]
    """How many of the pairs' sums are not zero.

    Args:
        start, stop: parts of the tiles, which are as many as `entries` has rows.
        entries: [parts, N] of zeros, written: of each Gaussian in the tiles of each part.
    """
    parts, tiles = entries.shape[0], tile_counts.shape[0]
    for part in range(start, stop):
        for tile in range(part * tiles // parts, (part + 1) * tiles // parts):
            found = tile_counts[tile]
            slot = pair_offsets[tile]
            for k in range(offsets[tile], offsets[tile + 1] if found > 0 else offsets[tile]):
                filled = 0
                for number in range(found):
                    filled += 1 if pair_sums[np.uintp(slot + number)] > 0 else 0
                slot += found
                if filled > 0:
                    g = np.int64(flatten_ids[k])
                    entries[part, g if g < num_gaussians else g % num_gaussians] += filled


@kernel
def place_votes(  # type: ignore[no-untyped-def]
    start, stop, num_gaussians, offsets, flatten_ids, present, tile_counts, pair_offsets, pair_sums, ends, labels, sums
):
    """List the sums that are not zero by Gaussian, in list order.

    Args:
        start, stop: parts of the tiles, as in `count_votes`.
        ends: [parts, N], where the entries of each Gaussian in each part begin; afterwards, where they end.
        labels, sums: written.
    """
    parts, tiles = ends.shape[0], tile_counts.shape[0]
    for part in range(start, stop):
        for tile in range(part * tiles // parts, (part + 1) * tiles // parts):
            found = tile_counts[tile]
            slot = pair_offsets[tile]
            for k in range(offsets[tile], offsets[tile + 1] if found > 0 else offsets[tile]):
                g = np.int64(flatten_ids[k])
                g = g if g < num_gaussians else g % num_gaussians
                for number in range(found):
                    total = pair_sums[np.uintp(slot + number)]
                    if total > 0:
                        end = ends[part, g]
                        labels[end], sums[end] = present[tile, number], total
                        ends[part, g] = end + 1
                slot += found


@kernel
def merge_votes(start, stop, begins, labels, sums, kept):  # type: ignore[no-untyped-def]
    """Make the lists of Gaussians start..stop name each label once, rising.

    Sums of one label are added in list order, as `gather_votes` adds them: the same to the last bit.

    Args:
        begins: [N + 1], where the list of each Gaussian begins in `labels` and `sums`, as `place_votes` left them.
        labels, sums: changed: lists are shorter, and begin where they began.
        kept: [N], written: their lengths.
    """
    for g in range(start, stop):
        first = begins[g]
        end = first
        for entry in range(first, begins[g + 1]):
            label, total = labels[entry], sums[entry]
            place = end
            while place > first and labels[place - 1] >= label:
                place -= 1
            if place < end and labels[place] == label:
                sums[place] += total
                continue
            for other in range(end, place, -1):
                labels[other], sums[other] = labels[other - 1], sums[other - 1]
            labels[place], sums[place] = label, total
            end += 1
        kept[g] = end - first


@kernel
def gather_lists(start, stop, begins, kept, ends, labels, sums, out_ids, out_labels, out_sums):  # type: ignore[no-untyped-def]
    """Close the gaps between the lists of `merge_votes`.

    Args:
        ends: [N], running sums of `kept`.
        out_ids, out_labels, out_sums: written, as long as all lists together.
    """
    for g in range(start, stop):
        first = ends[g] - kept[g]
        for number in range(kept[g]):
            out_ids[first + number] = g
            out_labels[first + number] = labels[begins[g] + number]
            out_sums[first + number] = sums[begins[g] + number]


@kernel
def dominant(  # type: ignore[no-untyped-def]
    start, stop, packed, offsets, flatten_ids, width, height, tile_size, tile_width, tile_height, num_gaussians,
    labels, factors, num_labels, out_labels, out_weights, out_plain,
):  # fmt: skip
    """The label of the largest summed weight at each pixel (the first to appear of equals), 0 where there is none.

    A tile sums the labels that occur in it and no others, so that their number in the scene does not matter.

    Args:
        labels: [N] integers in 0..num_labels-1; 0 takes part in nothing.
        factors: [N], what the weights of each Gaussian are multiplied with for the choice; empty: nothing.
        out_labels: [C, H, W] int64, out_weights [C, H, W], written.
        out_plain: [C, H, W] int64, written where there are factors: the answers without them.
    """
    block = new_block(1, packed.dtype)
    firsts, lasts, near = new_lookahead()
    across, down = blocks_of(tile_size)
    numbers = np.full(num_labels, -1, np.int64)
    names = np.empty(num_labels, np.int64)
    for tile in range(start, stop):
        begin, end = offsets[tile], offsets[tile + 1]
        found = 0
        for k in range(begin, end):
            label = labels[flatten_ids[k] % num_gaussians]
            if label > 0 and numbers[label] < 0:
                numbers[label] = found
                names[found] = label
                found += 1
        sums = np.empty(found * SIZE, packed.dtype)
        plain = np.empty(found * SIZE if factors.shape[0] > 0 else 0, packed.dtype)
        for number in range(across * down):
            camera, left, top, columns, rows = open_block(
                block, number, tile, tile_size, tile_width, tile_height, width, height
            )
            sums[:] = 0
            plain[:] = 0
            ahead = begin if found > 0 else end
            while ahead < end and not finished(block):
                stop_at = min(ahead + LOOKAHEAD, end)
                count = reaching(packed, flatten_ids, ahead, stop_at, left, top, columns, rows, firsts, lasts, near)
                for i in range(count):
                    if i % CHECK_EVERY == CHECK_EVERY - 1 and finished(block):
                        break
                    g = flatten_ids[ahead + near[i]]
                    first, last = run_of(firsts[near[i]], lasts[near[i]])
                    blend(block, first, last, packed, g, left, top)
                    label = labels[g % num_gaussians]
                    if label > 0:
                        base = numbers[label] * SIZE
                        if factors.shape[0] > 0:
                            factor = factors[g % num_gaussians]
                            for p in range(first, last):
                                sums[np.uintp(base + p)] += factor * block[np.uintp(WEIGHT + p)]
                                plain[np.uintp(base + p)] += block[np.uintp(WEIGHT + p)]
                        else:
                            for p in range(first, last):
                                sums[np.uintp(base + p)] += block[np.uintp(WEIGHT + p)]
                ahead = stop_at
            for row in range(rows):
                for column in range(columns):
                    p = row * COLUMNS + column
                    best, winner, place = packed.dtype.type(0), np.int64(0), -1
                    for candidate in range(found):
                        if sums[candidate * SIZE + p] > best:
                            best, winner, place = sums[candidate * SIZE + p], names[candidate], candidate * SIZE + p
                    out_labels[camera, top + row, left + column] = winner
                    if factors.shape[0] > 0:
                        most, first_choice = packed.dtype.type(0), np.int64(0)
                        for candidate in range(found):
                            if plain[candidate * SIZE + p] > most:
                                most, first_choice = plain[candidate * SIZE + p], names[candidate]
                        out_plain[camera, top + row, left + column] = first_choice
                    out_weights[camera, top + row, left + column] = (
                        plain[place] if factors.shape[0] > 0 and place >= 0 else best
                    )
        for candidate in range(found):
            numbers[names[candidate]] = -1


@kernel
def top(  # type: ignore[no-untyped-def]
    start, stop, packed, offsets, flatten_ids, width, height, tile_size, tile_width, tile_height, num_gaussians,
    out_ids, out_weights,
):  # fmt: skip
    """The Gaussian of the largest weight at each pixel (the nearest of equals), -1 where nothing is drawn.

    Args:
        out_ids: [C, H, W] int64, out_weights [C, H, W], written.
    """
    block = new_block(1, packed.dtype)
    owner = np.empty(SIZE, np.int32)
    firsts, lasts, near = new_lookahead()
    across, down = blocks_of(tile_size)
    for tile in range(start, stop):
        begin, end = offsets[tile], offsets[tile + 1]
        for number in range(across * down):
            camera, left, top, columns, rows = open_block(
                block, number, tile, tile_size, tile_width, tile_height, width, height
            )
            block[PLANES:] = 0
            owner[:] = -1
            ahead = begin
            while ahead < end and not finished(block):
                stop_at = min(ahead + LOOKAHEAD, end)
                count = reaching(packed, flatten_ids, ahead, stop_at, left, top, columns, rows, firsts, lasts, near)
                for i in range(count):
                    if i % CHECK_EVERY == CHECK_EVERY - 1 and finished(block):
                        break
                    g = flatten_ids[ahead + near[i]]
                    first, last = run_of(firsts[near[i]], lasts[near[i]])
                    blend(block, first, last, packed, g, left, top)
                    name = np.int32(g % num_gaussians)
                    for p in range(first, last):
                        w, best = block[np.uintp(WEIGHT + p)], block[np.uintp(PLANES + p)]
                        owner[np.uintp(p)] = name if w > best else owner[np.uintp(p)]
                        block[np.uintp(PLANES + p)] = w if w > best else best
                ahead = stop_at
            for row in range(rows):
                for column in range(columns):
                    out_ids[camera, top + row, left + column] = owner[row * COLUMNS + column]
                    out_weights[camera, top + row, left + column] = block[PLANES + row * COLUMNS + column]
