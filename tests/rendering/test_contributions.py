"""Votes, sparse rows and top contributors against the dense reference and against the renderer itself."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.rendering import (
    RegionVotes,
    composite,
    dominant_labels,
    pixel_weights,
    project,
    rasterize_to_pixels,
    reference,
    sparse_vote,
    top_contributors,
    vote,
)
from thread_counts import same_by_any_number_of_threads


@pytest.fixture(scope="module")
def view(make_scene):
    return project(*make_scene(count=200, width=75, height=53))


def dense(meta, camera=0):
    names = ("means2d", "conics", "opacities", "depths", "radii")
    return reference.dense_weights(*(meta[n][camera] for n in names), meta["width"], meta["height"])


def sums(weights, labels, num_labels):
    onehot = torch.stack([(labels.reshape(-1) == k).to(weights) for k in range(num_labels)], dim=1)
    return weights.T @ onehot


def blocks(meta, size):
    y, x = torch.arange(meta["height"]) // size, torch.arange(meta["width"]) // size
    return x[None] + 5 * y[:, None] - 2


@pytest.mark.parametrize("size", [1, 4, 9, 40])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
def test_vote_sums_weights_by_label(view, size, dtype):
    labels = blocks(view, size)
    num_labels = max(int(labels.max()) - 1, 1)  # some labels lie outside on either side
    votes = vote(view, labels.to(dtype), num_labels)
    assert votes.shape == (200, num_labels)
    assert votes.dtype == torch.float32
    torch.testing.assert_close(votes, sums(dense(view), labels, num_labels), rtol=1e-5, atol=1e-5)


def test_votes_of_all_labels_are_the_gradient_of_the_image(view):
    colors = torch.zeros(1, 200, 1, requires_grad=True)
    image, _ = rasterize_to_pixels(
        view["means2d"], view["conics"], colors, view["opacities"], 75, 53, 16, view["isect_offsets"],
        view["flatten_ids"],
    )  # fmt: skip
    image.sum().backward()
    votes = vote(view, torch.zeros(53, 75, dtype=torch.int64), 1)
    torch.testing.assert_close(votes[:, 0], colors.grad[0, :, 0], rtol=1e-5, atol=1e-5)


def test_votes_add_up_over_cameras_and_calls(make_scene):
    meta = project(*make_scene(cameras=2))
    labels = torch.randint(0, 4, (2, meta["height"], meta["width"]))
    expected = sum(sums(dense(meta, c), labels[c], 4) for c in range(2))
    votes = vote(meta, labels, 4)
    torch.testing.assert_close(votes, expected, rtol=1e-5, atol=1e-5)
    again = vote(meta, labels, 4, out=votes.clone())
    torch.testing.assert_close(again, 2 * expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 40])
def test_sparse_votes_are_the_dense_ones_to_the_last_bit(view, size):
    labels = blocks(view, size) * 1000  # some are negative, and few of many numbers occur
    gaussians, found, weights = sparse_vote(view, labels)
    assert (weights > 0).all()
    assert (gaussians.diff() >= 0).all()
    assert (found.diff()[gaussians.diff() == 0] > 0).all()
    expected = vote(view, labels, int(labels.max()) + 1)
    assert torch.equal(torch.zeros_like(expected).index_put_((gaussians.long(), found.long()), weights), expected)


def test_sparse_votes_of_several_cameras_and_of_nothing(make_scene):
    meta = project(*make_scene(cameras=2))
    labels = torch.randint(0, 4, (2, meta["height"], meta["width"]))
    gaussians, found, weights = sparse_vote(meta, labels)
    expected = vote(meta, labels, 4)
    assert torch.equal(torch.zeros_like(expected).index_put_((gaussians.long(), found.long()), weights), expected)
    assert [len(part) for part in sparse_vote(meta, torch.full_like(labels, -1))] == [0, 0, 0]


@pytest.mark.parametrize("size", [1, 4, 40])
def test_regions_that_are_named_later_say_what_their_labels_would(view, size):
    regions = blocks(view, size) + 2
    names = torch.arange(int(regions.max()) + 1) % 7 * 300
    values = torch.rand(200)
    asked = RegionVotes(view, regions, values)
    for name in (names, names.flip(0).int()):  # as often as one likes
        found, expected = asked.named(name), sparse_vote(view, name[regions])
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        torch.testing.assert_close(found[2], expected[2], rtol=1e-5, atol=1e-6)
    drawn = composite(view, torch.stack([values, torch.ones(200)], dim=1))
    torch.testing.assert_close(torch.stack([asked.image, asked.alpha], dim=-1), drawn, rtol=1e-5, atol=1e-6)


def test_regions_of_no_gaussian(make_scene):
    meta = project(*(part[:0] if number < 4 else part for number, part in enumerate(make_scene(count=5))))
    asked = RegionVotes(meta, torch.zeros(meta["height"], meta["width"], dtype=torch.int32), torch.zeros(0))
    assert not asked.alpha.any()
    assert [len(part) for part in asked.named(torch.tensor([3]))] == [0, 0, 0]


@pytest.mark.parametrize("count", [2, 5, 90])
def test_the_dominant_label_has_the_largest_sum(view, count):
    labels = torch.arange(200) % count * 70_000
    image, weight = dominant_labels(view, labels)
    onehot = torch.nn.functional.one_hot(torch.arange(200) % count, count).float()
    onehot[:, 0] = 0  # which is none
    best, winner = composite(view, onehot).max(dim=-1)
    torch.testing.assert_close(weight, best, rtol=1e-5, atol=1e-6)
    assert ((image == winner * 70_000) | (best == 0)).float().mean() > 0.999
    assert not image[best == 0].any()


def test_no_label_is_dominant_nowhere(view):
    image, weight = dominant_labels(view, torch.zeros(200, dtype=torch.int32))
    assert not image.any()
    assert not weight.any()


def test_pixel_weights_are_the_renderers_to_the_last_bit(view):
    pixels = torch.randperm(75 * 53)
    weights = pixel_weights(view, pixels)
    features = torch.rand(200, 5)
    image, alphas = rasterize_to_pixels(
        view["means2d"], view["conics"], features[None], view["opacities"], 75, 53, 16, view["isect_offsets"],
        view["flatten_ids"],
    )  # fmt: skip
    torch.testing.assert_close(weights @ features, image.reshape(-1, 5)[pixels], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights.alpha, alphas.reshape(-1)[pixels], rtol=1e-5, atol=1e-6)
    full = torch.zeros(len(pixels), 200)
    full[weights.row, weights.col] = weights.val
    torch.testing.assert_close(full, dense(view)[pixels], rtol=1e-5, atol=1e-6)


def test_composited_values_get_gradients_and_the_geometry_none(make_scene):
    arguments = [part.requires_grad_() if torch.is_tensor(part) else part for part in make_scene(width=75, height=53)]
    meta = project(*arguments)
    values = torch.rand(meta["radii"].shape[1], 5, requires_grad=True)
    image = composite(meta, values)
    pixels = torch.arange(75 * 53)
    torch.testing.assert_close(pixel_weights(meta, pixels) @ values, image.reshape(-1, 5), rtol=1e-5, atol=1e-6)
    image.sum().backward()
    assert values.grad.abs().sum() > 0
    assert all(part.grad is None for part in arguments if torch.is_tensor(part))


def test_pixel_weights_rows_run_front_to_back_and_repeats_are_kept(view):
    pixels = torch.tensor([1000, 3, 1000, 2024])
    weights = pixel_weights(view, pixels)
    assert len(weights) == 4
    a, b = weights.rows(torch.tensor([0])), weights.rows(torch.tensor([2]))
    assert len(a.col) > 3
    assert torch.equal(a.col, b.col)
    assert torch.equal(a.val, b.val)
    assert (view["depths"][0, a.col].diff() >= 0).all()


def test_rows_may_be_long(make_scene):
    scene = make_scene(count=900, size=0.4)
    faint = project(*scene._replace(opacities=scene.opacities.clamp(0.005, 0.02)))
    weights = pixel_weights(faint, torch.arange(29 * 37).flip(0))
    assert weights.crow.diff().max() > 200
    table = torch.zeros(weights.shape).index_put_((weights.row, weights.col), weights.val)
    torch.testing.assert_close(table.flip(0), dense(faint), rtol=1e-4, atol=1e-6)


def test_pixel_weights_of_nothing(view, make_scene):
    assert pixel_weights(view, torch.empty(0, dtype=torch.int64)).shape == (0, 200)
    empty = make_scene(count=1)
    meta = project(*(t[:0] for t in empty[:4]), *empty[4:])
    weights = pixel_weights(meta, torch.arange(5))
    assert weights.shape == (5, 0)
    assert (weights.alpha == 0).all()
    ids, best = top_contributors(meta)
    assert (ids == -1).all()
    assert (best == 0).all()
    assert vote(meta, torch.zeros(meta["height"], meta["width"], dtype=torch.int64), 3).shape == (0, 3)


def test_top_contributors(view):
    ids, weights = top_contributors(view)
    best, expected = dense(view).max(dim=1)
    assert ids.shape == weights.shape == (53, 75)
    torch.testing.assert_close(weights.reshape(-1), best, rtol=1e-5, atol=1e-6)
    drawn = best > 0
    assert (ids.reshape(-1)[~drawn] == -1).all()
    # Where two contribute almost equally either may win.
    differs = drawn & (ids.reshape(-1) != expected)
    chosen = dense(view)[differs].gather(1, ids.reshape(-1)[differs, None])[:, 0]
    torch.testing.assert_close(chosen, best[differs], rtol=1e-5, atol=1e-6)


def test_top_contributors_of_several_cameras(make_scene):
    meta = project(*make_scene(cameras=2))
    ids, _ = top_contributors(meta)
    assert ids.shape == (2, meta["height"], meta["width"])
    assert int(ids.max()) < 80


def test_the_number_of_threads_changes_nothing(make_scene):
    scene = make_scene(count=400, width=100, height=80)
    labels = torch.randint(0, 9, (80, 100))

    def find():
        meta = project(*scene)
        weights = pixel_weights(meta, torch.arange(8000))
        features = torch.arange(400.0)[:, None].expand(400, 40).clone().requires_grad_()
        (weights @ features).square().sum().backward()
        return [vote(meta, labels, 9), *top_contributors(meta), weights.val, features.grad]

    same_by_any_number_of_threads(find, (1, 3))


def test_wrong_input_is_named(view, make_scene):
    with pytest.raises(ValueError, match="labels has shape"):
        vote(view, torch.zeros(3, 3, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="out must be"):
        vote(view, torch.zeros(53, 75, dtype=torch.int64), 2, out=torch.zeros(200, 3))
    with pytest.raises(ValueError, match="pixel indices"):
        pixel_weights(view, torch.tensor([75 * 53]))
    with pytest.raises(ValueError, match="one camera at a time"):
        pixel_weights(project(*make_scene(cameras=2)), torch.tensor([0]))
