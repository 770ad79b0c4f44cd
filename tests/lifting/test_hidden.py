"""Gaussians behind what all masks show."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gseg_ns.lifting.hidden import HIDDEN, name_hidden, shown_share
from gseg_ns.lifting.votes import Lift, VoteStore, lift, view_votes
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

CAMERA = Camera(torch.eye(4), torch.tensor([[40.0, 0, 32], [0, 40.0, 24], [0, 0, 1]]), 64, 48)
FLAT = torch.zeros(48, 64, dtype=torch.int32)


def gaussians(means: Tensor, opacity: Tensor, size: float = 0.06) -> Splats:
    """Round ones [N, 3] of opacities [N] in 0..1."""
    count = len(means)
    return Splats(
        means=means, quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        scales=torch.full((count, 3), size).log(), opacities=torch.logit(opacity), sh=torch.zeros(count, 1, 3),
    )  # fmt: skip


def share(splats: Splats, camera: Camera = CAMERA) -> Tensor:
    meta = project_splats(splats, camera)
    return shown_share(meta, view_votes(meta, FLAT))


@pytest.mark.parametrize("opacity", [0.02, 0.3, 0.95])
def test_alone_it_shows_all_of_itself(opacity: float) -> None:
    found = share(gaussians(torch.tensor([[0.0, 0, 2], [0.5, 0.2, 3]]), torch.full((2,), opacity)))
    torch.testing.assert_close(found, torch.ones(2), atol=0.06, rtol=0)


def test_what_is_before_it_takes_its_part() -> None:
    # The one in front is three times as wide in the picture, and about as opaque before all of the other.
    for opacity, least, most in ((0.5, 0.5, 0.62), (0.99, 0.01, 0.2)):
        found = share(gaussians(torch.tensor([[0.0, 0, 1], [0, 0, 3]]), torch.tensor([opacity, 0.5])))
        assert found[0] == pytest.approx(1, abs=0.05)
        assert least < found[1] < most


def test_out_of_view_it_shows_nothing() -> None:
    found = share(gaussians(torch.tensor([[0.0, 0, -2], [9.0, 0, 2], [0.8 * 2, 0, 2]]), torch.full((3,), 0.5)))
    assert found[:2].tolist() == [0, 0]
    assert found[2] == pytest.approx(1, abs=0.06), "half of it is beyond the edge"


def test_hidden_ones_are_called_what_most_around_them_are() -> None:
    means = torch.tensor([[float(x), 0, 0] for x in range(9)] + [[100.0 + x, 0, 0] for x in range(9)])
    labels = torch.tensor([1] * 9 + [2] * 9)
    labels[[4, 13, 16]] = torch.tensor([2, 0, 1])
    shown = torch.full((18,), 2 * HIDDEN)
    shown[[4, 13]] = HIDDEN / 2
    found = name_hidden(Lift(labels, torch.full((18,), 0.9)), shown, means)
    assert found.labels[4] == 1, "hidden, and all around it are called so"
    assert found.labels[13] == 0, "what has no label gets none"
    assert found.labels[16] == 1, "what shows is what masks say"
    assert found.confidence[4] == pytest.approx(0.9), "no surer than the vote was"
    assert found.confidence[13] == pytest.approx(0.9), "nobody asked about it"
    assert torch.equal(found.labels[shown >= HIDDEN], labels[shown >= HIDDEN])
    nothing = name_hidden(Lift(labels, torch.full((18,), 0.9)), torch.zeros(18), means)
    assert torch.equal(nothing.labels, labels), "where nothing shows there is nobody to ask"


@pytest.mark.parametrize(
    ("around", "voted", "label", "sure"),
    [
        ([1, 1, 1, 1, 2, 2, 2, 2], 2, 2, 0.5),  # as many: the vote stays
        ([1, 1, 1, 1, 2, 2, 2, 2], 1, 1, 0.5),
        ([2, 2, 2, 2, 1, 1, 1, 1], 3, 2, 0.5),  # the vote is not among them: the nearest
        ([0, 0, 0, 0, 5, 5, 5, 5], 3, 5, 0.5),  # what has no label wins no tie
        ([0, 0, 0, 0, 3, 3, 3, 3], 3, 3, 0.5),
        ([3, 3, 0, 0, 0, 0, 0, 3], 3, 0, 0.0),  # but a majority
        ([1, 1, 1, 1, 1, 1, 3, 3], 3, 1, 0.75),
        ([1, 1, 2], 2, 1, 2 / 3),  # fewer than eight
        ([1, 1, 1, 1, 1, 1, 1, 1], 2, 1, 0.8),  # no surer than the vote was
    ],
)
def test_what_most_are_called(around: list[int], voted: int, label: int, sure: float) -> None:
    """Neighbours by distance; further away all are of another label, and are not asked."""
    count = len(around)
    far = [7] * (9 if count == 8 else 0)
    means = torch.arange(1.0 + count + len(far))[:, None] * torch.tensor([[1.0, 0, 0]])
    lifted = Lift(torch.tensor([voted, *around, *far]), torch.full((len(means),), 0.8))
    shown = torch.ones(len(means))
    shown[0] = 0
    found = name_hidden(lifted, shown, means)
    assert (int(found.labels[0]), float(found.confidence[0])) == (label, pytest.approx(sure))
    assert torch.equal(found.labels[1:], lifted.labels[1:])
    assert torch.equal(found.confidence[1:], lifted.confidence[1:])


def test_a_stand_behind_a_wall_is_not_called_the_wall() -> None:
    """By the vote alone it is: what shines through falls into the wall's mask."""
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 41), torch.linspace(-0.8, 0.0, 17))
    wall = torch.cat([grid, torch.full((len(grid), 1), 2.0)], dim=1)
    # Its lower end stands free below the wall; most of the rest lies deeper, in reach of it alone.
    stand = torch.stack([torch.zeros(60), torch.linspace(-0.6, 1.2, 60), torch.full((60,), 3.0)], dim=1)
    behind = stand[:, 1] < -0.15
    means = torch.cat([wall, stand])
    # Several of the wall are on top of each other everywhere: one or two hundredths shine through.
    splats = gaussians(means, torch.cat([torch.full((len(wall),), 0.35), torch.full((len(stand),), 0.9)]))
    meta = project_splats(splats, CAMERA)
    of = view_votes(meta, FLAT)
    labels = FLAT + 2
    labels[:26] = 1  # the wall's mask
    votes = VoteStore()
    votes.append(view_votes(meta, labels))
    plain = lift(votes, [torch.arange(3)], 2, len(means))
    named = name_hidden(plain, shown_share(meta, of), splats.means)
    hidden = torch.nonzero(behind)[:, 0] + len(wall)
    voted = hidden[plain.labels[hidden] > 0]
    assert len(voted) > 5
    assert (plain.labels[voted] == 1).all()
    lowest = voted[means[voted, 1] > -0.3]
    assert len(lowest) > 0
    assert (named.labels[lowest] == 2).all()
    assert torch.equal(named.labels[: len(wall)], plain.labels[: len(wall)])


@pytest.mark.cuda
def test_a_gpu_says_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.rand((200, 3), generator=generator) + torch.tensor([-0.5, -0.5, 1.5])
    splats = gaussians(means, torch.rand(200, generator=generator).clamp(0.05, 0.95))
    found = share(splats)
    # Some are on either side of the threshold, and none so near that rounding decides.
    near = (found - HIDDEN).abs() < 0.1 * HIDDEN
    found[near] = 2 * HIDDEN
    assert 10 < (found < HIDDEN).sum() < 190
    meta = project_splats(splats.to("cuda"), CAMERA.to("cuda"))
    there = shown_share(meta, view_votes(meta, FLAT.cuda()))
    assert there.device.type == "cpu"
    there[near] = 2 * HIDDEN
    torch.testing.assert_close(there, found, atol=0.001, rtol=0.01)
    lifted = Lift(torch.randint(0, 3, (200,), generator=generator), torch.rand(200, generator=generator))
    expected = name_hidden(lifted, found, means)
    assert not torch.equal(expected.labels, lifted.labels)
    named = name_hidden(lifted, there, means.cuda())
    assert torch.equal(named.labels, expected.labels)
    torch.testing.assert_close(named.confidence, expected.confidence)
