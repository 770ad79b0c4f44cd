"""Mixed pixels: which they are, in which order, how much memory they take, and what snapped masks say of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from disk_scene import disk_scene
from gseg_ns.lifting import mixed_pixels
from gseg_ns.lifting.mixed_pixels import FAINT, Rows, by_label, drawn, gather
from gseg_ns.rendering import PixelWeights, pixel_weights
from gseg_ns.rendering.snapping import snap_labels


def test_steps_draw_every_row_of_every_view_in_turn() -> None:
    # An empty view, one of 30 rows, one of 10; between them rows of a view that is left out.
    spans = np.array([[10, 10], [10, 40], [70, 80]])
    rows = [*range(10, 40), *range(70, 80)]
    first = drawn(spans, 0, 8)
    assert first.tolist() == [10, 11, 12, 13, 14, 15, 70, 71]
    steps = [drawn(spans, 8 * step, 8) for step in range(10)]
    assert torch.cat(steps[:5]).sort().values.tolist() == rows
    assert torch.cat(steps[5:]).sort().values.tolist() == rows
    assert drawn(spans[:1], 0, 8).tolist() == []


def test_weights_lie_label_by_label_in_the_order_of_the_labels() -> None:
    labels = torch.tensor([0, 3, 1, 3, 1, 2]).int()
    crow = torch.tensor([0, 6, 6, 8])
    col = torch.tensor([1, 0, 2, 3, 5, 4, 0, 0]).int()
    rows = by_label(Rows(crow, col, col + 0.5, torch.tensor([1, 1, 2]).int()), labels, 4)
    assert rows.col.tolist() == [1, 3, 2, 4, 5, 0, 0, 0]
    assert torch.equal(rows.val, rows.col + 0.5)
    assert rows.runs is not None
    assert [part.tolist() for part in rows.runs] == [[0, 3, 3, 3], [3, 1, 2], [2, 4, 5]]


MAX_BYTES = 4e4


def test_memory_is_bounded_behind_views_without_mixed_pixels() -> None:
    labels, metas, truths = disk_scene()
    truths[0] = truths[3] = torch.zeros_like(truths[0])
    rows, spans, snapped = gather(labels, 3, 8, lambda v: (metas[v], truths[v]), None, MAX_BYTES, 0, lambda: None)
    assert snapped is None
    assert np.diff(spans)[[0, 3], 0].tolist() == [0, 0]
    weights = np.diff(rows.crow.numpy()[spans])
    assert 0 < len(rows.col) * 8 <= MAX_BYTES
    assert weights.max() * 8 <= MAX_BYTES / 8
    # No more is left out than has to be.
    assert np.delete(weights, [0, 3]).min() * 8 > 0.5 * MAX_BYTES / 8


def test_rows_are_those_of_the_pixels_without_faint_weights() -> None:
    labels, metas, truths = disk_scene(3)
    chosen: list[Tensor] = []

    def asked(meta: dict[str, Any], pixels: Tensor) -> PixelWeights:
        chosen.append(pixels)
        return pixel_weights(meta, pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixed_pixels, "pixel_weights", asked)
        rows, spans, _ = gather(labels, 3, 3, lambda v: (metas[v], truths[v]), None, 7e8, 0, lambda: None)
    asked_of = [pixels for pixels in chosen if len(pixels) != 256]
    assert spans.tolist() == [[a, b] for a, b in pairwise(np.cumsum([0, *map(len, asked_of)]).tolist())]
    faint = 0
    for view, pixels in enumerate(asked_of):
        every = pixel_weights(metas[view], pixels)
        begin, end = spans[view]
        assert torch.equal(rows.targets[begin:end], truths[view].flatten()[pixels].int())
        for row in range(len(pixels)):
            found = slice(int(rows.crow[begin + row]), int(rows.crow[begin + row + 1]))
            of_all = slice(int(every.crow[row]), int(every.crow[row + 1]))
            wanted = dict(zip(every.col[of_all].tolist(), every.val[of_all].tolist(), strict=True))
            faint += sum(w < FAINT for w in wanted.values())
            assert dict(zip(rows.col[found].tolist(), rows.val[found].tolist(), strict=True)) == {
                g: w for g, w in wanted.items() if w >= FAINT
            }
    assert faint > 0


@pytest.mark.parametrize("max_bytes", [7e8, MAX_BYTES])
def test_snapped_targets_are_those_of_whole_label_maps(max_bytes: float) -> None:
    """Of the pixels that take part, whatever others are; a label of no Gaussian is no choice."""
    labels, metas, truths = disk_scene(3)
    generator = torch.Generator().manual_seed(0)
    ragged = [
        torch.stack([row.roll(int(torch.randint(-2, 3, (1,), generator=generator))) for row in t]) for t in truths
    ]
    ragged[0][:, 20:22] = 9
    colors = torch.tensor([(0, 0, 0), (50, 100, 200), (200, 60, 30)], dtype=torch.uint8)
    photographs = [colors[t] for t in truths]
    pixels: list[Tensor] = []

    def asked(meta: dict[str, Any], chosen: Tensor) -> PixelWeights:
        if len(chosen) != 256:
            pixels.append(chosen)
        return pixel_weights(meta, chosen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixed_pixels, "pixel_weights", asked)
        rows, spans, snapped = gather(
            labels, 3, 3, lambda v: (metas[v], ragged[v]), lambda v, *_: None if v == 1 else photographs[v], max_bytes,
            0, lambda: None,
        )  # fmt: skip
    assert snapped is not None
    assert snapped.dtype == torch.int32
    for view, (begin, end) in enumerate(spans):
        choices = torch.where(ragged[view] < 3, ragged[view], 0).int()
        expected = snap_labels(choices, photographs[view]) if view != 1 else choices
        assert torch.equal(snapped[begin:end], expected.flatten()[pixels[view][: end - begin]])
    moved = snapped != rows.targets
    assert moved.any()
    assert not moved[slice(*spans[1])].any()  # its photograph is gone
