from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.demo.mask_errors import faulty_track
from gseg_ns.lifting import carried
from gseg_ns.lifting.carried import believed, lift_object
from gseg_ns.rendering import Camera, composite, dominant_labels
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats
from splats_by_hand import ball, make_room, sheet

SIZE = 96, 72


def cameras(count: int) -> list[Camera]:
    """In the corners of the room by turns, looking at thing 2."""
    from gseg_ns.views.places import look_along

    target = np.array([2.9, 2.7, 0.4])
    K = torch.tensor([[80.0, 0, 48], [0, 80, 36], [0, 0, 1]])
    found = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        eye = target + np.array([0.95 * np.cos(angle), 0.95 * np.sin(angle), 1.0])
        view = np.eye(4)
        view[:3, :3] = look_along(target - eye)
        view[:3, 3] = -view[:3, :3] @ eye
        found.append(Camera(torch.tensor(view, dtype=torch.float32), K, *SIZE))
    return found


@pytest.fixture(scope="module")
def room() -> Splats:
    return make_room()


def maps(room: Splats, views: list[Camera]) -> list[np.ndarray]:
    labels = room.extra["label"].long() + 1
    return [(dominant_labels(project_splats(room, one), labels)[0] - 1).numpy().astype(np.int32) for one in views]


def test_an_object_from_true_masks(room: Splats) -> None:
    views = cameras(10)
    found = lift_object(
        room, [(one, torch.from_numpy(m == 2)) for one, m in zip(views, maps(room, views), strict=True)]
    )
    truth = room.extra["label"] == 2
    # Its underside is in no picture, and of the floor below it a trace is, through its sides: drawn, it is the thing.
    assert float(found.residuals.max()) < 0.05
    assert float(found.selected[truth].float().mean()) > 0.75
    assert float(found.selected[room.extra["label"] == 1].float().mean()) < 0.01
    assert float(found.weights.min()) > 0.9


@pytest.mark.cuda
def test_an_object_on_a_gpu_is_that_of_the_cpu(room: Splats) -> None:
    views = cameras(4)
    masks = [torch.from_numpy(labels == 2) for labels in maps(room, views)]
    here, there = (
        lift_object(splats, list(zip(views, masks, strict=True))).selected for splats in (room, room.to("cuda"))
    )
    assert float((here == there.cpu()).float().mean()) > 0.999


@pytest.mark.parametrize("seed", range(3))
def test_views_that_disagree_are_not_believed(room: Splats, seed: int) -> None:
    views = cameras(15)
    true = maps(room, views)
    masks = [true[0] == 2, *faulty_track(true[1:], 2, 0.2, np.random.default_rng(seed))]
    wrong = [number for number, mask in enumerate(masks) if not np.array_equal(mask, true[number] == 2)]
    assert len(wrong) == 3
    found = lift_object(room, [(one, torch.from_numpy(m)) for one, m in zip(views, masks, strict=True)])
    # As it is drawn: of what lies below and behind it, traces are seen through its sides.
    for one, labels in zip(views, true, strict=True):
        drawn = composite(project_splats(room, one), found.selected.float()[:, None])[..., 0].numpy() > 0.5
        assert (drawn & (labels == 2)).sum() / (drawn | (labels == 2)).sum() > 0.93
    right = [number for number in range(15) if number not in wrong]
    assert float(found.weights[right].min()) > float(found.weights[wrong].max())
    assert float(found.weights[0]) == 1


def near_and_far(distances: list[float]) -> list[Camera]:
    """Cameras that look along z at the origin."""
    found = []
    for distance in distances:
        view = torch.eye(4)
        view[2, 3] = distance
        found.append(Camera(view, torch.tensor([[60.0, 0, 48], [0, 60, 36], [0, 0, 1]]), *SIZE))
    return found


def test_a_view_from_near_does_not_outvote_many_from_far() -> None:
    """A mask from near takes along what lies beside the thing, of which views from far show fewer pixels."""
    thing = sheet([-0.5, -0.5, 0], [0.5, 0, 0], [0, 1, 0], [1, 0, 0])
    beside = sheet([0.0, -0.5, 0], [0.5, 0, 0], [0, 1, 0], [0, 1, 0])
    splats = Splats.cat([thing, beside])
    of_thing = torch.arange(len(splats)) < len(thing)
    views = near_and_far([4.0, 4.0, 4.0, 1.2])
    masks = [composite(project_splats(splats, one), of_thing.float()[:, None])[..., 0] > 0.5 for one in views]
    masks[3] = composite(project_splats(splats, views[3]), torch.ones(len(splats), 1))[..., 0] > 0.5
    votes = [
        carried.view_votes(project_splats(splats, one), mask.int() + 1) for one, mask in zip(views, masks, strict=True)
    ]
    sizes = [carried._sizes(splats.means, one, said.gaussians) for one, said in zip(views, votes, strict=True)]
    part = carried._parts(votes, sizes, torch.ones(4), len(splats))
    assert float(part[of_thing].median()) > 0.9
    assert float(part[~of_thing].median()) < 0.3
    # In pixels the one from near has more than half of all.
    pixels = carried._parts(votes, [torch.ones_like(size) for size in sizes], torch.ones(4), len(splats))
    assert float(pixels[~of_thing].median()) > 0.5


def test_what_jumps_to_something_much_larger_is_not_asked_first() -> None:
    thing = sheet([-0.1, -0.1, 0], [0.2, 0, 0], [0, 0.2, 0], [1, 0, 0])
    wall = sheet([-2, -2, 0.5], [4, 0, 0], [0, 4, 0], [0, 1, 0])
    splats = Splats.cat([thing, wall])
    views = near_and_far([2.0, 1.0, 3.0, 2.0, 1.5])
    of_thing = (torch.arange(len(splats)) < len(thing)).float()[:, None]
    masks = [composite(project_splats(splats, one), of_thing)[..., 0] > 0.5 for one in views]
    masks[2], masks[3] = ~masks[2], torch.zeros_like(masks[3])
    votes = [
        carried.view_votes(project_splats(splats, one), mask.int() + 1) for one, mask in zip(views, masks, strict=True)
    ]
    sizes = [carried._sizes(splats.means, one, said.gaussians) for one, said in zip(views, votes, strict=True)]
    asked = carried._alike(votes, sizes)
    assert asked.tolist() == [1, 1, 0, 0, 1]
    nothing = [votes[3]] * 3
    assert carried._alike(nothing, [sizes[3]] * 3).tolist() == [1, 1, 1]


def test_of_a_view_is_kept_what_it_shows() -> None:
    thing = sheet([-0.1, -0.1, 0], [0.2, 0, 0], [0, 0.2, 0], [1, 0, 0])
    behind = sheet([-0.1, -0.1, -9], [0.2, 0, 0], [0, 0.2, 0], [0, 1, 0])
    splats, camera = Splats.cat([thing, behind]), near_and_far([2.0])[0]
    said = carried.view_votes(project_splats(splats, camera), torch.ones(SIZE[1], SIZE[0]).int())
    sizes = carried._sizes(splats.means, camera, said.gaussians)
    assert sizes.shape == said.gaussians.shape
    assert 0 < len(sizes) <= len(thing)
    torch.testing.assert_close(sizes, torch.full_like(sizes, 4 / 3600))


def test_gaussians_that_are_more_of_a_thing_than_of_any_other() -> None:
    """A soft one, two fifths of which lie in the masks that it makes: without it, they are not what is drawn."""
    alone = ball(0.5, 900).subset(torch.arange(900) < 1)
    soft = replace(
        alone, means=torch.zeros(1, 3), scales=torch.full((1, 3), 0.25).log(), opacities=torch.full((1,), 6.0)
    )
    wall = sheet([-4, -4, 1.5], [8, 0, 0], [0, 8, 0], [0, 1, 0])
    splats = Splats.cat([soft, wall])
    views = near_and_far([2.0, 2.1, 2.2, 2.3])
    of_soft = (torch.arange(len(splats)) == 0).float()[:, None]
    masks = [composite(project_splats(splats, one), of_soft)[..., 0] > 0.6 for one in views]
    found = lift_object(splats, list(zip(views, masks, strict=True)))
    assert 0.3 < float(found.part[0]) < 0.5
    assert found.least < 0.5
    assert bool(found.selected[0])
    assert float(found.selected[1:].float().mean()) < 0.1  # what shines through it


def test_belief_by_median_and_deviation() -> None:
    weights = believed(torch.tensor([0.05, 0.06, 0.07, 0.06, 0.05, 0.9]))
    assert float(weights[:5].min()) > 0.9
    assert float(weights[5]) == 0
    assert torch.equal(believed(torch.zeros(4)), torch.ones(4))


def test_views_that_show_nothing_decide_nothing(room: Splats) -> None:
    view = cameras(1)[0]
    found = lift_object(room, [(view, torch.zeros(SIZE[1], SIZE[0], dtype=torch.bool))])
    assert not bool(found.selected.any())


def test_what_shines_through_takes_the_side_of_what_is_seen_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card before a wall, seen from the front: all that the wall gives behind it lies in the card's mask."""
    card = sheet([-0.5, -0.5, 2], [1, 0, 0], [0, 1, 0], [1, 0, 0])
    wall = sheet([-4, -4, 6], [8, 0, 0], [0, 8, 0], [0, 1, 0])
    splats = Splats.cat([card, wall])
    view = Camera(torch.eye(4), torch.tensor([[60.0, 0, 48], [0, 60, 36], [0, 0, 1]]), *SIZE)
    of_card = torch.arange(len(splats)) < len(card)
    mask = (composite(project_splats(splats, view), of_card.float()[:, None])[..., 0] > 0.5).cpu()
    found = lift_object(splats, [(view, mask)] * 12).selected
    assert bool(found[of_card].all())
    monkeypatch.setattr(carried, "_HIDDEN", 0.0)
    before = lift_object(splats, [(view, mask)] * 12).selected
    behind = ~of_card & (splats.means[:, :2].abs() < 1.2).all(dim=1)  # and not at the rim of what the card hides
    assert int(before[behind].sum()) > 20
    assert int(found[behind].sum()) == 0


def test_a_hidden_one_beside_the_object_stays() -> None:
    means = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.05, 0, 0], [5.0, 0, 0], [5.1, 0, 0], [5.05, 0, 0]])
    part = torch.tensor([1.0, 1.0, 0.9, 0.0, 0.1, 0.9])
    share = torch.tensor([0.5, 0.5, 0.01, 0.5, 0.5, 0.01])
    assert torch.equal(carried._sided(means[:3], part[:3], share[:3], carried.PART), part[:3])
    # Of eight neighbours there are four here, two of each side: a half is not most.
    assert carried._sided(means, part, share, carried.PART)[5] == 0
    for alike in (0.01, 0.1, 1.0):  # nothing to judge by, or to judge
        assert torch.equal(carried._sided(means, part, torch.full((6,), alike), carried.PART), part)


def test_what_a_gaussian_would_give_alone_is_what_it_gives_alone() -> None:
    alone = ball(0.5, 900).subset(torch.arange(900) == 450)
    alone = replace(alone, means=torch.tensor([[0.0, 0.0, 2.0]]), opacities=torch.tensor([0.0]))
    alone = replace(alone, scales=torch.full((1, 3), 0.1).log())
    view = Camera(torch.eye(4), torch.tensor([[60.0, 0, 48], [0, 60, 36], [0, 0, 1]]), *SIZE)
    meta = project_splats(alone, view)
    drawn = composite(meta, torch.ones(1, 1))[..., 0].sum()
    assert float(carried._unhindered(meta)) == pytest.approx(float(drawn), rel=0.03)


class OfTruth:
    """Residuals of choices by what is true, which notes what it is asked."""

    def __init__(self, chosen: torch.Tensor, truth: torch.Tensor) -> None:
        self.chosen, self.truth, self.asked = chosen, truth, list[frozenset[int]]()

    def __call__(self, choices: Sequence[frozenset[int]]) -> list[float]:
        self.asked += choices
        return [float((changed(self.chosen, one) != self.truth).float().mean()) for one in choices]


def changed(chosen: torch.Tensor, changes: frozenset[int]) -> torch.Tensor:
    result = chosen.clone()
    result[list(changes)] ^= True
    return result


def test_gaussians_in_doubt_are_asked_alone() -> None:
    part = torch.tensor([0.9, 0.7, 0.45, 0.4, 0.05, 0.0])
    truth = torch.tensor([True, False, True, False, True, True])
    seen = torch.tensor([100.0, 100, 100, 100, 100, 100])
    residual = OfTruth(part > 0.5, truth)
    chosen = carried._asked_alone(part, part > 0.5, seen, residual)
    # Of the last there is no doubt: it is in no mask.
    assert chosen.tolist() == [True, False, True, False, True, False]
    # What three are without one of them was asked for, too: none of the first round is asked for again.
    assert len(residual.asked) == len(set(residual.asked))
    assert frozenset() in residual.asked
    assert frozenset({1, 2, 4}) in residual.asked


def test_one_that_helps_alone_is_drawn_once() -> None:
    part, seen = torch.tensor([0.9, 0.4, 0.3]), torch.tensor([100.0, 100, 100])
    residual = OfTruth(part > 0.5, torch.tensor([True, True, False]))
    assert carried._asked_alone(part, part > 0.5, seen, residual).tolist() == [True, True, False]
    # Of the second round, what is without the one that helped is known, as is what is with it.
    assert sorted(map(sorted, residual.asked)) == [[], [0], [0, 1], [1], [1, 2], [2]]


def test_what_shows_next_to_nothing_is_not_asked() -> None:
    part, seen = torch.tensor([0.9, 0.4]), torch.tensor([1000.0, 0.1])
    chosen = carried._asked_alone(part, part > 0.5, seen, OfTruth(part > 0.5, torch.tensor([True, True])))
    assert chosen.tolist() == [True, False]


def test_of_two_that_help_alone_and_not_together_the_better_one_is_taken() -> None:
    part, seen = torch.tensor([0.9, 0.4, 0.4]), torch.tensor([100.0, 100, 100])

    def residual(choices: Sequence[frozenset[int]]) -> list[float]:
        return [0.5 - 0.2 * (1 in one) - 0.3 * (2 in one) + 0.6 * (1 in one and 2 in one) for one in choices]

    chosen = carried._asked_alone(part, part > 0.5, seen, residual)
    assert chosen.tolist() == [True, False, True]


def asked_of(
    room: Splats, monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.Tensor, torch.Tensor, list[int], torch.Tensor]:
    """Residuals of many choices by their changes, and of the same ones in full; channels drawn; what differs."""
    view, truth = cameras(1)[0], maps(room, cameras(1))[0]
    of_thing = room.extra["label"] == 2
    chosen = of_thing & (torch.arange(len(room), device=room.device) % 3 == 0)  # where each one matters
    meta = project_splats(room, view.to(room.device))
    shown = carried.visible(meta)[0].cpu()
    at, off = shown.nonzero().squeeze(1).tolist(), (~shown).nonzero().squeeze(1).tolist()
    # Of the thing, beside it, two together, hidden ones in between, and none.
    asked = [number for number in at if bool(of_thing[number])][:60:3]
    choices = [frozenset({number}) for number in asked + at[:5] + off[:30]]
    choices += [frozenset(), frozenset(asked[:2]), frozenset({asked[0], off[0]})]
    in_full = torch.stack([changed(chosen.cpu(), one) for one in choices], dim=1)
    mask = torch.from_numpy(truth == 2)
    expected = carried._residuals(meta, in_full.to(room.device), mask)
    widths: list[int] = []

    def spied(meta: dict[str, Any], values: torch.Tensor) -> torch.Tensor:
        widths.append(values.shape[1])
        return composite(meta, values)

    monkeypatch.setattr(carried, "composite", spied)
    found = carried._residuals_of_changes(meta, chosen.to(room.device), choices, mask)
    return found, expected, widths, in_full


def test_choices_by_their_changes_are_drawn_in_portions_and_alike_ones_once(
    room: Splats, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, expected, widths, in_full = asked_of(room, monkeypatch)
    assert torch.equal(found, expected)
    assert len(expected.unique()) > 5
    # 20 of the thing, 5 others, both, none: what is not in the picture changes nothing.
    assert widths == [16, 11]
    assert in_full.shape[1] == 58


@pytest.mark.cuda
def test_choices_by_their_changes_on_a_gpu_are_those_in_full(room: Splats, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected, widths, _ = asked_of(room.to("cuda"), monkeypatch)
    torch.testing.assert_close(found, expected)
    assert max(widths) <= 16
