from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.errors import GsegError
from gseg_ns.masks import LabelRuns


def label_map(seed: int, height: int, width: int, largest: int, block: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (height // block + 1, width // block + 1)
    coarse = torch.randint(0, largest + 1, size, generator=generator, dtype=torch.int32)
    return coarse.repeat_interleave(block, 0).repeat_interleave(block, 1)[:height, :width]


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0, 3, 300, 70_000]),
    st.sampled_from([1, 7]),
)
def test_the_map_comes_back(seed: int, height: int, width: int, largest: int, block: int) -> None:
    labels = label_map(seed, height, width, largest, block)
    runs = LabelRuns.of(labels)
    assert runs.image().dtype == torch.int32
    assert torch.equal(runs.image(), labels)
    assert runs.ids.tolist() == labels.unique().tolist()
    assert runs.labels.itemsize == (1 if labels.max() < 256 else 2 if labels.max() < 65536 else 4)
    again = LabelRuns.from_bytes(runs.to_bytes())
    assert torch.equal(again.image(), labels)


def test_memory_is_that_of_runs_or_of_pixels_whichever_is_less() -> None:
    assert LabelRuns.of(label_map(0, 700, 700, 100, 70)).nbytes < 40_000
    noise = LabelRuns.of(label_map(0, 700, 700, 100, 1))
    assert noise.nbytes == 700 * 700
    assert torch.equal(noise.image(), label_map(0, 700, 700, 100, 1))


def test_labels_below_zero_are_none() -> None:
    assert LabelRuns.of(torch.tensor([[-1, 4]])).image().tolist() == [[0, 4]]


@pytest.mark.parametrize("block", [1, 5])
def test_renumbered(block: int) -> None:
    labels = label_map(1, 30, 20, 9, block)
    table = np.array([0, 5, 5, 0, 700, 1, 2, 3, 3, 5])
    assert torch.equal(LabelRuns.of(labels).renumbered(table).image(), torch.from_numpy(table)[labels.long()].int())


def test_which_pixels_have_a_label() -> None:
    labels = label_map(2, 30, 20, 2, 5)
    one, other = LabelRuns.of(labels), LabelRuns.of(torch.where(labels > 0, 300 - labels, 0))
    assert one.same_pixels(other)
    assert not one.same_pixels(LabelRuns.of(labels + 1))
    assert not one.same_pixels(LabelRuns.of(labels[:, :10]))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:5], lambda b: b"", lambda b: b"\xff" * len(b)]
)
def test_damaged_bytes_are_refused(damage) -> None:  # type: ignore[no-untyped-def]
    content = LabelRuns.of(label_map(0, 20, 20, 9, 5)).to_bytes()
    with pytest.raises(GsegError, match="damaged"):
        LabelRuns.from_bytes(damage(content))
