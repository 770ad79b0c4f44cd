"""Strengths against a reference in plain torch, by hand, and on a scene whose masks are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from disk_scene import SIZE, disk_scene
from gseg_ns.errors import OptionError
from gseg_ns.lifting import strengths
from gseg_ns.lifting.mixed_pixels import Rows, by_label
from gseg_ns.lifting.strengths import (
    StrengthOptions,
    Strengths,
    disagreement,
    fit_strengths,
    label_image,
    silhouettes,
    strength_gradient,
)
from gseg_ns.rendering import (
    composite,
    contested_labels,
    dominant_labels,
)
from gseg_ns.rendering.kernels.strengths import BLOCK, adam_step
from thread_counts import same_by_any_number_of_threads


def _rows(num_gaussians: int = 30, count: int = 40, num_labels: int = 5, seed: int = 0) -> tuple[Rows, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=generator)
    crow = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    col = torch.cat([torch.randperm(num_gaussians, generator=generator)[:n] for n in lengths.tolist()]).int()
    val = torch.rand(int(crow[-1]), generator=generator) / 5
    targets = torch.randint(1, num_labels, (count,), generator=generator).int()
    labels = torch.randint(0, num_labels, (num_gaussians,), generator=generator).int()
    rows = by_label(Rows(crow, col, val, targets), labels, num_labels)
    return rows, labels, torch.rand(num_gaussians, generator=generator) + 0.5


def _loss(rows: Rows, chosen: Tensor, labels: Tensor, values: Tensor, num_labels: int, robust: float) -> Tensor:
    """The loss, pixel by pixel."""
    losses = []
    for row in chosen.tolist():
        scores = [values.new_zeros(()) for _ in range(num_labels)]
        for k in range(int(rows.crow[row]), int(rows.crow[row + 1])):
            g = int(rows.col[k])
            scores[int(labels[g])] = scores[int(labels[g])] + rows.val[k].to(values) * values[g]
        p = torch.stack(scores[1:]).mul(10.0).softmax(0)[int(rows.targets[row]) - 1]
        losses.append(-p.log() if robust == 0 else (1 - p**robust) / robust)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("robust", [0.0, 0.7])
def test_the_gradient_is_that_of_the_loss(robust: float) -> None:
    rows, labels, values = _rows()
    chosen = torch.tensor([0, 3, 3, 17, 39])
    free = values.double().requires_grad_()
    (expected,) = torch.autograd.grad(_loss(rows, chosen, labels, free, 5, robust), free)
    found = strength_gradient(rows, chosen, labels, values, 5, robust)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)
    assert found[labels == 0].abs().max() == 0
    # And the loss moves as it says.
    step = torch.randn(len(values), generator=torch.Generator().manual_seed(1)).double()
    less, more = (_loss(rows, chosen, labels, values.double() + h * step, 5, robust) for h in (-1e-5, 1e-5))
    assert float((more - less) / 2e-5) == pytest.approx(float(found.double() @ step), rel=1e-3, abs=1e-6)


# The larger number is more than two blocks, and no whole number of them.
@pytest.mark.parametrize("count", [50, 2 * BLOCK + 50])
def test_a_step_is_adams_with_a_floor(count: int) -> None:

    generator = torch.Generator().manual_seed(2)
    values = torch.rand(count, generator=generator)
    free = values.clone().requires_grad_()
    adam = torch.optim.Adam([free], lr=0.1, betas=(0.9, 0.999), eps=1e-15)
    mean, square = torch.zeros(count), torch.zeros(count)
    for step in range(1, 6):
        sums = torch.randn(4, count, generator=generator)
        free.grad = sums.sum(dim=0) / 8
        adam.step()
        with torch.no_grad():
            free.clamp_(min=0.02)
        left = sums.clone()
        for start, stop in ((0, 7), (7, count)):
            adam_step(
                start, stop, left.numpy(), 8, mean.numpy(), square.numpy(), values.numpy(), 0.1 / (1 - 0.9**step),
                1 - 0.999**step, 0.02,
            )  # fmt: skip
        torch.testing.assert_close(values, free.detach(), rtol=1e-4, atol=1e-5)
        assert left.abs().max() == 0
    assert values.min() == pytest.approx(0.02)


def test_the_gradient_of_one_pixel_by_hand() -> None:
    """Two Gaussians of weight 0.6 and 0.4, of labels 1 and 2; a third label shows nowhere. The pixel should say 2."""
    rows = Rows(torch.tensor([0, 2]), torch.tensor([0, 1]).int(), torch.tensor([0.6, 0.4]), torch.tensor([2]).int())
    e = np.exp([6.0, 4.0, 0.0])
    p = e / e.sum()
    rows = by_label(rows, torch.tensor([1, 2]), 4)
    found = strength_gradient(rows, torch.tensor([0]), torch.tensor([1, 2]).int(), torch.ones(2), 4, 0.0)
    assert found.tolist() == pytest.approx([0.6 * 10 * p[0], 0.4 * 10 * (p[1] - 1)], rel=1e-5)
    wrong = disagreement(rows, torch.tensor([0]), torch.tensor([1, 2]), torch.ones(2), 4)
    assert wrong == pytest.approx(1 - p[1], rel=1e-5)


def test_what_is_contradicted_is_the_same_with_and_without_runs() -> None:
    rows, labels, values = _rows(300, 500, 7)
    chosen = torch.tensor([1, 1, 400, 3, 77])
    without = Rows(rows.crow, rows.col, rows.val, rows.targets)
    plain = disagreement(without, chosen, labels, values, 7)
    assert disagreement(rows, chosen, labels, values, 7) == pytest.approx(plain, rel=1e-5)
    assert disagreement(rows, chosen[:0], labels, values, 7) == 0


def test_the_number_of_threads_does_not_matter() -> None:
    rows, labels, values = _rows(500, 3000, 7)
    chosen = torch.arange(3000)
    same_by_any_number_of_threads(lambda: [strength_gradient(rows, chosen, labels, values, 7, 0.7)], (1, 3))


def _wrong(metas: list[dict[str, object]], truths: list[Tensor], labels: Tensor, values: Tensor | None) -> float:
    images = [dominant_labels(meta, labels, values)[0] for meta in metas]
    return float(torch.stack([(i != t).float().mean() for i, t in zip(images, truths, strict=True)]).mean())


def test_soft_silhouettes_come_to_the_masks() -> None:
    labels, metas, truths = disk_scene()
    found = fit_strengths(labels, 6, lambda v: (metas[v], truths[v]), StrengthOptions(steps=200))
    assert found.followed == 1
    assert found.after < found.before
    views = slice(6, 8)  # not fitted to
    before, after = (_wrong(metas[views], truths[views], labels, values) for values in (None, found.values))
    assert before > 0.01
    assert after < 0.5 * before
    again = fit_strengths(labels, 6, lambda v: (metas[v], truths[v]), StrengthOptions(steps=200))
    assert torch.equal(found.values, again.values)


def test_what_held_out_views_contradict_is_not_followed() -> None:
    """The vote is right; masks that are learned from are off to one side, those of the other views to another."""
    labels, metas, _ = disk_scene(7)
    right = [dominant_labels(meta, labels)[0] for meta in metas]
    masks = [image.roll(3 if view % 6 else -3, 1) for view, image in enumerate(right)]
    options = StrengthOptions(steps=200, held_out=6)
    found = fit_strengths(labels, 7, lambda v: (metas[v], masks[v]), options)
    assert found.followed < 1
    assert found.after <= found.before


def test_memory_bounds_the_pixels_and_the_result_stays() -> None:
    labels, metas, truths = disk_scene()
    found = fit_strengths(labels, 8, lambda v: (metas[v], truths[v]), StrengthOptions(steps=200, max_bytes=2e5))
    assert _wrong(metas, truths, labels, found.values) < _wrong(metas, truths, labels, None)


@pytest.mark.parametrize("case", ["one view", "one label", "no steps", "no masks"])
def test_nothing_to_fit(case: str) -> None:
    labels, metas, truths = disk_scene(3)
    count, options = 3, StrengthOptions(steps=10)
    if case == "one view":
        count = 1
    elif case == "one label":
        labels = labels.clamp_max(1)
    elif case == "no steps":
        options = StrengthOptions(steps=0)
    else:
        truths = [torch.zeros_like(truth) for truth in truths]
    found = fit_strengths(labels, count, lambda v: (metas[v], truths[v]), options)
    assert torch.equal(found.values, torch.ones(len(labels)))
    assert found.followed == 0


def test_factors_decide_and_weights_stay_plain() -> None:
    labels, metas, _ = disk_scene(1)
    plain, weights = dominant_labels(metas[0], labels)
    same, same_weights = dominant_labels(metas[0], labels, torch.ones(len(labels)))
    assert torch.equal(plain, same)
    torch.testing.assert_close(weights, same_weights)
    loud = torch.where(labels == 1, 100.0, 1.0)
    image, part = dominant_labels(metas[0], labels, loud)
    assert int((image == 2).sum()) < int((plain == 2).sum())
    assert float(part.max()) <= 1.0


def test_a_label_that_the_vote_does_not_show_is_not_made_up() -> None:
    labels, metas, _ = disk_scene(1)
    labels[125] = 3  # of the wall, between others of it
    voted, voted_weights = dominant_labels(metas[0], labels)
    assert not (voted == 3).any()
    loud = torch.where(labels == 3, 20.0, torch.where(labels == 2, 0.5, 1.0))
    answers, weights, plain = contested_labels(metas[0], labels, loud)
    assert torch.equal(plain, voted)
    made_up = answers == 3
    assert made_up.any()
    found, found_weights = label_image(metas[0], labels, loud)
    assert torch.equal(found, torch.where(made_up, voted, answers))
    torch.testing.assert_close(found_weights, torch.where(made_up, voted_weights, weights))
    assert int((found == 2).sum()) < int((voted == 2).sum())  # borders move
    assert torch.equal(label_image(metas[0], labels)[0], voted)


def test_what_the_vote_shows_may_grow() -> None:
    labels, metas, _ = disk_scene(1)
    labels[0] = 3  # in a corner of the view
    loud = torch.where(labels == 3, 3.0, 1.0)
    shown = (label_image(metas[0], labels)[0] == 3).sum()
    assert 0 < shown < (label_image(metas[0], labels, loud)[0] == 3).sum()


def test_selections_have_the_borders_of_label_images() -> None:
    labels, metas, _ = disk_scene(1)
    loud = torch.where(labels == 2, 0.5, 1.5)
    disk, wall = (labels == 2), (labels == 1)
    selections = torch.stack([disk, wall, disk | wall, torch.zeros_like(disk)], dim=1)
    plain, seen = silhouettes(metas[0], selections), silhouettes(metas[0], selections, loud)
    full = composite(metas[0], torch.ones(len(labels), 1))[..., 0] > 0.99
    image = label_image(metas[0], labels, loud)[0]
    assert full.float().mean() > 0.5
    assert torch.equal(seen[..., 0][full], image[full] == 2)
    assert torch.equal(seen[..., 1][full], image[full] == 1)
    assert int(seen[..., 0].sum()) < int(plain[..., 0].sum())
    assert not seen[..., 3].any()
    # Against empty space a selection weighs as label images have it only by the vote: half.
    torch.testing.assert_close(plain, composite(metas[0], selections.float()) > 0.5)
    torch.testing.assert_close(silhouettes(metas[0], selections, torch.ones(len(labels))), plain)


def test_a_selection_that_a_view_does_not_show_is_not_made_up() -> None:
    labels, metas, _ = disk_scene(1)
    one = torch.arange(len(labels)) == 125  # of the wall, between others of it
    loud = torch.where(one, 20.0, 0.5)
    assert not silhouettes(metas[0], one[:, None]).any()
    assert not silhouettes(metas[0], one[:, None], loud).any()
    assert (composite(metas[0], (one * loud)[:, None]) > composite(metas[0], (~one * loud)[:, None])).any()


@pytest.mark.parametrize(
    ("contradicted", "steps", "after", "followed"),
    [
        ([0.1, 0.09, 0.08, 0.07995, 0.0799], 200, 0.08, 1),
        ([0.1, 0.09, 0.0899, 0.08985, 0.0897], 800, 0.0897, 1),
        ([0.1, 0.09, 0.11, 0.12, 0.13], 100, 0.09, 1),
        ([0.1, 0.09, 0.08, 0.07, 0.06], 800, 0.06, 1),
        # What no fit mends is mended in part: after all lengths, all of the shortest is tried, then less of it.
        ([0.1, 0.11, 0.12, 0.13, 0.14, 0.11, 0.102, 0.099], 100, 0.099, 0.75),
        ([0.1, 0.11, 0.12, 0.13, 0.14, *[0.11] * 8], 0, 0.1, 0),
    ],
)
def test_no_more_steps_than_held_out_views_pay_for(
    monkeypatch: pytest.MonkeyPatch, contradicted: list[float], steps: int, after: float, followed: float
) -> None:
    said = iter(contradicted)
    monkeypatch.setattr(strengths, "disagreement", lambda *_: next(said))
    fit, fitted = strengths._fit, []

    def recorded(rows: Rows, spans: np.ndarray, turn: int, *others: Any) -> Tensor:
        fitted.append((turn, others[-1], spans, fit(rows, spans, turn, *others)))
        return fitted[-1][-1]

    monkeypatch.setattr(strengths, "_fit", recorded)
    labels, metas, truths = disk_scene()
    found = fit_strengths(labels, 8, lambda v: (metas[v], truths[v]), StrengthOptions(steps=800, held_out=3))
    assert found[1:] == (followed, steps, 0.1, after, False)
    assert not list(said)
    taken = [values for _, length, _, values in fitted if length == steps]
    assert [turn for turn, length, *_ in fitted if length == steps] == ([0, 1, 2] if steps else [])
    expected = sum(taken) / 3 if taken else torch.ones(len(labels))
    torch.testing.assert_close(found.values, 1 + followed * (expected - 1))
    # Each leaves out other views, every third.
    left_in = [{tuple(span) for span in spans.tolist()} for _, length, spans, _ in fitted if length == steps]
    views = sorted(set().union(*left_in))
    assert [sorted(set(views) - spans) for spans in left_in] == [views[turn::3] for turn in range(len(left_in))]


def test_fits_draw_other_pixels_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[int] = []
    plain = strengths.drawn

    def recorded(spans: np.ndarray, at: int, size: int) -> Tensor:
        draws.append(at // size)
        return plain(spans, at, size)

    rows, labels, _ = _rows()
    monkeypatch.setattr(strengths, "drawn", recorded)
    spans = np.array([[0, 20], [20, 40]])
    for turn in range(3):
        strengths._fit(rows, spans, turn, labels, 5, StrengthOptions(), 4)
    assert draws == list(range(12))


@pytest.mark.parametrize("wider", [0, 2])
def test_masks_are_moved_to_colors_where_held_out_views_agree(wider: int) -> None:
    """Rows of the masks are shifted at random; the photographs show where they belong, or a disk that is too large."""
    labels, metas, truths = disk_scene()
    generator = torch.Generator().manual_seed(2)
    masks = [torch.stack([row.roll(int(torch.randint(-2, 3, (1,), generator=generator))) for row in t]) for t in truths]
    colors = torch.tensor([(0, 0, 0), (50, 100, 200), (200, 60, 30)], dtype=torch.uint8)

    def fitted(photograph: Callable[[int, int, int], Tensor | None] | None, snapped: bool = True) -> Strengths:
        options = StrengthOptions(snapped=snapped)
        return fit_strengths(labels, 6, lambda v: (metas[v], masks[v]), options, photograph)

    def photograph(view: int, height: int, width: int) -> Tensor:
        assert (height, width) == (SIZE, SIZE)
        return colors[max_pool2d(truths[view][None].float(), 2 * wider + 1, 1, wider)[0].long()]

    plain, found = fitted(None), fitted(photograph)
    assert not plain.snapped
    assert found.snapped == (wider == 0)
    if wider:
        assert torch.equal(found.values, plain.values)
        return
    assert found.before == plain.before
    assert found.after < plain.after
    views = slice(6, 8)  # not fitted to
    ragged, mended = (_wrong(metas[views], truths[views], labels, fit.values) for fit in (plain, found))
    assert mended < ragged
    # Photographs that are not there, and not asked for.
    assert torch.equal(fitted(lambda *_: None).values, plain.values)
    assert torch.equal(fitted(lambda *_: pytest.fail("asked"), snapped=False).values, plain.values)


def test_options_are_checked() -> None:
    with pytest.raises(OptionError):
        StrengthOptions(held_out=1)
    with pytest.raises(OptionError):
        StrengthOptions(rate=0)
