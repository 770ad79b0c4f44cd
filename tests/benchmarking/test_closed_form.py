from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData

from gseg_ns.benchmarking.closed_form import Association, ClosedForm, render_labels
from gseg_ns.benchmarking.quality import partition_digest, view_order
from gseg_ns.errors import GsegError
from gseg_ns.lifting.votes import accumulate_votes, labels_from_votes
from gseg_ns.rendering import pixel_weights
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.projection import project_splats


@pytest.fixture(scope="module")
def cloud(small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene's points as opaque balls: a splat without training."""
    vertices = PlyData.read(str(small_scene / "points3D.ply"))["vertex"]
    means = torch.from_numpy(np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32))
    count = len(means)
    radius = float(torch.cdist(means[:500], means).topk(2, largest=False).values[:, 1].median())
    path = tmp_path_factory.mktemp("cloud") / "cloud.ply"
    splats = Splats(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        scales=torch.full((count, 3), radius).log(),
        opacities=torch.full((count,), 3.0),
        sh=torch.zeros(count, 1, 3),
    )
    write_ply(path, splats)
    return path


@pytest.fixture(scope="module")
def prepared(small_scene: Path, cloud: Path) -> ClosedForm:
    return ClosedForm.prepare(small_scene, "masks", "gt/instance", cloud, "original")


def test_the_vote_is_that_of_the_relabelled_maps(prepared: ClosedForm) -> None:
    association = Association("memory-bank")
    lookups, count = prepared.associate(association)
    pairs = zip(prepared.views, lookups, strict=True)
    maps = [(project_splats(prepared.splats, view.camera), ids[view.labels.long()]) for view, ids in pairs]
    expected = labels_from_votes(accumulate_votes(maps, len(prepared.splats), count + 1))
    # Sums in another order may decide a tie the other way.
    assert (prepared.lift(association) == expected).float().mean() > 0.999


def test_labels_are_rendered_as_the_heaviest_sum_of_weights(prepared: ClosedForm) -> None:
    meta, truth = prepared.test[0]
    labels = torch.arange(len(prepared.splats)) % 70  # more than one block of channels, and 0
    image = render_labels(meta, labels)
    pixels = torch.arange(truth.numel())
    onehot = torch.nn.functional.one_hot(labels, 70).float()
    weights = pixel_weights(meta, pixels).matmul(onehot)
    best, winner = weights[:, 1:].max(dim=1)
    expected = torch.where(best > 0.05, winner + 1, 0).view_as(image)
    assert (image == expected).float().mean() > 0.999


def test_the_ceiling_bounds_what_masks_without_association_give(prepared: ClosedForm) -> None:
    ceiling = prepared.ceiling()
    assert ceiling is not None
    top = prepared.score(ceiling)
    consensus = prepared.score(prepared.lift(Association("consensus")))
    none = prepared.score(prepared.lift(Association("none")))
    assert top["iou"] > 45
    assert top["iou"] + 1 >= consensus["iou"] > none["iou"]
    assert top["num_gaussians"] == len(prepared.splats)


def test_consensus_does_not_depend_on_the_order_of_views(prepared: ClosedForm) -> None:
    digests = {
        partition_digest(prepared.lift(Association("consensus"), view_order(order, len(prepared.views))))
        for order in ("as named", "reversed", "shuffled 0")
    }
    assert len(digests) == 1


def test_a_partition_is_the_same_under_other_numbers() -> None:
    first = partition_digest(torch.tensor([3, 3, 0, 7, 1]))
    assert first == partition_digest(torch.tensor([1, 1, 0, 2, 9]))
    assert first != partition_digest(torch.tensor([3, 3, 2, 7, 1]))  # a group where none was
    assert first != partition_digest(torch.tensor([3, 3, 0, 7, 7]))


def test_orders_are_permutations() -> None:
    assert view_order("as named", 3) == [0, 1, 2]
    assert view_order("reversed", 3) == [2, 1, 0]
    shuffled = view_order("shuffled 1", 9)
    assert sorted(shuffled) == list(range(9))
    assert shuffled == view_order("shuffled 1", 9) != view_order("shuffled 0", 9)


def test_ground_truth_must_have_a_test_view(small_scene: Path, cloud: Path, tmp_path: Path) -> None:
    truth = sorted((small_scene / "gt/instance").iterdir())[1]  # a training view: every 8th is held out
    (tmp_path / truth.name).write_bytes(truth.read_bytes())
    with pytest.raises(GsegError, match="no label map for any test view"):
        ClosedForm.prepare(small_scene, "masks", str(tmp_path), cloud)
