"""Highlights: the kernel of the CPU against operations of torch, and by hand."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.selection.overlay import HIGHLIGHT, highlight, paint_over


@pytest.mark.parametrize("outline", [0, 1, 3])
def test_the_kernel_paints_what_torch_does(outline: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(37, 53, 3, generator=generator)
    mask = torch.nn.functional.interpolate(torch.rand(1, 1, 6, 7, generator=generator), (37, 53))[0, 0]
    mask[5, 5] = 0.5  # not inside
    before = rgb.clone()
    expected = paint_over(rgb, mask, torch.tensor(HIGHLIGHT), 0.4, outline)
    torch.testing.assert_close(highlight(rgb, mask, outline=outline), expected, rtol=0, atol=1e-6)
    assert torch.equal(rgb, before)


def test_one_selected_pixel_is_tinted_and_has_a_frame() -> None:
    mask = torch.zeros(5, 6)
    mask[0, 2] = 1
    found = highlight(torch.zeros(5, 6, 3), mask)
    orange = torch.tensor(HIGHLIGHT)
    assert torch.equal(found[0, 1], orange)
    assert torch.equal(found[1, 1:4], orange.expand(3, 3))
    assert torch.allclose(found[0, 2], 0.4 * orange)
    assert int((found.sum(dim=2) > 0).sum()) == 6
