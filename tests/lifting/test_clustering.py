from __future__ import annotations

import pytest
import torch

from gseg_ns.lifting.clustering import ClusterOptions, SceneClusters, cluster_centres


def blobs(noise: int = 0) -> torch.Tensor:
    """Three groups that the first two channels tell apart, each of two parts that the third does."""
    torch.manual_seed(0)
    centres = torch.tensor(
        [[1.0, 0, 0.3], [1.0, 0, -0.3], [-1.0, 0, 0.3], [-1.0, 0, -0.3], [0, 1.0, 0.3], [0, 1.0, -0.3]]
    )
    points = centres.repeat_interleave(60, dim=0) + 0.01 * torch.randn(360, 3)
    return torch.cat([points, torch.tensor([[0.0, -1.0, 0.0]]).expand(noise, 3)])


def test_groups_follow_the_gate_and_noise_stays_noise() -> None:
    clusters = SceneClusters(blobs(noise=3), ClusterOptions(share=1.0, min_cluster_size=20))
    parts = clusters.groups(torch.ones(3))
    wholes = clusters.groups(torch.tensor([1.0, 1.0, 0.01]))
    assert parts.unique().tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert wholes.unique().tolist() == [0, 1, 2, 3]
    assert parts[-3:].tolist() == [0, 0, 0]
    for group in range(6):
        assert len(parts[60 * group : 60 * group + 60].unique()) == 1
    for group in range(3):
        assert len(wholes[120 * group : 120 * group + 120].unique()) == 1
    assert clusters.centres(torch.ones(3)) is clusters.centres(torch.ones(3))
    image = clusters.assign(torch.stack([torch.zeros(3), clusters.features[0]]).reshape(1, 2, 3), torch.ones(3))
    assert image.tolist() == [[0, int(parts[0])]]


def test_too_few_gaussians_are_all_noise() -> None:
    assert cluster_centres(torch.eye(3), 10, 0.01).shape == (0, 3)
    assert SceneClusters(torch.randn(4, 3)).groups(torch.ones(3)).tolist() == [0, 0, 0, 0]


def test_a_scene_of_one_thing_is_one_group() -> None:
    torch.manual_seed(0)
    units = torch.nn.functional.normalize(torch.tensor([1.0, 0, 0, 0]) + 0.1 * torch.randn(500, 4), dim=-1)
    assert cluster_centres(units, 10, 0.01).shape == (1, 4)


def small_object(count: int, noise: int, directions: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    """A large thing of some directions, another at right angles to it, and noise: 4000 unit vectors."""
    torch.manual_seed(0)
    large = torch.tensor(directions)[torch.arange(4000 - count - noise) % len(directions)]
    units = torch.zeros(4000, 32)
    units[: len(large), :2] = large
    units[len(large) : len(large) + count, 2] = 1.0
    units += 0.05 * torch.randn(units.shape)
    units[4000 - noise :] = torch.randn(noise, 32)
    return torch.nn.functional.normalize(units, dim=-1)


@pytest.mark.parametrize("directions", [((1.0, 0.0),), ((1.0, 0.3), (1.0, -0.3))], ids=["plain", "of two parts"])
def test_a_small_object_beside_a_large_one(directions: tuple[tuple[float, ...], ...]) -> None:
    """What is like the mean of nearly all is one group; what is unlike it another, if it is a thing and not noise."""
    for count, noise, groups in ((140, 0, 2), (30, 0, 2), (140, 40, 2), (0, 160, 1), (5, 0, 1)):
        centres = cluster_centres(small_object(count, noise, directions), 10, 0.01)
        assert len(centres) == groups, (count, noise)
        assert centres[0, 0] > 0.95
        assert groups == 1 or centres[1, 2] > 0.95


def test_features_that_pass_from_thing_to_thing_are_not_one_group() -> None:
    """Smoothed and composited features lie between the things, too: every third one here."""
    torch.manual_seed(0)
    things = torch.nn.functional.normalize(torch.randn(8, 32), dim=-1)
    truth = torch.arange(8).repeat_interleave(120)
    other = torch.randint(8, truth.shape)
    share = torch.where(torch.arange(len(truth)) % 3 == 0, torch.rand(truth.shape), 1.0)[:, None]
    units = share * things[truth] + (1 - share) * things[other] + 0.05 * torch.randn(len(truth), 32)
    centres = cluster_centres(torch.nn.functional.normalize(units, dim=-1), 10, 0.01)
    assert len(centres) == 8
    assert (centres @ things.T).max(dim=0).values.min() > 0.95
