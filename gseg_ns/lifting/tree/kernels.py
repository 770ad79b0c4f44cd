"""Sums over the cells of views that sparse products of SciPy would fill large tables for.

A table compressed by rows is passed as its starts and indices, and its values where it has some.
"""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import exact


@exact
def cell_sums(  # type: ignore[no-untyped-def]
    set_starts, set_gaussians, entry_starts, entry_cells, entry_pixels, cell_starts, cell_masks, view_of_cell,
    common, sizes,
):  # fmt: skip
    """Pixels that some sets share with every mask, and that they have in every view.

    Args:
        set_starts, set_gaussians: the sets.
        entry_starts, entry_cells, entry_pixels: the cells of each Gaussian, one a view that sees it.
        cell_starts, cell_masks: the masks of each cell.
        view_of_cell: [K].
        common: [C, M] float32 of zeros, written.
        sizes: [C, V] float32 of zeros, written.
    """
    sums = np.zeros(len(view_of_cell), np.float32)
    for row in range(len(set_starts) - 1):
        for place in range(set_starts[row], set_starts[row + 1]):
            gaussian = set_gaussians[place]
            for entry in range(entry_starts[gaussian], entry_starts[gaussian + 1]):
                sums[entry_cells[entry]] += entry_pixels[entry]
        for cell in range(len(sums)):
            amount = sums[cell]
            if amount > 0:
                sums[cell] = 0
                sizes[row, view_of_cell[cell]] += amount
                for place in range(cell_starts[cell], cell_starts[cell + 1]):
                    common[row, cell_masks[place]] += amount


@exact
def shares_of(  # type: ignore[no-untyped-def]
    heard, masks, majority, weight, entry_starts, entry_views, entry_pixels, mask_starts, mask_cells, seen_starts,
    seen_gaussians, seen_pixels, offsets, gaussians, values, counts,
):  # fmt: skip
    """How much of each Gaussian lies in one mask each of some views, of what these views see of it.

    Args:
        heard: [C, V] bool, the views that are asked about a set.
        masks: [C, V], the mask of each of them.
        majority: whether only those above a half are asked for; their shares are then written as 1.
        weight: [G] pixels of each Gaussian in all views.
        entry_starts, entry_views, entry_pixels: the views of each Gaussian that see it.
        mask_starts, mask_cells: the cells of each mask.
        seen_starts, seen_gaussians, seen_pixels: the Gaussians of each cell.
        offsets: [C], where the answers about a set begin.
        gaussians, values: written: the answers.
        counts: [C], written: how many there are.
    """
    among = np.zeros(len(weight), np.float32)
    met = np.zeros(len(weight), np.int32)
    audience = np.zeros(heard.shape[1], np.float32)
    for row in range(len(heard)):
        count = 0
        for view in range(heard.shape[1]):
            audience[view] = 1 if heard[row, view] else 0
            if not heard[row, view]:
                continue
            mask = masks[row, view]
            for place in range(mask_starts[mask], mask_starts[mask + 1]):
                cell = mask_cells[place]
                for seen in range(seen_starts[cell], seen_starts[cell + 1]):
                    gaussian = seen_gaussians[seen]
                    if among[gaussian] == 0:
                        met[count] = gaussian
                        count += 1
                    among[gaussian] += seen_pixels[seen]
        at = offsets[row]
        for index in range(count):
            gaussian = met[index]
            inside = among[gaussian]
            among[gaussian] = 0
            if majority and inside > np.float32(0.500001) * weight[gaussian]:  # views that are not asked do not matter
                gaussians[at] = gaussian
                values[at] = 1
                at += 1
                continue
            total = np.float32(0)
            entry, end = entry_starts[gaussian], entry_starts[gaussian + 1]
            while entry + 4 <= end:
                total += (
                    entry_pixels[entry] * audience[entry_views[entry]]
                    + entry_pixels[entry + 1] * audience[entry_views[entry + 1]]
                ) + (
                    entry_pixels[entry + 2] * audience[entry_views[entry + 2]]
                    + entry_pixels[entry + 3] * audience[entry_views[entry + 3]]
                )
                entry += 4
                if majority and total >= inside + inside:
                    break
            if majority and total >= inside + inside:
                continue
            while entry < end:
                total += entry_pixels[entry] * audience[entry_views[entry]]
                entry += 1
            if majority and total >= inside + inside:
                continue
            gaussians[at] = gaussian
            values[at] = 1 if majority else min(inside / max(total, np.float32(1e-6)), np.float32(1))
            at += 1
        counts[row] = at - offsets[row]


@exact
def best_agreements(  # type: ignore[no-untyped-def]
    first_cells, first_masks, seen_starts, seen_gaussians, seen_roots, cell_starts, cell_masks, partners, num_gaussians,
    shown, best, fit,
):  # fmt: skip
    """For each mask, the mask of each of some other views that agrees best with it on what both views see.

    Args:
        first_cells, first_masks: [V + 1], where the cells and the masks of each view begin.
        seen_starts, seen_gaussians, seen_roots: the Gaussians of each cell, and the root of their pixels there.
        cell_starts, cell_masks: the masks of each cell.
        partners: [V, P] the views that each is compared with, -1 for none.
        num_gaussians: G.
        shown: [M, V] float32 of zeros, written: what a view sees of a mask.
        best: [M, V], written: the mask that agrees best.
        fit: [M, V], written: its IoU.
    """
    most_cells = np.max(first_cells[1:] - first_cells[:-1])
    most_masks = np.max(first_masks[1:] - first_masks[:-1])
    cell_of = np.full(num_gaussians, -1, np.int32)
    root_of = np.zeros(num_gaussians, np.float32)
    shared = np.zeros(most_cells * most_cells, np.float32)
    touched = np.zeros(most_cells * most_cells, np.int64)
    common = np.zeros((most_masks, most_masks), np.float32)
    mine = np.zeros(most_masks, np.float32)
    theirs = np.zeros(most_masks, np.float32)
    for view in range(len(first_cells) - 1):
        for cell in range(first_cells[view], first_cells[view + 1]):
            for seen in range(seen_starts[cell], seen_starts[cell + 1]):
                cell_of[seen_gaussians[seen]] = cell - first_cells[view]
                root_of[seen_gaussians[seen]] = seen_roots[seen]
        begin, count = first_masks[view], first_masks[view + 1] - first_masks[view]
        for other in partners[view]:
            if other < 0:
                continue
            width = first_cells[other + 1] - first_cells[other]
            met = 0
            for cell in range(first_cells[other], first_cells[other + 1]):
                for seen in range(seen_starts[cell], seen_starts[cell + 1]):
                    here = cell_of[seen_gaussians[seen]]
                    if here < 0:
                        continue
                    place = here * width + cell - first_cells[other]
                    if shared[place] == 0:
                        touched[met] = place
                        met += 1
                    shared[place] += root_of[seen_gaussians[seen]] * seen_roots[seen]
            other_begin, other_count = first_masks[other], first_masks[other + 1] - first_masks[other]
            common[:count, :other_count] = 0
            mine[:count] = 0
            theirs[:other_count] = 0
            for index in range(met):
                place = touched[index]
                amount = shared[place]
                shared[place] = 0
                one, two = first_cells[view] + place // width, first_cells[other] + place % width
                for b in range(cell_starts[two], cell_starts[two + 1]):
                    theirs[cell_masks[b] - other_begin] += amount
                for a in range(cell_starts[one], cell_starts[one + 1]):
                    row = cell_masks[a] - begin
                    mine[row] += amount
                    for b in range(cell_starts[two], cell_starts[two + 1]):
                        common[row, cell_masks[b] - other_begin] += amount
            for row in range(count):
                shown[begin + row, other] = mine[row]
                most, at = np.float32(-1), -1
                for column in range(other_count):
                    union = mine[row] + theirs[column] - common[row, column]
                    iou = common[row, column] / max(union, np.float32(1e-6))
                    if iou > most:
                        most, at = iou, column
                if at >= 0:
                    best[begin + row, other] = other_begin + at
                    fit[begin + row, other] = most
        for cell in range(first_cells[view], first_cells[view + 1]):
            for seen in range(seen_starts[cell], seen_starts[cell + 1]):
                cell_of[seen_gaussians[seen]] = -1


@exact
def shared_views(first_cells, seen_starts, seen_gaussians, seen_roots, num_gaussians, out):  # type: ignore[no-untyped-def]
    """How much two views see of the same Gaussians.

    Args:
        first_cells: [V + 1], where the cells of each view begin.
        seen_starts, seen_gaussians, seen_roots: the Gaussians of each cell, and the root of their pixels there.
        num_gaussians: G.
        out: [V, V] float64, written.
    """
    root_of = np.zeros(num_gaussians, np.float32)
    for view in range(len(out)):
        here = slice(seen_starts[first_cells[view]], seen_starts[first_cells[view + 1]])
        for seen in range(here.start, here.stop):
            root_of[seen_gaussians[seen]] = seen_roots[seen]
        for other in range(view):
            total = 0.0
            for seen in range(seen_starts[first_cells[other]], seen_starts[first_cells[other + 1]]):
                total += root_of[seen_gaussians[seen]] * seen_roots[seen]
            out[view, other] = total
            out[other, view] = total
        for seen in range(here.start, here.stop):
            root_of[seen_gaussians[seen]] = 0


@exact
def first_of_each(starts, gaussians, set_starts, sets_of, weight, size, same, kept):  # type: ignore[no-untyped-def]
    """Of sets in the order of their worth, those that are not nearly one with an earlier one that is kept.

    Args:
        starts, gaussians: the sets.
        set_starts, sets_of: the sets of each Gaussian.
        weight: [G].
        size: [C], of each set.
        same: IoU from which two sets are one.
        kept: [C] bool of True, written.
    """
    common = np.zeros(len(size), np.float32)
    met = np.zeros(len(size), np.int64)
    for row in range(len(size)):
        if not kept[row]:
            continue
        count = 0
        for place in range(starts[row], starts[row + 1]):
            gaussian = gaussians[place]
            for index in range(set_starts[gaussian], set_starts[gaussian + 1]):
                other = sets_of[index]
                if other > row and kept[other]:
                    if common[other] == 0:
                        met[count] = other
                        count += 1
                    common[other] += weight[gaussian]
        for index in range(count):
            other = met[index]
            amount = common[other]
            common[other] = 0
            if amount > same * max(size[row] + size[other] - amount, np.float32(1e-6)):
                kept[other] = False


@exact
def border_pairs(  # type: ignore[no-untyped-def]
    picture, apart, nodes, parents, last, cell_at, cell_starts, cell_masks, own, contact, follows
):
    """Count pairs of pixels on both sides of the border between a node and the rest of its parent, in one view.

    Args:
        picture: [h, w] the foremost Gaussian of each pixel, -1 where nothing is drawn.
        apart: pixels between the two of a pair, across or down.
        nodes: [G] the deepest node of each Gaussian, 0 = none.
        parents, last: [n + 1] of the nodes in pre-order, 0 = none.
        cell_at: [G] the cell of each Gaussian in this view, -1 where it is not seen.
        cell_starts, cell_masks: the masks of each cell.
        own: [n + 1] the mask of each node in this view, -1 for none.
        contact: [n + 1] of zeros, written: pairs of each node.
        follows: [n + 1] of zeros, written: those whose one pixel is in the node's mask, and the other not.
    """
    height, width = picture.shape
    for turn in range(4):
        down, right = (apart, 0) if turn % 2 else (0, apart)
        for y in range(height - down):
            for x in range(width - right):
                first, second = picture[y, x], picture[y + down, x + right]
                if turn >= 2:
                    first, second = second, first
                if first < 0 or second < 0 or nodes[first] == nodes[second]:
                    continue
                node, other = nodes[first], nodes[second]
                if node == 0 or other == 0:
                    continue
                # The node on the way up from the first that does not hold the second, but whose parent does.
                while (
                    node > 0 and not node <= other <= last[node] and not parents[node] <= other <= last[parents[node]]
                ):
                    node = parents[node]
                if node == 0 or parents[node] == 0 or node <= other <= last[node]:
                    continue
                contact[node] += 1
                if own[node] >= 0:
                    mine, theirs = False, False
                    for side, gaussian in enumerate((first, second)):
                        cell = cell_at[gaussian]
                        if cell >= 0:
                            for place in range(cell_starts[cell], cell_starts[cell + 1]):
                                if cell_masks[place] == own[node]:
                                    if side == 0:
                                        mine = True
                                    else:
                                        theirs = True
                    if mine and not theirs:
                        follows[node] += 1
