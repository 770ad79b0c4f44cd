"""Ragged borders come back to where colors change, and nothing else does."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.rendering.snapping import BAND, snap_labels


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
