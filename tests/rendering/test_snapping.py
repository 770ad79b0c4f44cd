"""Ragged borders come back to where colors change, and nothing else does."""

from __future__ import annotations

import math

import pytest
import torch

from gseg_ns.rendering.snapping import ALIKE, BAND, NEAR, REACH, snap_labels


def _disk() -> tuple[torch.Tensor, torch.Tensor]:
    """A red disk of label 2 on green of label 1, and its photograph with some noise."""
    y, x = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    truth = torch.where((x - 40) ** 2 + (y - 30) ** 2 < 15**2, 2, 1).int()
    colors = torch.tensor([[0.0, 0, 0], [0.2, 0.6, 0.2], [0.8, 0.2, 0.2]])[truth.long()]
    generator = torch.Generator().manual_seed(0)
    return truth, (colors + 0.02 * torch.randn(colors.shape, generator=generator)).clamp(0, 1)


def test_ragged_borders_come_to_the_colors() -> None:
    truth, photograph = _disk()
    generator = torch.Generator().manual_seed(1)
    ragged = truth.clone()
    for row in range(60):
        ragged[row] = truth[row].roll(int(torch.randint(-2, 3, (1,), generator=generator)))
    wrong = int((ragged != truth).sum())
    found = snap_labels(ragged, photograph)
    assert wrong > 60
    assert int((found != truth).sum()) < 0.1 * wrong
    assert found.dtype == torch.int32
    as_bytes = snap_labels(ragged, (photograph * 255).round().byte())
    assert (as_bytes != found).float().mean() < 0.002


def test_right_borders_and_what_is_far_from_them_stay() -> None:
    truth, photograph = _disk()
    assert torch.equal(snap_labels(truth, photograph), truth)
    # A patch of another color inside of one label, and a wrong label far from any border of color.
    spotted = photograph.clone()
    spotted[5:9, 5:9] = torch.tensor([0.8, 0.2, 0.2])
    assert torch.equal(snap_labels(truth, spotted), truth)
    wide = truth.clone()
    wide[:, 60:] = 3
    found = snap_labels(wide, photograph)
    assert torch.equal(found[:, 60 + BAND :], wide[:, 60 + BAND :])


def test_unlabelled_pixels_stay_and_have_no_say() -> None:
    truth, photograph = _disk()
    holes = truth.clone()
    holes[:, 38:42] = 0
    found = snap_labels(holes, photograph)
    assert torch.equal(found == 0, holes == 0)
    assert torch.equal(found, holes)
    assert not snap_labels(torch.zeros_like(truth), photograph).any()


def test_sizes_have_to_agree() -> None:
    truth, photograph = _disk()
    with pytest.raises(ValueError, match="labels are"):
        snap_labels(truth[:-1], photograph)


def test_each_pixel_is_what_weighs_most_around_it() -> None:
    """Against the filter pixel by pixel, in float64; only what is chosen, labelled and near a change of label moves."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 4, (3, 4), generator=generator).int().repeat_interleave(8, 0).repeat_interleave(8, 1)
    spots = torch.rand(labels.shape, generator=generator) < 0.25
    labels[spots] = torch.randint(0, 4, (int(spots.sum()),), generator=generator).int()
    photograph = torch.randint(90, 140, (24, 32, 3), generator=generator).byte()
    chosen = torch.rand(labels.shape, generator=generator) < 0.7
    height, width = labels.shape
    expected, closest = labels.clone(), 1.0
    for y, x in chosen.nonzero().tolist():
        if labels[y, x] == 0:
            continue
        sums, near = torch.zeros(4, dtype=torch.double), False
        for v in range(max(y - REACH, 0), min(y + REACH + 1, height)):
            for u in range(max(x - REACH, 0), min(x + REACH + 1, width)):
                beside = [(v + 1, u), (v - 1, u), (v, u + 1), (v, u - 1)]
                edge = any(0 <= a < height and 0 <= b < width and labels[a, b] != labels[v, u] for a, b in beside)
                near |= edge and max(abs(v - y), abs(u - x)) <= BAND
                color = (photograph[v, u].double() - photograph[y, x].double()) / 255
                away = (v - y) ** 2 + (u - x) ** 2
                sums[int(labels[v, u])] += math.exp(-float(color.square().sum()) / 2 / ALIKE**2 - away / 2 / NEAR**2)
        if near:
            first, second = sums[1:].topk(2).values.tolist()
            closest = min(closest, first / second - 1) if second else closest
            expected[y, x] = int(sums[1:].argmax()) + 1
    assert closest > 1e-4
    assert (expected != labels).sum() > 20
    assert torch.equal(snap_labels(labels, photograph, chosen), expected)
    assert torch.equal(snap_labels(labels, photograph.float() / 255, chosen), expected)
