"""The scripts in `examples/`, one after another on one short run."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name: str) -> Callable[..., Any]:
    """The `main` of an example."""
    [path] = EXAMPLES.glob(f"[0-9]*_{name}.py")
    return runpy.run_path(str(path))["main"]


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'example("{path.stem[3:]}")' in text, path
        assert f"python examples/{path.name} " in listed, path


def test_a_scene_and_masks_are_made(tmp_path: Path) -> None:
    example("scene_and_masks")(tmp_path / "room", objects=2, views=8, width=48, height=36)
    assert len(list((tmp_path / "room/images").glob("*.png"))) == 8
    assert len(list((tmp_path / "room/masks_classical").glob("frame_*.json"))) == 8


def test_a_method_is_trained(small_scene: Path, tmp_path: Path) -> None:
    config = example("train")(small_scene, tmp_path, iterations=24, max_gaussians=2000)
    assert list((config.parent / "nerfstudio_models").glob("step-*.ckpt"))


def test_a_run_is_asked(gaga_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from gseg_ns.splats.ply import read_ply

    example("ask_a_run")(gaga_run, tmp_path, group=2)
    assert f"{len(read_ply(tmp_path / 'object.ply'))} in group 2" in capsys.readouterr().out
    assert len(list(tmp_path.glob("frame_*.png"))) == 1


def test_a_click_selects(gaga_run: Path, tmp_path: Path) -> None:
    import numpy as np

    example("click")(gaga_run, tmp_path)
    assert (tmp_path / "click.png").exists()
    with np.load(tmp_path / "click.npz") as saved:
        assert list(saved["names"]) == ["click"]
        assert saved["masks"].any()


def test_objects_are_edited(gaga_run: Path, tmp_path: Path) -> None:
    from gseg_ns.runs.edited_run import EditedRun
    from gseg_ns.runs.run import load_run

    config = example("edit")(gaga_run, tmp_path)
    assert (tmp_path / "edited.png").exists()
    before, after = (EditedRun(load_run(path)) for path in (gaga_run, config))
    counts = [int((before.groups == group).sum()) for group in (3, 4)]
    assert len(after.splats) == len(before.splats) + counts[0] - counts[1]


def test_objects_are_exported(gaga_run: Path, tmp_path: Path) -> None:
    example("export")(gaga_run, tmp_path / "objects", original=True)
    listed = json.loads((tmp_path / "objects/objects.json").read_text(encoding="utf-8"))["objects"]
    assert listed
    assert all((tmp_path / "objects" / entry["file"]).exists() for entry in listed)


def test_a_run_is_scored(gaga_run: Path, small_scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    iou = example("evaluate")(gaga_run, small_scene / "gt/instance")
    assert 0 < iou <= 100
    assert f"IoU {iou:.1f}" in capsys.readouterr().out


def test_a_ball_rests_on_a_hull(gaga_run: Path) -> None:
    pytest.importorskip("mujoco")
    assert abs(example("ball_on_hull")(gaga_run, group=3)) < 0.005  # contacts are soft
