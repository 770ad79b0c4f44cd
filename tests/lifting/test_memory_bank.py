from __future__ import annotations

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.lifting.memory_bank import (
    MemoryBank,
    MemoryBankOptions,
    centre_pixels,
    corresponding_gaussians,
    relabel,
)
from gseg_ns.rendering.camera import Camera


def straight_camera(width: int = 8, height: int = 8) -> Camera:
    """At the origin, looking along +z; a point (x, y, 1) falls into pixel (x, y)."""
    K = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    return Camera(torch.eye(4), K, width, height)


def at_pixels(pixels: list[tuple[int, int]], depths: list[float]) -> torch.Tensor:
    return torch.tensor([[(x + 0.5) * z, (y + 0.5) * z, z] for (x, y), z in zip(pixels, depths, strict=True)])


def test_centres_fall_into_their_pixel_and_outsiders_are_left_out() -> None:
    means = torch.cat(
        [
            at_pixels([(0, 0), (7, 7), (3, 5)], [1.0, 2.0, 4.0]),
            torch.tensor([[0.5, 0.5, -1.0], [8.5, 0.5, 1.0], [-0.1, 2.0, 1.0], [1.0, 1.0, 0.0]]),
        ]
    )
    ids, pixels, depth = centre_pixels(means, straight_camera())
    assert ids.tolist() == [0, 1, 2]
    assert pixels.tolist() == [0, 63, 43]
    assert depth.tolist() == [1.0, 2.0, 4.0]


def test_the_front_share_of_each_mask_and_cell_is_taken_but_at_least_one() -> None:
    # Ten Gaussians behind each other in one pixel, one alone in another cell of the same mask.
    means = at_pixels([(1, 1)] * 10 + [(6, 6)], [float(d) for d in range(10, 0, -1)] + [100.0])
    labels = torch.full((8, 8), 3)
    ids, labels_at = corresponding_gaussians(means, straight_camera(), labels, front=0.2, grid=2)
    assert sorted(ids.tolist()) == [8, 9, 10]
    assert labels_at.tolist() == [3, 3, 3]
    # Without cells the lone, far one is not represented: what the grid is for.
    ids, _ = corresponding_gaussians(means, straight_camera(), labels, front=0.2, grid=1)
    assert sorted(ids.tolist()) == [8, 9]


def test_unlabelled_pixels_represent_nothing() -> None:
    means = at_pixels([(1, 1), (6, 6)], [1.0, 1.0])
    labels = torch.zeros((8, 8), dtype=torch.int32)
    labels[6, 6] = 1
    ids, labels_at = corresponding_gaussians(means, straight_camera(), labels, front=1.0, grid=4)
    assert (ids.tolist(), labels_at.tolist()) == ([1], [1])


def test_label_maps_of_another_resolution_are_looked_up_where_they_belong() -> None:
    means = at_pixels([(1, 1), (6, 6)], [1.0, 1.0])
    labels = torch.zeros((16, 16), dtype=torch.int32)
    labels[12:14, 12:14] = 1
    ids, _ = corresponding_gaussians(means, straight_camera(), labels, front=1.0, grid=4)
    assert ids.tolist() == [1]


def reference_bank(
    views: list[tuple[torch.Tensor, torch.Tensor, int]], options: MemoryBankOptions
) -> list[dict[int, int]]:
    """The paper's loop, mask by mask, with plain sets."""
    groups: list[set[int]] = []
    assigned: set[int] = set()
    result = []
    for ids, labels, count in views:
        lookup: dict[int, int] = {}
        for label in range(1, count + 1):
            mask = {int(i) for i in ids[labels == label]}
            if not mask:
                lookup[label] = 0
                continue
            shared = [len(mask & group) for group in groups]
            best = max(range(len(groups)), key=lambda g: (shared[g], -g)) if groups else -1
            score = 0.0
            if best >= 0:
                extra = shared[best] if options.similarity == "official" else 0
                score = shared[best] / (len(mask) + extra)
            if best >= 0 and shared[best] > 0 and score >= options.overlap:
                groups[best] |= mask - assigned
            else:
                best = len(groups)
                groups.append(set(mask - assigned) if options.exclusive else set(mask))
            assigned |= mask
            lookup[label] = best + 1
        result.append(lookup)
    return result


@pytest.mark.parametrize("similarity", ["paper", "official"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_a_whole_view_at_once_gives_what_mask_by_mask_gives(
    similarity: str, exclusive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    options = MemoryBankOptions(overlap=0.3, similarity=similarity, exclusive=exclusive)  # type: ignore[arg-type]
    num_gaussians, count = 60, 6
    views = []
    for _ in range(12):
        ids = torch.randperm(num_gaussians, generator=generator)[:40].sort().values
        # Labels follow the index, with noise, so that masks overlap over the views.
        labels = (ids // 12 + 1 + (torch.rand(40, generator=generator) < 0.3).long()).clamp_max(count)
        views.append((ids, labels, count))
    expected = reference_bank(views, options)

    bank = MemoryBank(num_gaussians, options)
    for (ids, labels, _), lookup in zip(views, expected, strict=True):
        monkeypatch.setattr(
            "gseg_ns.lifting.memory_bank.corresponding_gaussians", lambda *_, ids=ids, labels=labels: (ids, labels)
        )
        found = bank.add_view(torch.zeros(1, 3), straight_camera(), torch.full((8, 8), count))
        assert {label: int(found[label]) for label in range(1, count + 1)} == lookup
        assert found[0] == 0


def test_permuting_gaussians_changes_no_group() -> None:
    generator = torch.Generator().manual_seed(1)
    means = torch.rand((300, 3), generator=generator) * torch.tensor([8.0, 8.0, 0.0]) + torch.tensor([0, 0, 1.0])
    means[:, 2] += torch.rand(300, generator=generator)
    means[:, :2] *= means[:, 2:]
    labels = [torch.randint(0, 5, (8, 8), generator=generator) for _ in range(3)]
    order = torch.randperm(300, generator=generator)
    one, two = (MemoryBank(300, MemoryBankOptions(grid=4)) for _ in range(2))
    for view in labels:
        a = one.add_view(means, straight_camera(), view)
        b = two.add_view(means[order], straight_camera(), view)
        assert torch.equal(a, b)
    assert torch.equal(one.owner[order], two.owner)


def test_more_than_255_groups_stay_apart() -> None:
    side = 20
    camera = straight_camera(side, side)
    means = at_pixels([(x, y) for y in range(side) for x in range(side)], [1.0] * side**2)
    labels = torch.arange(1, side**2 + 1).view(side, side)
    bank = MemoryBank(len(means), MemoryBankOptions())
    lookup = bank.add_view(means, camera, labels)
    assert bank.num_groups == 400
    assert lookup[1:].tolist() == list(range(1, 401))
    assert torch.equal(
        bank.add_view(means, camera, labels.flip(0)),
        lookup[torch.cat([torch.zeros(1, dtype=torch.long), labels.flip(0).flatten().argsort() + 1])],
    )


def test_an_empty_view_and_one_that_sees_nothing_change_nothing() -> None:
    bank = MemoryBank(2, MemoryBankOptions())
    means = at_pixels([(1, 1), (2, 2)], [1.0, 1.0])
    assert bank.add_view(means, straight_camera(), torch.zeros((8, 8), dtype=torch.int32)).tolist() == [0]
    labels = torch.zeros((8, 8), dtype=torch.int32)
    labels[5, 5] = 2
    assert bank.add_view(means, straight_camera(), labels).tolist() == [0, 0, 0]
    assert bank.num_groups == 0


def test_relabel_maps_labels_and_forgets_unknown_ones() -> None:
    labels = torch.tensor([[0, 1], [2, 7]], dtype=torch.int32)
    assert relabel(labels, torch.tensor([0, 5, 3])).tolist() == [[0, 5], [3, 0]]


@pytest.mark.parametrize("wrong", [{"front": 0.0}, {"front": 1.5}, {"grid": 0}, {"overlap": -0.1}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(GsegError):
        MemoryBankOptions(**wrong)  # type: ignore[arg-type]
