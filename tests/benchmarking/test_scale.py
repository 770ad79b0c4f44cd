from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark_script import benchmark
from gseg_ns.masks import MaskFolder, load_masks
from gseg_ns.splats.ply import read_ply


@pytest.fixture(scope="module")
def scale() -> Iterator[Any]:
    """`benchmarks/scale.py`, which is no part of the package."""
    with benchmark("scale") as module:
        yield module


@pytest.fixture(scope="module")
def large(scale: Any, small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large scene, in small."""
    folder = tmp_path_factory.mktemp("large")
    scale.Scene(folder, small_scene, views=5, scale=2, count=20, gaussians=30_000).main()
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


def test_every_stage_says_what_it_took(scale: Any, large: Path) -> None:
    lines = []
    for stage in ("masks", "lift", "export", "decode", "edits", "saga"):
        clock = scale.Clock(stage)
        scale.RUN[stage](large, clock)
        assert clock.rows
        lines += [row.line() for row in clock.rows]
    assert any("passes" in line for line in lines)
    assert all("GiB" in line for line in lines)
    groups = scale.lifted_groups(large)
    assert len(groups) == 30_000
    assert int(groups.max()) >= 3  # of five objects and the room


def test_the_viewer_is_asked_as_a_user_would(scale: Any, large: Path) -> None:
    if not (large / scale.GROUPS).exists():
        np.savez(large / scale.GROUPS, labels=np.ones(30_000, np.int32), confidence=np.ones(30_000, np.float32))
    clock = scale.Clock("viewer")
    scale.viewer_stage(large, clock)
    said = [row.what for row in clock.rows]
    assert {"gaga: first click", "saga: first frame", "gaga: list of groups"} <= set(said)
