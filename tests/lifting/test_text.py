from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.lifting.templates import TEMPLATES
from gseg_ns.lifting.text import (
    ClipEncoder,
    VoteGraph,
    VoteOptions,
    cluster_masks,
    draw_anchors,
    encode_masks,
    mask_features,
    masked_crops,
    relevancy,
    selected_anchors,
    shown_groups,
    text_feature,
)
from gseg_ns.masks import MaskSet


def two_masks() -> MaskSet:
    masks = torch.zeros(2, 12, 16, dtype=torch.bool)
    masks[0, 2:6, 3:11] = True
    masks[0, 3, 4] = False
    masks[1, 8:, :] = True
    return MaskSet.from_arrays(masks)


def test_crops_are_black_outside_of_the_mask() -> None:
    image = torch.full((12, 16, 3), 255, dtype=torch.uint8)
    crops = masked_crops(image, two_masks(), 8)
    assert crops.shape == (2, 3, 8, 8)
    assert crops[1].min() > 0.99
    assert crops[0].min() < 0.5
    assert crops[0].mean() > 0.9
    assert masked_crops(image, two_masks().select([]), 8).shape == (0, 3, 8, 8)


class Colors:
    """Knows the mean color of a picture, and the names of three."""

    size = 4
    names = ("red", "green", "blue")

    def images(self, pictures: Tensor) -> Tensor:
        return F.normalize(pictures.mean(dim=(2, 3)), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        found = [[float(name in text.rstrip(".").split()) for name in self.names] for text in texts]
        return F.normalize(torch.tensor(found) + 1e-3, dim=-1)


def test_relevancy_is_the_worst_softmax() -> None:
    images = F.normalize(torch.randn(5, 3), dim=-1)
    positive, negatives = images[0], F.normalize(torch.randn(2, 3), dim=-1)
    pairs = torch.stack([(images @ positive)[:, None].expand(-1, 2), images @ negatives.T], dim=-1)
    expected = torch.softmax(10 * pairs, dim=-1)[..., 0].amin(dim=1)
    torch.testing.assert_close(relevancy(images, positive, negatives), expected)


def test_mask_features_are_equation_14() -> None:
    torch.manual_seed(0)
    image, gates, masks = torch.randn(12, 16, 5), torch.rand(2, 5), two_masks()
    inside = masks.decode()
    expected = torch.stack([(image[inside[m]] * gates[m]).mean(dim=0) for m in range(2)])
    torch.testing.assert_close(mask_features(image, gates, masks), expected)


def test_vote_graph_clusters_as_the_dense_matrix() -> None:
    from sklearn.cluster import HDBSCAN

    rng = np.random.default_rng(0)
    blocks = np.kron(np.eye(4), np.ones((20, 50))) > 0  # four targets, one shares no anchor with any other
    noisy = blocks ^ (rng.random(blocks.shape) < 0.03)
    noisy[:20, 50:] = False
    noisy[20:, :50] = False
    selected = torch.from_numpy(noisy)
    options = VoteOptions(min_cluster_size=8, epsilon=0.0)
    found = cluster_masks(selected, options)
    values = noisy.astype(float)
    shared = values @ values.T
    sizes = values.sum(axis=1)
    distance = 1 - shared / (sizes[:, None] + sizes[None] - shared)
    np.fill_diagonal(distance, 0)
    expected = HDBSCAN(min_cluster_size=8, metric="precomputed", allow_single_cluster=True, copy=True).fit_predict(
        distance
    )
    assert len(np.unique(found[found >= 0])) == len(np.unique(expected[expected >= 0])) == 4
    for label in range(4):
        assert len(np.unique(expected[found == label])) == 1
    np.testing.assert_array_equal(found < 0, expected < 0)
    assert (cluster_masks(selected[:5], options) == -1).all()


def test_near_targets_are_one() -> None:
    rng = np.random.default_rng(0)
    # Two variants of one target, a fifth of the anchors apart.
    selected = np.zeros((40, 100), dtype=bool)
    selected[:20, :50] = selected[20:, 5:55] = True
    selected ^= rng.random(selected.shape) < 0.01
    tight = cluster_masks(torch.from_numpy(selected), VoteOptions(min_cluster_size=8, epsilon=0.0))
    wide = cluster_masks(torch.from_numpy(selected), VoteOptions(min_cluster_size=8, epsilon=0.25))
    assert len(np.unique(tight[tight >= 0])) == 2
    assert len(np.unique(wide[wide >= 0])) == 1


def test_masks_that_select_nothing_are_noise() -> None:
    selected = torch.zeros(30, 20, dtype=torch.bool)
    selected[:12, :10] = True
    labels = cluster_masks(selected, VoteOptions(min_cluster_size=5, epsilon=0.0))
    assert len(np.unique(labels[:12])) == 1
    assert not set(labels[:12]) & set(labels[12:])


def test_text_selects_the_gaussians_of_a_target(tmp_path: Path) -> None:
    torch.manual_seed(0)
    affinity = torch.eye(3).repeat_interleave(40, dim=0) + 0.05 * torch.randn(120, 3)
    options = VoteOptions(min_cluster_size=5)
    anchors = affinity[draw_anchors(len(affinity), options)]
    clip, features = [], []
    for channel in range(3):
        image = torch.zeros(12, 16, 3, dtype=torch.uint8)
        image[..., channel] = 200
        rendered = torch.eye(3)[channel].expand(12, 16, 3)
        for _ in range(8):
            clip.append(encode_masks(image, two_masks(), Colors()))
            features.append(mask_features(rendered, torch.ones(2, 3), two_masks()))
    table, gates = torch.cat(features), torch.ones(48, 3)
    targets = cluster_masks(selected_anchors(anchors, table, gates, 0.5), options)
    graph = VoteGraph(torch.cat(clip), table, gates, torch.from_numpy(targets))
    graph.save(tmp_path / "graph.npz")
    graph = VoteGraph.read(tmp_path / "graph.npz")
    encoder = Colors()
    negatives = encoder.texts(["object", "stuff"])
    chosen = graph.select(affinity, text_feature(encoder, "green"), negatives, options)
    assert chosen.tolist() == [False] * 40 + [True] * 40 + [False] * 40
    texts = [text_feature(encoder, word) for word in ("blue", "red", "green")]
    assert graph.categorize(affinity, texts, options).tolist() == [2] * 40 + [3] * 40 + [1] * 40
    best = graph.best_texts(texts)
    assert [best[int(targets[row])][0] for row in (0, 16, 32)] == [1, 2, 0]
    assert all(margin == pytest.approx(1.0, abs=1e-3) for _, margin in best.values())
    assert graph.best_texts(texts[:1])[int(targets[0])] == (0, 0.0)
    away = torch.tensor([[-1.0, -1.0, -1.0]])
    assert graph.categorize(away, texts, options).tolist() == [0]
    nothing = VoteGraph(graph.clip, graph.features, graph.gates, torch.full((48,), -1))
    assert not nothing.select(affinity, text_feature(encoder, "green"), negatives, options).any()


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="empty"):
        text_feature(Colors(), "  ")
    (tmp_path / "graph.npz").write_bytes(b"nothing")
    with pytest.raises(GsegError, match="vote graph"):
        VoteGraph.read(tmp_path / "graph.npz")


def test_a_tiny_random_clip(tiny_clip: ClipEncoder) -> None:
    image = torch.randint(0, 256, (12, 16, 3), dtype=torch.uint8)
    features = encode_masks(image, two_masks(), tiny_clip, batch=1)
    assert features.shape == (2, 12)
    assert features.dtype == torch.half
    torch.testing.assert_close(features.float().norm(dim=1), torch.ones(2), atol=2e-3, rtol=0)
    assert text_feature(tiny_clip, "a mug").shape == (12,)
    assert [len(set(TEMPLATES[name])) for name in ("imagenet", "short")] == [80, 5]
    asked: list[list[str]] = []

    class Asked(Colors):
        def texts(self, texts: Sequence[str]) -> Tensor:
            asked.append([*texts])
            return super().texts(["red"] * len(texts))

    text_feature(Asked(), " mug ")
    text_feature(Asked(), "mug", "short")
    assert asked[0] == [template.replace("{}", "mug") for template in TEMPLATES["imagenet"]]
    assert asked[1] == [template.replace("{}", "mug") for template in TEMPLATES["short"]]
    with pytest.raises(GsegError, match="could not be loaded"):
        ClipEncoder.load("/nonexistent/clip")


def test_the_group_that_a_mask_shows() -> None:
    objects = torch.zeros(4, 10, dtype=torch.long)
    objects[:, :4], objects[:, 4:6] = 3, 9
    objects[:, 7] = 9  # where no mask says anything
    parts = torch.where((objects == 3) & (torch.arange(10) < 1), 5, 0)
    masks = torch.zeros(5, 4, 10, dtype=torch.bool)
    masks[0, :, :4] = True  # all of 3
    masks[1, :, :1] = True  # its part 5
    masks[2, :, 4:7] = True  # 9 and half as much beside it
    masks[3, :, 2:6] = True  # half of two things
    masks[4, :, 8:] = True  # nothing
    found = shown_groups(MaskSet.from_arrays(masks), [objects, parts])
    assert found.tolist() == [3, 5, 9, 9, -1]
    assert shown_groups(MaskSet.from_arrays(masks), [objects]).tolist() == [3, -1, 9, 9, -1]


def test_targets_that_are_groups() -> None:
    graph = VoteGraph(
        torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 1.0]]).half(),
        torch.zeros(4, 0), torch.zeros(4, 0), torch.tensor([700, 700, 4, -1]),
    )  # fmt: skip
    up = torch.tensor([[0.0, 1.0]])
    # Relevancies of 700: sigmoid(10) and sigmoid(2), of 4: sigmoid(-10).
    assert graph.wanted(torch.tensor([1.0, 0.0]), up, VoteOptions()) == [700]
    assert graph.wanted(torch.tensor([1.0, 0.0]), up, VoteOptions(relevant=0.99)) == [700]  # the best one
    assert graph.wanted(torch.tensor([1.0, 0.0]), up, VoteOptions(relevant=1e-6)) == [4, 700]
