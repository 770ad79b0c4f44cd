"""Random pixels of an image, without a pass over the image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_TRIES = 4
"""Tickets drawn for each pixel wanted before the image is gone through instead."""


def draw_different(
    count: int, wanted: int, usable: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Draw different ones of `count` things, each set of them as likely as any other.

    A permutation of the two million pixels of a photograph takes longer than a training step. So tickets are drawn, and
    what is drawn twice or is not usable is passed over; only where that leaves too few, all things are gone through.

    Args:
        count: how many there are.
        wanted: how many to draw; all usable ones where there are no more.
        usable: [count] on the CPU, bool or label maps: things of 0 cannot be drawn. All can where None.
        generator: of the random numbers, on the CPU.

    Returns:
        [P] int64, ascending, P <= wanted.
    """
    if count > _TRIES * wanted:
        tickets = torch.randint(count, (_TRIES * wanted,), generator=generator)
        if usable is not None:
            tickets = tickets[usable[tickets] != 0]
        different, first = np.unique(tickets.numpy(), return_index=True)
        if len(different) >= wanted:
            # In the order drawn: of the different ones the first ones, not the smallest.
            return torch.from_numpy(np.sort(different[np.argsort(first, kind="stable")[:wanted]]))
    rows = torch.arange(count) if usable is None else usable.nonzero().squeeze(1)
    return rows[torch.randperm(len(rows), generator=generator)[:wanted]].sort().values
