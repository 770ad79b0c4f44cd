from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tyro

from gseg_ns.benchmarking import training
from gseg_ns.benchmarking.training import TrainedRun, TrainSettings
from gseg_ns.cli.bench import Bench, Clicks
from gseg_ns.errors import GsegError

Start = Callable[..., list[TrainSettings]]


def bench(*arguments: str | Path) -> None:
    tyro.cli(Bench, args=[str(argument) for argument in arguments]).main()


@pytest.fixture
def trained(gaga_run: Path, monkeypatch: pytest.MonkeyPatch) -> list[TrainSettings]:
    """Every training gives one finished run, but with seed 9 it fails; lists what was asked for."""
    asked: list[TrainSettings] = []

    def train(settings: TrainSettings, output: Path, experiment: str) -> TrainedRun:
        asked.append(settings)
        if settings.seed == 9:
            raise GsegError("ns-train gaga failed (exit status 1)")
        return TrainedRun(gaga_run, 12.5, 0.75)

    monkeypatch.setattr(training, "ns_train", train)
    return asked


def test_quality_fills_a_table_once(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("quality", "--scenes", small_scene, "--methods", "gaga", "saga", "--seeds", "0", "1")
    options = ("--iterations", "200", "--share-geometry", "--clicks", "gt/part", "gt/object", "--output", tmp_path)
    bench(*arguments, *options)
    output = capsys.readouterr().out
    for word in ("ceiling", "true votes", "vote (memory bank)", "vote (consensus)", "gaga", "mBIoU"):
        assert word in output
    assert len(trained) == 4
    # saga takes gaga's geometry and has a quarter of the steps left.
    gaga, saga = trained[:2]
    assert (gaga.iterations, saga.iterations) == (200, 50)
    assert "--pipeline.model.geometry" in saga.options
    assert "--pipeline.model.geometry" not in gaga.options

    result = json.loads((tmp_path / "quality.json").read_text())
    rows = {row["row"]: row for row in result["rows"]}
    assert list(rows) == ["ceiling", "true votes", "vote (memory bank)", "vote (consensus)", "gaga", "saga"]
    assert rows["gaga"]["mean"]["seconds"] == 12.5
    assert result["settings"]["clicks"] == ["gt/part", "gt/object"]
    scores = rows["gaga"]["seeds"][0]
    assert scores["click_iou"] == pytest.approx((scores["click_iou_part"] + scores["click_iou_object"]) / 2)
    assert scores["click_iou_object"] > 20
    assert rows["gaga"]["spread"]["iou"] == 0  # the same run under two seeds
    assert rows["ceiling"]["mean"]["psnr"] == rows["gaga"]["mean"]["psnr"]
    assert (tmp_path / "quality.png").stat().st_size > 1000

    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    damaged = next(path for path in cells if "-gaga-0-" in path.name)
    damaged.write_text(damaged.read_text()[:40])
    bench(*arguments, *options)
    assert "cannot be used" in capsys.readouterr().out
    assert len(trained) == 5
    assert (trained[4].method, trained[4].seed) == ("gaga", 0)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in cells.items() if path != damaged)
    assert json.loads((tmp_path / "quality.json").read_text()) == result


def test_one_failed_cell_does_not_lose_the_others(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings]
) -> None:
    arguments = ("--methods", "gaga", "--seeds", "9", "0", "--iterations", "200", "--output", tmp_path)
    with pytest.raises(GsegError, match=r"small, gaga, seed 9: ns-train gaga failed"):
        bench("quality", "--scenes", small_scene, *arguments)
    result = json.loads((tmp_path / "quality.json").read_text())
    assert len(result["rows"][-1]["seeds"]) == 1


def test_gaga_ablation_needs_no_training(
    small_scene: Path,
    gaga_run: Path,
    tmp_path: Path,
    trained: list[TrainSettings],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench("ablation", "gaga", "--scene", small_scene, "--geometry", gaga_run, "--output", tmp_path)
    assert trained == []
    output = capsys.readouterr().out
    assert "Table 6" in output
    assert "in the published order" in output
    result = json.loads((tmp_path / "ablation_gaga_small_masks.json").read_text())
    assert result["tables"][0]["title"] == "association"
    rows = {row["name"]: row for row in result["tables"][0]["rows"]}
    assert rows["video object tracker"]["measured"] == []
    assert len(rows["memory bank"]["measured"]) == 1
    consensus = {r["assignment"] for r in result["orders"] if r["association"] == "consensus"}
    assert len(consensus) == 1


def test_rows_and_their_geometry_have_options_of_their_own(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings]
) -> None:
    options = (
        "--train-options=--pipeline.model.affinity.num-pixels 100",
        "--geometry-options=--pipeline.model.sh-degree 1",
    )
    bench("ablation", "saga", "--scene", small_scene, "--rows", "w/o both", *options, "--output", tmp_path)
    geometry, row = trained
    assert (geometry.method, geometry.options) == ("gaga", ("--pipeline.model.sh-degree", "1"))
    assert row.method == "saga"
    assert row.options[:2] == ("--pipeline.model.affinity.num-pixels", "100")
    assert "--pipeline.model.geometry" in row.options
    assert "--pipeline.model.sh-degree" not in row.options


@pytest.mark.parametrize(("method", "row"), [("saga", "w/o both"), ("saga-v1", "full")])
def test_rows_are_trained_and_clicked_at_several_levels(
    small_scene: Path,
    gaga_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    row: str,
) -> None:
    def train(settings: TrainSettings, output: Path, experiment: str) -> TrainedRun:
        # `ns-train` in this process: starting one up takes longer than these few steps.
        from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
        from nerfstudio.scripts.train import main

        config = tyro.cli(
            AnnotatedBaseConfigUnion,
            args=settings.arguments(output, experiment),
            config=(tyro.conf.FlagConversionOff,),
        )
        main(config)
        return TrainedRun(settings.config_path(output, experiment), 1.0, 1.0)

    monkeypatch.setattr(training, "ns_train", train)
    options = ("--geometry", gaga_run, "--iterations", "40", "--clicks", "gt/part", "gt/object", "--output", tmp_path)
    bench("ablation", method, "--scene", small_scene, "--rows", row, *options)
    assert "part click IoU" in capsys.readouterr().out
    [first, *_] = json.loads((tmp_path / f"ablation_{method}_small_masks.json").read_text())["tables"]
    [scores] = next(entry for entry in first["rows"] if entry["name"] == row)["measured"]
    assert {"click_iou_part", "click_near_object", "click_clean_iou_object"} <= scores.keys()
    assert scores["click_ceiling_object"] > 50
    stand_ins = list((tmp_path / "runs").rglob("*.npz"))
    assert len(stand_ins) == (16 if method == "saga-v1" else 0)


def test_clicks_on_a_run(small_scene: Path, gaga_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [small_scene / "gt/part", small_scene / "gt/object"]
    bench("clicks", "--load-config", gaga_run, "--ground-truth", *folders, "--clicks", "1", "--clean", "--objects")
    output = capsys.readouterr().out
    for word in ("part", "object", "cleaned near"):
        assert word in output
    with pytest.raises(GsegError, match="have one name"):
        bench("clicks", "--load-config", gaga_run, "--ground-truth", folders[0], folders[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quality", "--seeds", "1", "1"], "all different"),
        (["quality", "--iterations", "0"], "give at least 1"),
        (["quality", "--masks", "nothing"], "nothing is not a folder"),
        (["quality", "--clicks", "gt/part", "gt/nothing"], "nothing is not a folder"),
        (["ablation", "saga", "--clicks", "gt/part", "gt/part"], "have one name"),
        (["quality", "--methods", "gaga", "gradiseg", "--scale", "0.5"], "gaga, gradiseg: no method with scales"),
        (["ablation", "saga", "--scale", "1.5"], "lies between 0"),
        (["ablation", "gradiseg", "--geometry", "some.ply"], "leave --geometry out"),
        (["ablation", "gradiseg", "--geometry-options", "anything"], "leave --geometry-options out"),
        (["ablation", "gaga", "--train-options", "anything"], "No row of gaga is trained"),
        (["ablation", "saga", "--rows", "w/o everything"], "has no row"),
    ],
)
def test_bad_input_is_told_before_training(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings], arguments: list[str], message: str
) -> None:
    option = "--scenes" if arguments[0] == "quality" else "--scene"
    with pytest.raises(GsegError, match=message):
        bench(*arguments, option, small_scene, "--output", tmp_path)
    assert trained == []


def test_a_failing_ns_train_names_its_log(small_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings("gaga", small_scene, "masks", 10, 0)
    stand_in = tmp_path / "ns-train"
    stand_in.write_text("#!/bin/sh\necho the reason\nexit 3\n")
    stand_in.chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setattr(training.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(GsegError, match=r"(?s)exit status 3.*the reason.*one\.log"):
        training.ns_train(settings, tmp_path / "runs", "one")


def test_options_of_clicks_that_change_nothing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    def told(tree: object, has_scales: bool, by_feature: bool) -> str:
        model = SimpleNamespace(tree=lambda: tree, has_scales=has_scales, prompts_by_feature=by_feature)
        run: Any = SimpleNamespace(model=model, config=SimpleNamespace(method_name="saga"))
        Clicks(Path("config.yml"), [], scales=(0.5,), threshold=0.3)._tell_unused(run)
        Clicks(Path("config.yml"), [])._tell_unused(run)
        captured = capsys.readouterr()
        return " ".join((captured.out + captured.err).split())

    assert told(None, True, True) == ""
    assert "--scales changes nothing: saga has a tree" in told(object(), True, False)
    assert "--threshold changes nothing: saga answers by groups" in told(object(), True, False)
    assert "--scales changes nothing: saga has no scales" in told(None, False, True)


@pytest.mark.slow
def test_ns_train_is_run_and_measured(small_scene: Path, tmp_path: Path) -> None:
    options = ("--pipeline.model.max-gaussians", "3000", "--pipeline.model.num-downscales", "0")
    settings = TrainSettings("unified-lift", small_scene, "masks", 10, 3, options)
    run = training.ns_train(settings, tmp_path, "one")
    assert run.config_path.is_file()
    assert run.seconds > 1
    assert run.peak_memory_gib > 0.2
