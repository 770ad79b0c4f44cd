from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.lifting import votes as votes_module
from gseg_ns.lifting.votes import ViewVotes, VoteStore, accumulate_votes, labels_from_votes, lift, view_votes
from gseg_ns.rendering import project, rasterize_to_pixels


def scene(seed: int = 0) -> tuple[dict[str, object], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = 40
    means = torch.rand((count, 3), generator=generator) * 2 - 1
    means[:, 2] += 4
    K = torch.tensor([[20.0, 0, 12], [0, 20.0, 10], [0, 0, 1]])
    meta = project(
        means,
        torch.randn((count, 4), generator=generator),
        torch.full((count, 3), 0.15),
        torch.rand(count, generator=generator) * 0.9,
        torch.eye(4)[None],
        K[None],
        24,
        20,
    )
    return meta, torch.randint(0, 4, (20, 24), generator=generator)


def test_votes_are_the_gradient_of_a_rendered_label() -> None:
    meta, labels = scene()
    votes = accumulate_votes([(meta, labels), (meta, labels)], 40, 4)
    colors = torch.zeros((1, 40, 4), requires_grad=True)
    image, _ = rasterize_to_pixels(
        meta["means2d"], meta["conics"], colors, meta["opacities"], 24, 20,
        meta["tile_size"], meta["isect_offsets"], meta["flatten_ids"],
    )  # fmt: skip
    (image[0] * torch.nn.functional.one_hot(labels, 4)).sum().backward()
    assert colors.grad is not None
    torch.testing.assert_close(votes, 2 * colors.grad[0], atol=1e-4, rtol=1e-4)


def test_the_order_of_the_views_does_not_matter() -> None:
    views = [scene(seed) for seed in range(3)]
    forward = labels_from_votes(accumulate_votes(views, 40, 4))
    backward = labels_from_votes(accumulate_votes(views[::-1], 40, 4))
    assert torch.equal(forward, backward)


def test_labels_from_votes_by_hand() -> None:
    votes = torch.tensor([[9.0, 1.0, 2.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 3.0, 1.0]])
    assert labels_from_votes(votes).tolist() == [2, 0, 0, 1]
    assert labels_from_votes(votes, count_unlabelled=True).tolist() == [0, 0, 0, 1]
    assert labels_from_votes(votes[:, :1]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("max_bytes", [1e9, 1500, 0])
@pytest.mark.parametrize("table", [1 << 20, 17])
@pytest.mark.parametrize("count_unlabelled", [False, True])
def test_a_lift_is_the_vote_on_relabelled_maps(
    max_bytes: float, table: int, count_unlabelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of it is in memory, and however many Gaussians are summed at a time."""
    monkeypatch.setattr(votes_module, "TABLE", table)
    views = [scene(seed) for seed in range(3)]
    lookups = [torch.tensor([0, 2, 1, 2]), torch.tensor([0, 1, 5]), torch.tensor([0, 0, 3, 4])]
    store = VoteStore(max_bytes)
    for meta, labels in views:
        store.append(view_votes(meta, labels))
    maps = [torch.cat([lookup, torch.zeros(4).long()])[view[1]] for lookup, view in zip(lookups, views, strict=True)]
    expected = accumulate_votes([(meta, ids) for (meta, _), ids in zip(views, maps, strict=True)], 40, 6)
    found = lift(store, lookups, 5, 40, count_unlabelled)
    assert torch.equal(found.labels, labels_from_votes(expected, count_unlabelled))
    among = expected if count_unlabelled else expected[:, 1:]
    sure = expected.gather(1, found.labels[:, None])[:, 0] / among.sum(dim=1).clamp_min(1e-12)
    torch.testing.assert_close(found.confidence, torch.where(among.sum(dim=1) > 0, sure, 0))
    assert 0 < found.confidence.max() <= 1


def test_votes_are_read_as_they_were_written() -> None:
    written = [view_votes(*scene(seed)) for seed in range(4)] + [ViewVotes(*view_votes(*scene(9))).of(0, 0)]
    store = VoteStore(1500)
    for votes in written:
        store.append(votes)
    assert len(store) == 5
    for view in (3, 0, 4, 2, 1):
        assert all(torch.equal(a, b) for a, b in zip(store[view], written[view], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(store.of(view, 7, 21), written[view].of(7, 21), strict=True))
    assert all(len(read.gaussians) == len(votes.gaussians) for read, votes in zip(store, written, strict=True))


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(GsegError, match="TMPDIR"):
        VoteStore(0).append(view_votes(*scene()))
