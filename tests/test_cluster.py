from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gseg_ns import cluster as clusters
from gseg_ns.cluster import connected
from gseg_ns.errors import GsegError
from gseg_ns.lifting.hidden import shown_share
from gseg_ns.lifting.remote import ask_view
from gseg_ns.lifting.votes import view_votes
from gseg_ns.masks import LabelRuns
from gseg_ns.masks.generate import Job, prepare, run
from gseg_ns.masks.images import scene_images
from gseg_ns.masks.sources.classical import ClassicalConfig
from gseg_ns.rendering import Camera
from gseg_ns.splats.projection import project_splats
from random_splats import make

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers in this process."""
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options, protocol="tcp", host="127.0.0.1") as started:
        yield started.scheduler_address


def times(factor: int, number: int) -> int:
    if number == 7:
        raise GsegError("seven")
    return factor * number


def test_results_come_in_the_order_of_their_items(address: str) -> None:
    with connected(address) as cluster:
        assert list(cluster.in_order(times, ((number,) for number in range(7)), 3)) == [0, 3, 6, 9, 12, 15, 18]
        with pytest.raises(GsegError, match="seven"):
            list(cluster.in_order(times, ((number,) for number in range(20)), 3))


def test_what_views_say_is_the_same_to_the_last_bit(address: str) -> None:
    splats = make(300)
    items: list[tuple[Camera, torch.Tensor]] = []
    for view in range(6):
        viewmat = torch.eye(4)
        viewmat[:3, 3] = torch.tensor([0.1 * view, 0.0, 12.0])
        camera = Camera(viewmat, torch.tensor([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]]), 64, 48)
        labels = torch.randint(0, 5, (6, 8), generator=torch.Generator().manual_seed(view)).int()
        items.append((camera, labels.repeat_interleave(8, 0).repeat_interleave(8, 1)))
    with connected(address) as cluster:
        found = list(cluster.in_order(ask_view, ((camera, LabelRuns.of(labels)) for camera, labels in items), splats))
    for (answer, share), (camera, labels) in zip(found, items, strict=True):
        meta = project_splats(splats, camera)
        expected = view_votes(meta, labels)
        assert len(expected.gaussians) > 20
        assert torch.equal(share, shown_share(meta, expected))
        assert all(torch.equal(one, other) for one, other in zip(answer, expected, strict=True))


def test_masks_are_the_same_files(address: str, small_scene: Path, tmp_path: Path) -> None:
    images = scene_images(small_scene)[:3]
    jobs = [Job(ClassicalConfig(), tmp_path / name) for name in ("here", "there")]
    for job in jobs:
        prepare(job, images, overwrite=False)
    here = list(run(jobs[0], images))
    with connected(address) as cluster:
        there = list(run(jobs[1], images, cluster=cluster))
    assert [result.masks for result in here] == [result.masks for result in there]
    for image in images:
        assert jobs[0].mask_path(image).read_bytes() == jobs[1].mask_path(image).read_bytes()


def test_a_worker_of_another_version_is_refused() -> None:
    class Client:
        def run(self, function: object, on_error: str) -> dict[str, str]:
            return {"tcp://other": "0.0.1"}

    with pytest.raises(GsegError, match=r"tcp://other has gseg-ns 0\.0\.1"):
        clusters._check_versions(Client())


def test_where_nothing_answers_a_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_PATIENCE", 0.3)
    with pytest.raises(GsegError, match=r"127\.0\.0\.1:9"), connected("tcp://127.0.0.1:9"):
        pass
    with pytest.raises(GsegError, match="nowhere"), connected("nowhere://at:all"):
        pass
