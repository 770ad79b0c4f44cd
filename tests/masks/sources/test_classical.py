from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks import paint, read_label_map
from gseg_ns.masks.images import read_image
from gseg_ns.masks.sources.base import Photo
from gseg_ns.masks.sources.classical import ClassicalConfig


def best_iou(masks: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest IoU of masks [M, H, W] with a mask [H, W]."""
    return float(((masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))).max())


@pytest.fixture
def photo() -> tuple[Photo, torch.Tensor]:
    """A striped disc and a plain box on a noisy ground; and where they are."""
    rows, columns = np.mgrid[:120, :160]
    pixels = np.empty((120, 160, 3))
    pixels[:] = (150, 120, 90)
    disc = (rows - 60) ** 2 + (columns - 50) ** 2 < 30**2
    pixels[disc] = np.where((rows[disc] // 2 % 2 == 0)[:, None], (40, 60, 200), (220, 220, 240))
    box = (abs(rows - 70) < 25) & (abs(columns - 120) < 20)
    pixels[box] = (30, 140, 60)
    pixels += np.random.default_rng(0).normal(0, 6, pixels.shape)
    shot = Photo(PurePosixPath("a.png"), pixels.clip(0, 255).astype(np.uint8))
    return shot, torch.from_numpy(np.stack([disc, box]))


def test_finds_plain_and_striped_things(photo: tuple[Photo, torch.Tensor]) -> None:
    shot, truth = photo
    masks = ClassicalConfig().setup("cpu").generate(shot, embed=False).masks
    decoded = masks.decode()
    assert best_iou(decoded, truth[0]) > 0.85
    assert best_iou(decoded, truth[1]) > 0.9
    assert set(masks.granularities) <= {"whole", "part", "subpart"}
    assert bool(((masks.scores >= 0.5) & (masks.scores <= 1)).all())
    labels = paint(masks, "largest")
    assert (labels > 0).double().mean() > 0.99


def test_granularities_nest(photo: tuple[Photo, torch.Tensor]) -> None:
    sets = {
        level: ClassicalConfig(granularity=level, min_area=0).setup("cpu").generate(photo[0], embed=False).masks
        for level in ("subpart", "part", "whole")
    }
    assert len(sets["subpart"]) >= len(sets["part"]) >= len(sets["whole"])
    for masks in sets.values():
        assert masks.areas.sum() == 120 * 160  # a partition
    finer, coarser = sets["subpart"].decode().flatten(1).long(), sets["whole"].decode().flatten(1).long()
    overlap = finer @ coarser.T
    assert bool((overlap.amax(dim=1) == finer.sum(dim=1)).all())


def test_masks_have_the_photo_s_size(photo: tuple[Photo, torch.Tensor]) -> None:
    shot, truth = photo
    large = Photo(shot.name, shot.pixels.repeat(3, axis=0).repeat(3, axis=1))
    masks = ClassicalConfig(work_side=160).setup("cpu").generate(large, embed=False).masks
    assert (masks.height, masks.width) == (360, 480)
    truth = truth.repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert best_iou(masks.decode(), truth[1]) > 0.85


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 3), (30, 20)])
def test_tiny_and_uniform_images(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 128, np.uint8)
    masks = ClassicalConfig().setup("cpu").generate(Photo(PurePosixPath("a"), pixels), embed=False).masks
    assert len(masks) == 1
    assert masks.areas.tolist() == [shape[0] * shape[1]]


def test_the_same_twice_whatever_came_before(photo: tuple[Photo, torch.Tensor]) -> None:
    source = ClassicalConfig().setup("cpu")
    first = source.generate(photo[0], embed=False).masks
    source.generate(Photo(PurePosixPath("b"), photo[0].pixels[::-1].copy()), embed=False)
    again = source.generate(photo[0], embed=False).masks
    assert first.rles == again.rles
    assert torch.equal(first.scores, again.scores)


def test_wrong_options() -> None:
    with pytest.raises(GsegError, match="levels"):
        ClassicalConfig(levels=(0.3, 0.2, 0.4)).setup("cpu")
    with pytest.raises(GsegError, match="work_side"):
        ClassicalConfig(work_side=3).setup("cpu")


def test_objects_of_a_scene(ball_room: Path) -> None:
    """Feedback, not a goal: shaded balls, of which the light side is much like the floor."""
    source = ClassicalConfig().setup("cpu")
    ious = []
    for name in ("frame_00000", "frame_00008"):
        pixels = read_image(ball_room / "images" / f"{name}.png")
        truth = read_label_map(ball_room / "gt" / "object" / f"{name}.png")
        masks = source.generate(Photo(PurePosixPath(name), pixels), embed=False).masks.decode()
        ious += [best_iou(masks, truth == i) for i in truth.unique().tolist() if i and (truth == i).sum() > 60]
    assert np.mean(ious) > 0.6
