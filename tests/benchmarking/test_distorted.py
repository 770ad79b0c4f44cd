from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark_script import benchmark
from gseg_ns.masks import load_labels, read_label_map


@pytest.fixture(scope="module")
def distorted() -> Iterator[Any]:
    """`benchmarks/distorted.py`, which is no part of the package."""
    with benchmark("distorted") as module:
        yield module


def test_one_run_scores_alike_on_bent_and_straight_photographs(
    distorted: Any, ball_room: Path, constructed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distorted.Copies(ball_room, tmp_path, k1=0.25, k2=-0.05, p1=0.004, coarser=1, masks=None).main()
    compared = distorted.Compare(constructed_run, tmp_path / "straight", tmp_path / "bent")
    compared.main()
    assert "bent" in capsys.readouterr().out
    scores = {name: json.loads((tmp_path / f"eval_{name}.json").read_text()) for name in ("straight", "bent")}
    assert abs(scores["bent"]["iou"] - scores["straight"]["iou"]) < 1
    assert scores["bent"]["iou"] > 95


def test_a_capture_that_is_straightened_and_bent_again_is_what_it_was(
    distorted: Any, ball_room: Path, tmp_path: Path
) -> None:
    lens = {"k1": 0.2, "k2": -0.05, "p1": 0.004, "p2": 0.0}
    distorted.Copies(ball_room, tmp_path, coarser=1, labels=(), masks=None, **lens).main()
    few = json.loads((tmp_path / "bent/transforms.json").read_text())
    (tmp_path / "bent/transforms.json").write_text(json.dumps({**few, "frames": few["frames"][:1]}))
    distorted.Straighten(tmp_path / "bent", tmp_path / "fine").main()
    meta = json.loads((tmp_path / "fine/transforms.json").read_text())
    assert meta["w"] == 3 * 256
    assert meta["k1"] == 0
    distorted.Copies(tmp_path / "fine", tmp_path / "again", labels=(), masks=None, **lens).main()
    before, after = (
        np.asarray(Image.open(tmp_path / place / "images/frame_00000.png")).astype(float)
        for place in ("bent", "again/bent")
    )
    assert np.abs(before - after)[16:-16, 16:-16].mean() < 1.5


def test_labels_and_masks_of_the_copies_agree(distorted: Any, ball_room: Path, tmp_path: Path) -> None:
    distorted.Copies(ball_room, tmp_path, coarser=3, labels=("gt/object",)).main()
    for copy in ("straight", "bent"):
        truth = read_label_map(tmp_path / copy / "gt/object/frame_00003.png")
        masks = load_labels(tmp_path / copy / "masks/frame_00003.json")
        assert truth.shape == masks.shape
        for name in truth.unique()[1:]:
            assert len(masks[truth == name].unique()) == 1
