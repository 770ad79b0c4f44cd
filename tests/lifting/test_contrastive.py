from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.lifting.contrastive import cluster, contrastive_loss, norm_loss, temperatures, uncertainty, unit


def reference_loss(features: torch.Tensor, labels: torch.Tensor, min_pixels: int, scaled: bool) -> torch.Tensor:
    """Eq. 1 of plain dot products, or of unit vectors with the official temperature, one cluster at a time."""
    f = features / features.norm(dim=-1, keepdim=True) if scaled else features
    groups = [f[labels == label] for label in labels.unique() if label != 0]
    groups = [g for g in groups if g.shape[0] > min_pixels]
    means = torch.stack([g.mean(0) for g in groups])
    phi = [(g - m).norm(dim=-1).sum() / (len(g) * math.log(len(g) + 10)) for g, m in zip(groups, means, strict=True)]
    tau = torch.stack([(10 * p).clamp(0.5, 1.0) for p in phi]) if scaled else torch.ones(len(groups))
    total = torch.zeros(())
    for j, group in enumerate(groups):
        total = total - (group @ means.T / tau).log_softmax(-1)[:, j].sum()
    return total / len(groups)


@pytest.mark.parametrize("scaled", [True, False])
def test_matches_a_loop_over_clusters(scaled: bool) -> None:
    features = torch.randn(400, 16)
    labels = torch.randint(0, 7, (400,))
    labels[:5] = 99
    expected = reference_loss(features, labels, 20, scaled)
    torch.testing.assert_close(contrastive_loss(features, labels, 20, scaled), expected, rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_relabelling_changes_nothing(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(300, 8, generator=generator)
    labels = torch.randint(0, 6, (300,), generator=generator)
    renamed = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(5, generator=generator) + 11])[labels]
    torch.testing.assert_close(
        contrastive_loss(features, labels, 5), contrastive_loss(features, renamed, 5), rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(uncertainty(features, labels), uncertainty(features, renamed), rtol=1e-3, atol=1e-5)


def test_descent_pulls_masks_apart() -> None:
    torch.manual_seed(0)
    features = torch.nn.Parameter(torch.randn(200, 8))
    labels = torch.arange(200) % 4 + 1
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        contrastive_loss(features, labels).backward()
        optimizer.step()
    clusters = cluster(unit(features), labels)
    similarity = clusters.centroids @ clusters.centroids.T
    assert similarity.diagonal().min() > 0.9
    assert (similarity - torch.eye(4) * 2).max() < 0.5
    assert uncertainty(features.detach(), labels).max() < 0.2


def test_unlabelled_and_small_masks_take_no_part() -> None:
    features = torch.randn(100, 4, requires_grad=True)
    labels = torch.cat([torch.zeros(30), torch.ones(30), torch.full((30,), 2), torch.full((10,), 3)]).long()
    contrastive_loss(features, labels, min_pixels=20).backward()
    assert features.grad is not None
    touched = features.grad.abs().sum(-1) > 0
    assert touched.tolist() == [False] * 30 + [True] * 60 + [False] * 10


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [5, 5, 5]])
def test_nothing_to_tell_apart_is_zero(labels: list[int]) -> None:
    features = torch.randn(len(labels), 4, requires_grad=True)
    loss = contrastive_loss(features, torch.tensor(labels, dtype=torch.long), min_pixels=0)
    loss.backward()
    assert loss.item() == 0
    assert uncertainty(features.detach(), torch.tensor(labels, dtype=torch.long)).shape == (len(labels),)


def test_a_zero_feature_stays_finite() -> None:
    features = torch.zeros(60, 4, requires_grad=True)
    loss = contrastive_loss(features, torch.arange(60) % 2 + 1, min_pixels=0)
    loss.backward()
    assert torch.isfinite(loss)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_uncertainty_marks_mislabelled_pixels() -> None:
    torch.manual_seed(0)
    labels = torch.arange(300) % 3 + 1
    features = torch.nn.functional.one_hot(labels, 8).float() + 0.05 * torch.randn(300, 8)
    wrong = labels.clone()
    wrong[:20] = labels[:20] % 3 + 1
    w = uncertainty(features, wrong)
    assert w[:20].min() > 0.8
    assert w[20:].max() < 0.8


def test_temperature_grows_with_spread_and_stays_in_its_range() -> None:
    torch.manual_seed(0)
    labels = torch.arange(400) % 2
    features = torch.randn(400, 4) * torch.where(labels == 1, 3.0, 0.01)[:, None]
    tau = temperatures(features, cluster(features, labels))
    assert tau.tolist() == [0.5, 1.0]


def test_norm_loss() -> None:
    assert norm_loss(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).item() == 8.0
    assert norm_loss(torch.zeros(0, 3)).item() == 0.0
