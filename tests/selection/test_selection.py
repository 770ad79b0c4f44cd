from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.selection.history import History
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.selection import Selection

masks = st.integers(0, 70).flatmap(
    lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n) for _ in range(2)])
)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_algebra_is_that_of_sets(pair) -> None:
    a, b = (Selection(torch.tensor(m, dtype=torch.bool)) for m in pair)
    sa, sb = ({i for i, v in enumerate(m) if v} for m in pair)

    def as_set(selection: Selection) -> set[int]:
        return set(selection.mask.nonzero()[:, 0].tolist())

    assert as_set(a.add(b)) == sa | sb
    assert as_set(a.remove(b)) == sa - sb
    assert as_set(a.intersect(b)) == sa & sb
    assert as_set(a.invert()) == set(range(len(a))) - sa
    assert as_set(a.combine(b, "set")) == sb
    assert a.invert().invert() == a
    assert a.count == len(sa)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_packing_is_lossless_and_canonical(pair) -> None:
    a, b = (torch.tensor(m, dtype=torch.bool) for m in pair)
    packed = PackedMask.pack(a)
    assert torch.equal(packed.unpack(), a)
    assert PackedMask.from_bits(len(a), packed.bits()) == packed
    assert (packed == PackedMask.pack(b)) == torch.equal(a, b)
    assert torch.equal(packed.resized(len(a) + 9).unpack()[: len(a)], a)
    assert packed.resized(len(a) + 9).resized(len(a)) == packed


def test_bits_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        PackedMask.from_bits(20, b"\0\0")
    with pytest.raises(ValueError, match="behind"):
        PackedMask.from_bits(20, b"\0\0\x01")


def test_selections_of_different_scenes_do_not_meet() -> None:
    with pytest.raises(ValueError, match="5 and 6"):
        Selection.none(5).add(Selection.none(6))
    with pytest.raises(ValueError, match="bool"):
        Selection(torch.zeros(5))


def test_history_is_bounded_and_keeps_the_present() -> None:
    history = History(0, nbytes=lambda value: 10, max_steps=5)
    for value in range(1, 20):
        history.push(value)
    assert history.undo_steps == 5
    while history.undo():
        pass
    assert history.present == 14
    assert history.redo_steps == 5
    history.push(99)
    assert not history.redo()

    small = History(b"", nbytes=len, max_bytes=100)
    for size in range(1, 60):
        small.push(bytes(size))
    assert sum(range(59 - small.undo_steps, 59)) <= 100
