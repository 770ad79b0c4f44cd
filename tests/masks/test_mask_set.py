from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet
from gseg_ns.masks.mask_set import rle_counts


def random_masks(seed: int, count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, height // 3 + 1, width // 3 + 1, generator=generator)
    masks = coarse.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, :height, :width] > 0.6
    if count:
        masks[0] = seed % 3 == 0  # all or nothing
    return masks


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(1, 40), st.integers(1, 40))
def test_round_trip_areas_boxes_against_pycocotools(seed: int, count: int, height: int, width: int) -> None:
    masks = random_masks(seed, count, height, width)
    mask_set = MaskSet.from_arrays(masks)
    assert torch.equal(mask_set.decode(), masks)
    assert mask_set.areas.tolist() == masks.sum(dim=(1, 2)).tolist()
    boxes = [coco.toBbox(rle).astype(int).tolist() for rle in mask_set.rles]
    assert mask_set.bboxes.tolist() == boxes
    pixels = torch.randint(0, height * width, (50,))
    assert torch.equal(mask_set.at(pixels), masks.reshape(count, height * width)[:, pixels].T)


def test_regions_partition_the_image() -> None:
    masks = random_masks(4, 12, 30, 50)
    region, members = MaskSet.from_arrays(masks).regions
    assert torch.equal(members[region.long()].permute(2, 0, 1), masks)
    assert not members[0].any()
    assert region.unique().numel() >= len(members) - 1
    assert len(torch.unique(members, dim=0)) <= len(members)


def test_more_than_255_masks() -> None:
    labels = torch.arange(300, dtype=torch.int32).reshape(15, 20) + 1
    mask_set = MaskSet.from_labels(labels)
    assert len(mask_set) == 300
    assert bool((mask_set.areas == 1).all())


def test_uncompressed_and_compressed_counts_agree() -> None:
    mask = np.zeros((5, 7), dtype=bool)
    mask[1:3, 2:6] = True
    rle = MaskSet.from_arrays(mask[None]).rles[0]
    flat = mask.T.flatten()
    changes = np.flatnonzero(np.diff(flat)) + 1
    expected = np.diff([0, *changes, flat.size])
    assert rle_counts(rle).tolist() == expected.tolist()
    assert rle_counts({"size": [5, 7], "counts": expected.tolist()}).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 4], "counts": [3, 2]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": "zzz~"},
        {"size": [4, 4], "counts": "oo"},
        {"size": [4, 4], "counts": "ooooooooooooo"},
        {"size": [4, 4], "counts": ""},
        {"size": [4, 4], "counts": None},
        {"size": [4], "counts": [4]},
        {"size": None, "counts": [4]},
        {"counts": [4]},
    ],
)
def test_damaged_run_lengths(rle: dict[str, object]) -> None:
    with pytest.raises(GsegError):
        rle_counts(rle)


def test_wrong_shapes() -> None:
    with pytest.raises(GsegError, match="scores"):
        MaskSet.from_arrays(torch.ones(2, 3, 3), [1.0])
    with pytest.raises(GsegError, match="size"):
        MaskSet(3, 4, MaskSet.from_arrays(torch.ones(1, 3, 3)).rles, torch.ones(1))
    with pytest.raises(GsegError, match="shape"):
        MaskSet.from_arrays(torch.ones(3, 3))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 30), st.integers(1, 60), st.integers(1, 60))
def test_resize_takes_the_nearest_pixel(seed: int, height: int, width: int, to_height: int, to_width: int) -> None:
    masks = random_masks(seed, 3, height, width)
    resized = MaskSet.from_arrays(masks, [0.1, 0.2, 0.3]).resize(to_height, to_width)
    expected = torch.nn.functional.interpolate(masks[None].float(), size=(to_height, to_width), mode="nearest-exact")
    # Where a centre falls on the border of two pixels, either is nearest.
    rows = (torch.arange(to_height) * 2 + 1) * height % (2 * to_height) != 0
    columns = (torch.arange(to_width) * 2 + 1) * width % (2 * to_width) != 0
    assert torch.equal(resized.decode()[:, rows][:, :, columns], (expected[0] > 0)[:, rows][:, :, columns])
    assert resized.scores.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_remap_leaves_pixels_without_source_empty() -> None:
    masks = torch.ones(2, 2, 2, dtype=torch.bool)
    source = torch.tensor([[0, -1, 3]])
    assert MaskSet.from_arrays(masks).remap(source).decode().tolist() == [[[True, False, True]]] * 2


def test_select_keeps_scores_and_records() -> None:
    masks = random_masks(3, 4, 10, 10)
    mask_set = MaskSet.from_arrays(masks, [0.1, 0.2, 0.3, 0.4], [{"granularity": g} for g in "abcd"])
    chosen = mask_set.select([3, 1])
    assert chosen.granularities == ["d", "b"]
    assert torch.equal(chosen.decode(), masks[[3, 1]])
    assert len(mask_set.select(mask_set.scores > 0.25)) == 2
    assert len(mask_set.select([])) == 0


def test_regions_come_in_the_order_of_binary_numbers() -> None:
    """Also where runs have no length, and masks cover all or nothing: what depends on the order stays as it is."""
    masks = random_masks(5, 10, 20, 31)
    masks[3], masks[4] = True, False
    mask_set = MaskSet.from_arrays(masks)
    mask_set.rles[0] = {"size": [20, 31], "counts": [0, 0, 5, 7, 0, 3, 20 * 31 - 15, 0, 0]}
    masks[0] = mask_set.select([0]).decode()[0]
    region, members = mask_set.regions
    assert region.dtype == torch.int32
    assert torch.equal(members[region.long()].permute(2, 0, 1), masks)
    numbers = (members.long() << torch.arange(10)).sum(dim=1)
    assert numbers[0] == 0
    assert (numbers.diff() > 0).all()
    region, members = MaskSet(3, 4).regions
    assert region.tolist() == [[0] * 4] * 3
    assert members.shape == (1, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40))
def test_labels_are_encoded_as_their_masks_are(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (height, width), generator=generator, dtype=torch.int32) * 70_000
    found = MaskSet.from_labels(labels, {70_000: 0.5})
    present = [int(label) for label in labels.unique() if label]
    assert [record["id"] for record in found.extra] == present
    assert found.rles == MaskSet.from_arrays(torch.stack([labels == 0, *(labels == i for i in present)])).rles[1:]
    assert found.scores.tolist() == [0.5 if label == 70_000 else 1.0 for label in present]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 8), st.integers(1, 30), st.integers(1, 30))
def test_stretches_say_what_regions_say(seed: int, count: int, height: int, width: int) -> None:
    masks = random_masks(seed, count, height, width)
    mask_set = MaskSet.from_arrays(masks)
    pixels = torch.randint(0, height * width, (3,), generator=torch.Generator().manual_seed(seed))
    few = mask_set.region_at(pixels)
    starts, region, members = mask_set.partition
    assert torch.equal(members[mask_set.regions[0].long()].permute(2, 0, 1), masks)
    assert torch.equal(few, mask_set.regions[0].flatten()[pixels].long())
    assert (np.diff(starts) >= 0).all()
    assert len(starts) == len(region)
    first, begins, ends = mask_set.runs
    for index in range(count):
        flat = np.zeros(height * width, bool)
        for begin, end in zip(
            begins[first[index] : first[index + 1]], ends[first[index] : first[index + 1]], strict=True
        ):
            flat[begin:end] = True
        assert (flat.reshape(width, height).T == masks[index].numpy()).all()
