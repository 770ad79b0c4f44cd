from __future__ import annotations

import torch

from gseg_ns.lifting.consensus import view_labels
from gseg_ns.lifting.smoothing import MAX_NEIGHBOURS, NeighbourVotes, finest_masks, pack_flags, without_parted
from gseg_ns.masks import MaskSet
from gseg_ns.neighbours import nearest
from gseg_ns.rendering import project

WIDTH, HEIGHT = 40, 32
K = torch.tensor([[40.0, 0, 20.0], [0, 40.0, 16.0], [0, 0, 1]])


def grid() -> torch.Tensor:
    """Gaussians every 0.1 on a wall before the camera."""
    y, x = torch.meshgrid(torch.arange(-1.0, 1.0, 0.1), torch.arange(-1.35, 1.36, 0.1), indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), 3.0)], dim=1)


def projection(means: torch.Tensor) -> dict[str, object]:
    count = len(means)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return project(
        means,
        quats,
        torch.full((count, 3), 0.04),
        torch.full((count,), 0.8),
        torch.eye(4)[None],
        K[None],
        WIDTH,
        HEIGHT,
    )


def test_finest_mask_of_each_region() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :, :3] = True
    masks[1, :2, :2] = True
    masks[2, 0, 0] = True
    labels = finest_masks(MaskSet.from_arrays(masks), torch.tensor([3.0, 2.0, 1.0]))
    regions = MaskSet.from_arrays(masks).regions[0].long()
    assert labels[regions].tolist() == [[3, 2, 1, 0], [2, 2, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    assert finest_masks(MaskSet.from_arrays(masks[:0]), torch.zeros(0)).eq(0).all()


def test_neighbours_over_a_border_are_left_out() -> None:
    means = grid()
    left = means[:, 0] < 0
    neighbours = nearest(means, 9)
    votes = NeighbourVotes(neighbours)
    halves = torch.ones(HEIGHT, WIDTH, dtype=torch.long)
    halves[:, WIDTH // 2 :] = 2
    merged = torch.ones(HEIGHT, WIDTH, dtype=torch.long)
    for labels in (halves, halves, merged, torch.zeros_like(merged)):
        votes.add(view_labels(projection(means), labels))
    kept = votes.agreeing(0.5)
    across = left[:, None] != left[neighbours]
    assert across.any()
    # Two of the three views that say anything part them.
    assert not kept[across].any()
    assert kept[~across].all()
    assert votes.agreeing(0.3)[across].all()


def test_neighbours_that_no_view_shows_stay() -> None:
    means = grid()
    means = torch.cat([means, means - torch.tensor([0.0, 0.0, 6.0])])  # the second wall is behind the camera
    neighbours = nearest(means, 9)
    votes = NeighbourVotes(neighbours)
    halves = torch.ones(HEIGHT, WIDTH, dtype=torch.long)
    halves[:, WIDTH // 2 :] = 2
    votes.add(view_labels(projection(means), halves))
    kept = votes.agreeing(0.5)
    behind = len(means) // 2
    assert kept[behind:].all()
    assert not kept[:behind].all()


def test_flags_of_neighbours() -> None:
    kept = torch.rand(50, MAX_NEIGHBOURS, generator=torch.Generator().manual_seed(0)) < 0.5
    kept[:, 0] = True
    kept[7] = True
    neighbours = torch.randint(0, 50, kept.shape)
    flags = pack_flags(kept)
    assert flags.dtype == torch.int32
    assert (flags > 0).all()
    found = without_parted(neighbours, flags)
    own = torch.arange(50)[:, None].expand_as(neighbours)
    assert torch.equal(found, torch.where(kept, neighbours, own))


def test_votes_are_those_of_tensors() -> None:
    means = grid()
    neighbours = nearest(means, 5)
    labels = torch.randint(0, 4, (HEIGHT // 4, WIDTH // 4), generator=torch.Generator().manual_seed(0))
    labels = labels.repeat_interleave(4, 0).repeat_interleave(4, 1)
    votes = NeighbourVotes(neighbours)
    votes.add(view_labels(projection(means), labels))
    view = view_labels(projection(means), labels)
    weight, label = torch.zeros(len(means)), torch.zeros(len(means), dtype=torch.int32)
    weight[view.gaussians.long()], label[view.gaussians.long()] = view.weights, view.labels
    both = torch.minimum(weight[:, None], weight[neighbours])
    assert torch.equal(votes._both, both)
    assert torch.equal(votes._same, both * (label[:, None] == label[neighbours]))
