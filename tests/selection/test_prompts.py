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
