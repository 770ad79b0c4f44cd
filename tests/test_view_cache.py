from __future__ import annotations

import pytest
import torch

from gseg_ns.view_cache import Tensors, ViewCache


@pytest.mark.parametrize(("memory", "disk", "made"), [(1e9, 0, 3), (900, 1e9, 3), (900, 900, 5), (0, 0, 9)])
def test_what_was_made_comes_back_from_wherever_it_is(memory: float, disk: float, made: int) -> None:
    cache = ViewCache(memory, disk)
    calls = []

    def make(view: int) -> Tensors:
        calls.append(view)
        generator = torch.Generator().manual_seed(view)
        return torch.rand(10, 10, generator=generator), torch.arange(100, dtype=torch.int32) + view, torch.zeros(0, 3)

    for _ in range(3):
        for view in range(3):
            found = cache.get(view, lambda view=view: make(view))
            calls_before = list(calls)
            for one, other in zip(found, make(view), strict=True):
                assert torch.equal(one, other)
                assert one.dtype == other.dtype
            calls[:] = calls_before
    assert len(calls) == made


def test_a_full_disk_only_costs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    cache = ViewCache(0, 1e9)
    assert cache.get("view", lambda: (torch.ones(3),))[0].tolist() == [1, 1, 1]
