from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.lifting.similarity import similarity
from gseg_ns.selection.prompts import Prompt, kmeans, mark_queries, marked_groups, select

RED, GREEN, BLUE = torch.eye(3)


@pytest.fixture
def view() -> Tensor:
    """Red on the left, green on the right, a blue row at the bottom."""
    image = torch.zeros(6, 8, 3)
    image[:, :4] = 0.9 * RED
    image[:, 4:] = 0.9 * GREEN
    image[5] = 0.9 * BLUE
    return image


GAUSSIANS = torch.stack([RED, 2 * RED, GREEN, BLUE, RED + GREEN, torch.zeros(3)])


def test_queries() -> None:
    positive, negative = torch.stack([0.9 * RED, 0.9 * BLUE]), 0.9 * GREEN[None]
    chosen, score = select(GAUSSIANS, positive, negative)
    assert chosen.tolist() == [True, True, False, True, False, False]
    torch.testing.assert_close(score[0], torch.tensor(1.0))
    assert select(GAUSSIANS, positive[:1])[0].tolist() == [True, True, False, False, False, False]
    assert select(GAUSSIANS, positive[:1], threshold=0.7)[0].tolist() == [True, True, False, False, True, False]
    assert not select(GAUSSIANS, -positive[:1])[0].any()
    adaptive, score = select(GAUSSIANS, positive[:1], threshold=None)
    assert torch.equal(adaptive, score > score.mean())


def test_scribbles_and_masks(view: Tensor) -> None:
    scribble = torch.zeros(6, 8, dtype=torch.long)
    scribble[1, :4] = 1
    scribble[1, 4:] = 2
    positive, negative = mark_queries(Prompt(scribble=scribble), view)
    torch.testing.assert_close(positive, RED[None])
    torch.testing.assert_close(negative, GREEN[None])
    mask = torch.ones(6, 8, dtype=torch.bool)
    positive, negative = mark_queries(Prompt(mask=mask), view)
    assert len(positive) == 3
    assert len(negative) == 0
    assert select(GAUSSIANS, positive)[0].tolist() == [True, True, True, True, False, False]


def test_similarity_is_the_largest_gated_cosine() -> None:
    torch.manual_seed(0)
    features, query, gate = torch.randn(40_000, 5), torch.randn(3, 5), torch.rand(5)
    expected = (F.normalize(features * gate, dim=-1) @ F.normalize(query * gate, dim=-1).T).amax(dim=1)
    torch.testing.assert_close(similarity(features, query, gate), expected)
    assert similarity(features, query[:0]).eq(-1).all()
    assert similarity(features[:0], query).shape == (0,)
    assert similarity(torch.zeros(2, 5), query).tolist() == [0, 0]


def test_kmeans() -> None:
    torch.manual_seed(0)
    points = torch.cat([RED.expand(30, 3), GREEN.expand(5, 3)]) + 0.01 * torch.randn(35, 3)
    centres = kmeans(points, 2)
    assert (centres @ RED).max() > 0.999
    assert (centres @ GREEN).max() > 0.999
    assert torch.equal(centres, kmeans(points, 2))
    assert kmeans(RED.expand(4, 3), 5).shape == (1, 3)
    assert kmeans(points[:0], 5).shape == (0, 3)


def two_things(noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """A view of a red mug with a blue handle (6 % of it) on a green table: features [40, 50, 3], and the mug's mask."""
    generator = torch.Generator().manual_seed(0)
    image = GREEN.expand(40, 50, 3).clone()
    image[10:30, 10:35] = RED
    image[10:30, 33:35] = BLUE
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[10:30, 10:35] = True
    return image + noise * torch.randn(image.shape, generator=generator), mask


@pytest.mark.parametrize("percent", [0, 1, 2, 5])
def test_stray_pixels_of_a_mask_select_no_neighbour(percent: int) -> None:
    image, mask = two_things()
    outside = (~mask).flatten().nonzero().squeeze(1)
    stray = outside[torch.randperm(len(outside), generator=torch.Generator().manual_seed(1))]
    mask.view(-1)[stray[: round(percent / 100 * int(mask.sum()))]] = True
    positive, _ = mark_queries(Prompt(mask=mask), image)
    assert float((positive @ GREEN).max()) < 0.5
    assert float((positive @ RED).max()) > 0.95
    assert float((positive @ BLUE).max()) > 0.95  # small, but the mask holds all of it


def test_one_stray_pixel() -> None:
    image, mask = two_things()
    mask[0, 0] = True
    positive, _ = mark_queries(Prompt(mask=mask), image)
    assert float((positive @ GREEN).max()) < 0.5


@pytest.mark.parametrize("percent", [1, 2, 5])
def test_stray_pixels_of_a_scribble(percent: int) -> None:
    image, mask = two_things()
    scribble = torch.zeros(40, 50, dtype=torch.long)
    scribble[14:19, 11:31] = 1
    scribble[2, 2 : 2 + percent] = 1
    scribble[36:38] = 2
    scribble[20, 20] = 2
    positive, negative = mark_queries(Prompt(scribble=scribble), image)
    assert float((positive @ GREEN).max()) < 0.5
    assert float((negative @ RED).max()) < 0.5
    labels = torch.where(mask, 7, 3)
    assert marked_groups(Prompt(scribble=scribble), labels) == ({7}, {3})


def test_a_scribble_over_many_groups_means_them_all() -> None:
    labels = torch.arange(1, 16).repeat_interleave(4)[None]
    assert marked_groups(Prompt(scribble=torch.ones_like(labels)), labels)[0] == set(range(1, 16))


def test_bad_prompts(view: Tensor) -> None:
    alpha = torch.ones(6, 8)
    alpha[0] = 0.2
    sky = torch.zeros(6, 8, dtype=torch.bool)
    sky[0] = True
    with pytest.raises(GsegError, match="empty space"):
        mark_queries(Prompt(mask=sky), view, alpha)
    with pytest.raises(GsegError, match="pixels"):
        mark_queries(Prompt(mask=torch.ones(5, 5, dtype=torch.bool)), view)
    with pytest.raises(GsegError, match="nothing positive"):
        Prompt(negative=torch.ones(1, 2))
    with pytest.raises(ValueError, match="shape"):
        Prompt(positive=torch.ones(2))
    with pytest.raises(GsegError, match="no cosine"):
        select(GAUSSIANS, RED[None], threshold=1.5)


def test_points_are_pairs() -> None:
    prompt = Prompt(positive=torch.tensor([[1.0, 2.0], [0, 5]]), negative=torch.tensor([[7.5, 0.0]]))
    assert prompt.points(True) == [(1.0, 2.0), (0.0, 5.0)]
    assert prompt.points(False) == [(7.5, 0.0)]


def test_groups() -> None:
    labels = torch.tensor([[0, 1, 1, 2], [3, 3, 2, 2], [3, 3, 2, 2]])
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[:, :3] = True
    assert marked_groups(Prompt(mask=mask), labels) == ({1, 3}, set())
    scribble = torch.zeros(3, 4, dtype=torch.long)
    scribble[1] = 1
    scribble[2, 0] = 2
    assert marked_groups(Prompt(scribble=scribble), labels) == ({2, 3}, {3})
    assert marked_groups(Prompt(scribble=scribble, mask=mask), labels) == ({1, 2, 3}, {3})
    with pytest.raises(GsegError, match="pixels"):
        marked_groups(Prompt(mask=mask[:2]), labels)
