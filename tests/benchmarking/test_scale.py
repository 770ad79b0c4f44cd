from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark_script import benchmark
from gseg_ns.masks import MaskFolder, load_masks
from gseg_ns.splats.ply import read_ply


@pytest.fixture(scope="module")
def scenes() -> Iterator[Any]:
    """`benchmarks/large_scenes.py`, which is no part of the package."""
    with benchmark("large_scenes") as module:
        yield module


@pytest.fixture(scope="module")
def stages() -> Iterator[Any]:
    """`benchmarks/scale_stages.py`."""
    with benchmark("scale_stages") as module:
        yield module


@pytest.fixture(scope="module")
def large(scenes: Any, small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large scene, in small."""
    folder = tmp_path_factory.mktemp("large")
    scenes.Scene(folder, small_scene, views=5, scale=2, count=20, gaussians=30_000).main()
    return folder


def test_a_large_scene_has_what_was_asked_for(large: Path, small_scene: Path) -> None:
    meta = json.loads((large / "transforms.json").read_text())
    before = json.loads((small_scene / "transforms.json").read_text())
    assert (meta["w"], meta["h"], meta["fl_x"]) == (2 * before["w"], 2 * before["h"], 2 * before["fl_x"])
    assert len(meta["frames"]) == len(meta["train_filenames"]) == 5
    for file in MaskFolder(large / "masks").match([Path(frame["file_path"]) for frame in meta["frames"]]):
        assert file is not None
        masks = load_masks(file)
        assert (masks.height, masks.width) == (meta["h"], meta["w"])
        assert len(masks) == 20
    assert len(read_ply(large / "splat.ply")) == 30_000


def test_a_splat_in_pieces_has_its_outlines_for_masks(
    scenes: Any, stages: Any, small_scene: Path, tmp_path: Path
) -> None:
    scenes.Scene(tmp_path, small_scene, views=5, scale=1, pieces=12, gaussians=5_000).main()
    files = MaskFolder(tmp_path / "masks").match([Path(f"images/{view:05d}.jpg") for view in range(5)])
    found = [load_masks(file) for file in files if file is not None]
    assert len(found) == 5
    assert all(2 <= len(masks) <= 12 for masks in found)
    stages.lift_stage(tmp_path, stages.Clock("lift"))
    assert int(stages.lifted_groups(tmp_path).max()) >= 6


def test_a_large_splat_lies_where_the_small_one_does(scenes: Any, small_scene: Path, tmp_path: Path) -> None:
    """A scene of fewer cameras has another frame, into which the Gaussians follow."""
    from gseg_ns.splats.transform import to_original_frame

    scenes.Scene(tmp_path, small_scene, views=3, scale=1, count=0, gaussians=20_000).main()
    small, large = scenes.parsed(small_scene), scenes.parsed(tmp_path)
    assert not torch.allclose(small.dataparser_transform, large.dataparser_transform, atol=1e-3)
    there = scenes.point_splats(small_scene)
    found = read_ply(tmp_path / "splat.ply")
    for splats, frame in ((there, small), (found, large)):
        moved = to_original_frame(splats, frame.dataparser_transform, frame.dataparser_scale)
        splats.means.copy_(moved.means)
    reach = (there.means - there.means.median(dim=0).values).norm(dim=1).median()
    assert (there.means.median(dim=0).values - found.means.median(dim=0).values).norm() < 0.1 * reach


def test_every_stage_says_what_it_took(stages: Any, large: Path) -> None:
    lines = []
    for stage in ("masks", "lift", "export", "decode", "edits", "saga"):
        clock = stages.Clock(stage)
        stages.RUN[stage](large, clock)
        assert clock.rows
        lines += [row.line() for row in clock.rows]
    assert any("passes" in line for line in lines)
    assert all("GiB" in line for line in lines)
    groups = stages.lifted_groups(large)
    assert len(groups) == 30_000
    assert int(groups.max()) >= 3  # of five objects and the room


def test_the_viewer_is_asked_as_a_user_would(stages: Any, large: Path) -> None:
    if not (large / stages.GROUPS).exists():
        np.savez(large / stages.GROUPS, labels=np.ones(30_000, np.int32), confidence=np.ones(30_000, np.float32))
    clock = stages.Clock("viewer")
    stages.viewer_stage(large, clock)
    said = [row.what for row in clock.rows]
    assert {"gaga: first click", "saga: first frame", "gaga: list of groups"} <= set(said)
