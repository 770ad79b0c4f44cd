"""Kernels run by other numbers of threads than the suite's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gseg_ns.rendering import threads


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Within this block the kernels use so many threads; torch has as many as before."""
    before = threads._num_threads
    threads.configure(count, torch.get_num_threads())
    try:
        yield
    finally:
        threads.configure(before, torch.get_num_threads())


def same_by_any_number_of_threads(
    find: Callable[[], Sequence[Tensor]], counts: tuple[int, ...] = (1, 2, 5)
) -> Sequence[Tensor]:
    """What is found by one thread; fails unless others find the same bits."""
    found = []
    for count in counts:
        with kernel_threads(count):
            found.append(find())
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            assert torch.equal(one, another)
    return found[0]
