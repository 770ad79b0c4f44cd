from __future__ import annotations

import torch

from gseg_ns.lifting.consensus import ConsensusOptions, find_groups
from gseg_ns.lifting.tracks import cut_tracks, track_votes
from gseg_ns.lifting.votes import ViewVotes


def said(labels: torch.Tensor, weight: float = 2.0) -> ViewVotes:
    seen = (labels > 0).nonzero().squeeze(1)
    return ViewVotes(seen.int(), labels[seen].int(), torch.full((len(seen),), weight))


OBJECT = torch.tensor([1, 2]).repeat_interleave(50)
"""Two objects of fifty Gaussians."""


def test_a_track_is_cut_where_it_jumps_and_goes_on_where_it_comes_back() -> None:
    views = [said(OBJECT)] * 6
    tracks = [torch.tensor([0, 5, 9])] * 2 + [torch.tensor([0, 9, 5])] * 2 + [torch.tensor([0, 5, 9])] * 2
    pieces = torch.stack(cut_tracks(views, tracks))
    assert len(pieces[:, 1].unique()) == len(pieces[:, 2].unique()) == 2
    # Never both objects in one piece.
    assert not set(pieces[:, 1].tolist()) & set(pieces[:, 2].tolist())
    assert pieces[0, 1] == pieces[5, 1]


def test_a_track_over_views_that_share_nothing_is_believed() -> None:
    front, back = OBJECT.clone(), OBJECT.clone()
    front[25:50], back[:25] = 0, 0
    front[50:], back[50:] = 0, 0
    pieces = cut_tracks([said(front), said(back)], [torch.tensor([0, 3])] * 2)
    assert pieces[0][1] == pieces[1][1] == 1


def test_masks_without_a_track_and_pieces_of_one_mask_say_nothing() -> None:
    views = [said(OBJECT)] * 3
    pieces = cut_tracks(views, [torch.tensor([0, 0, 4]), torch.tensor([0, 6, 4]), torch.tensor([0, 0, 4])])
    votes = track_votes(views, pieces)
    assert votes.gaussians.tolist() == list(range(50, 100))
    assert len(votes.labels.unique()) == 1
    assert torch.equal(votes.weights, torch.full((50,), 6.0))
    assert len(track_votes(views, [torch.zeros(3).long()] * 3).labels) == 0


def halves() -> tuple[torch.Tensor, list[ViewVotes], torch.Tensor]:
    """A long object of which no view sees both ends, and one beside it that every view sees."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand((900, 3), generator=generator)
    part = torch.arange(3).repeat_interleave(300)
    means[:, 0] += torch.tensor([0.0, 6.0, 3.0])[part]
    views = []
    for number in range(8):
        labels = torch.where(part == 2, 2, torch.where(part == number % 2, 1, 0))
        views.append(said(labels))
    return means, views, part


def test_tracks_join_what_no_view_compares() -> None:
    means, views, part = halves()
    alone = find_groups(means, views, ConsensusOptions())
    assert len(alone.unique()) == 3
    tracks = track_votes(views, cut_tracks(views, [torch.tensor([0, 1, 2])] * len(views)))
    together = find_groups(means, views, ConsensusOptions(), tracks)
    assert len(together[part < 2].unique()) == 1
    assert together[0] != together[-1]


def test_a_track_does_not_join_what_views_tell_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.rand((600, 3), generator=generator)
    part = torch.arange(2).repeat_interleave(300)
    means[:, 0] += part
    views = [said(part + 1)] * 8
    wrong = ViewVotes(torch.arange(600).int(), torch.ones(600).int(), torch.full((600,), 50.0))
    groups = find_groups(means, views, ConsensusOptions(), wrong)
    assert len(groups[groups > 0].unique()) == 2
    assert torch.equal(groups, find_groups(means, views, ConsensusOptions()))
