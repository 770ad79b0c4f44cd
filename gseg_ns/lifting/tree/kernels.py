"""The sum that sparse products of SciPy would fill a dense table for."""

from __future__ import annotations

from gseg_ns.rendering.kernels.jit import exact


@exact
def heard_at(starts, gaussians, heard, seen_starts, seen_views, seen_pixels, out):  # type: ignore[no-untyped-def]
    """Sum the pixels of a Gaussian over the views that are heard about a set, at the places of a sparse table.

    Args:
        starts, gaussians: rows (sets) and columns (Gaussians) of the table, compressed by rows.
        heard: [C, V] bool, whether a view is heard about a set.
        seen_starts, seen_views, seen_pixels: [V, G] pixels of each Gaussian in each view, compressed by columns.
        out: [nnz] float32, written.
    """
    for row in range(len(starts) - 1):
        for place in range(starts[row], starts[row + 1]):
            gaussian = gaussians[place]
            total = seen_pixels.dtype.type(0)
            for entry in range(seen_starts[gaussian], seen_starts[gaussian + 1]):
                if heard[row, seen_views[entry]]:
                    total += seen_pixels[entry]
            out[place] = total


@exact
def common_with(  # type: ignore[no-untyped-def]
    starts, gaussians, values, partners, begins, masks, mask_values, column_of, out
):
    """Sum products of the values of masks with those of the masks of some other views.

    Args:
        starts, gaussians, values: some masks, compressed by rows.
        partners: the other views.
        begins: [V + 1, G], where the entries of a view begin in the list of each Gaussian's masks.
        masks, mask_values: that list, all Gaussians' one after the other, each in the order of the views.
        column_of: [M], the column of `out` of each mask of the other views.
        out: [rows, columns] float32, added into.
    """
    for row in range(len(starts) - 1):
        for place in range(starts[row], starts[row + 1]):
            gaussian, value = gaussians[place], values[place]
            for view in partners:
                for entry in range(begins[view, gaussian], begins[view + 1, gaussian]):
                    out[row, column_of[masks[entry]]] += value * mask_values[entry]
