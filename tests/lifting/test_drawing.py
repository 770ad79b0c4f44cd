from __future__ import annotations

import pytest
import torch

from gseg_ns.lifting.drawing import draw_different


@pytest.mark.parametrize("usable", [None, torch.arange(4000) % 3])
def test_drawn_are_different_usable_and_as_many_as_wanted(usable: torch.Tensor | None) -> None:
    drawn = draw_different(4000, 100, usable, torch.Generator().manual_seed(0))
    assert len(drawn) == 100
    assert (drawn.diff() > 0).all()
    assert usable is None or (usable[drawn] > 0).all()


def test_all_are_equally_likely_wherever_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(50)
    for _ in range(4000):
        counts[draw_different(50, 5, None, generator)] += 1
    assert (counts - 400).abs().max() < 5 * 400**0.5


def test_where_few_are_usable_all_of_them_are_drawn() -> None:
    usable = torch.zeros(4000, dtype=torch.bool)
    usable[[7, 70, 700]] = True
    assert draw_different(4000, 100, usable).tolist() == [7, 70, 700]
    assert len(draw_different(0, 100)) == 0
