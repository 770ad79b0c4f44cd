"""What a run is said to be, by `gseg info` and `gseg list`."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from gseg_ns.cli.info import Info, List
from gseg_ns.errors import GsegError
from gseg_ns.objects.records import schema
from gseg_ns.runs import evidence as evidence_module
from gseg_ns.runs.evidence import parents, run_evidence
from gseg_ns.runs.overview import runs_below
from gseg_ns.runs.run import Run, load_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def config(constructed_run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "balls" / "gaga" / "run"
    shutil.copytree(constructed_run.parent, folder)
    return folder / "config.yml"


def test_info_as_json_csv_and_table(config: Path, capsys: Capture) -> None:
    (config.parent / "eval_test.json").write_text(json.dumps({"psnr": 27.31, "step": 39_999}))
    Info(config, json=True).main()
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, schema())
    assert (told["method"], told["steps"], told["planned_steps"]) == ("gaga", 40_000, 40_000)
    assert told["training_ended"]
    assert told["has_groups"]
    assert told["psnr"] == 27.31
    assert told["masks"]["views"] == told["masks"]["views_with_masks"] == told["views_asked"]
    assert told["groups"] == len(told["objects"]) > 3

    Info(config.parent, csv=True).main()
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["id"]) for row in rows] == [entry["id"] for entry in told["objects"]]
    assert float(rows[0]["box_half_sizes_z"]) == told["objects"][0]["box"]["half_sizes"][2]

    Info(config).main()
    said = capsys.readouterr().out
    assert "gaga, step 40000 of 40000 (ended)" in said
    assert "27.31 dB" in said
    assert f"object {told['objects'][1]['id']} " in said


def test_an_old_score_is_not_of_this_checkpoint(config: Path) -> None:
    from gseg_ns.runs.overview import overview

    (config.parent / "eval_test.json").write_text(json.dumps({"psnr": 27.31, "step": 100}))
    run = load_run(config)
    run.model.config.num_iterations = 80_000  # the training is to go on, and has no groups yet
    facts, records = overview(run)
    assert facts["psnr"] is None
    assert (facts["training_ended"], facts["has_groups"], records) == (False, False, [])


def test_list(config: Path, tmp_path: Path, capsys: Capture) -> None:
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "config.yml").write_text("!!python/object:os.system {}")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.yml").write_text("a: 1")  # of another program
    found = runs_below(tmp_path)
    assert [entry.config for entry in found] == [config, broken / "config.yml"]
    assert (found[0].method, found[0].steps, found[0].planned, found[0].state) == ("gaga", 40_000, 40_000, "ended")
    assert found[1].steps is None
    assert "is not loaded" in found[1].state
    shutil.rmtree(config.parent / "nerfstudio_models")
    List(tmp_path, json=True).main()
    assert json.loads(capsys.readouterr().out)[0]["state"] == "no checkpoint"
    with pytest.raises(GsegError, match="is no folder"):
        List(tmp_path / "none").main()


@pytest.fixture(scope="module")
def loaded(constructed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("kept")
    run = load_run(constructed_run)
    run.config_path = folder / "config.yml"
    return run


def test_evidence_is_kept_beside_the_run_by_what_it_depends_on(loaded: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def track(ids: list[int]) -> Any:
        asked.extend(ids)
        return ids

    def ask() -> Any:
        asked.clear()
        return run_evidence(loaded, None, track)

    def kept() -> list[Path]:
        return sorted(loaded.config_path.parent.glob("evidence-*.npz"))

    first = ask()
    assert asked
    again = ask()
    assert not asked
    assert first is not None
    for name in ("total", "own", "front", "ends", "pixels", "views"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.num_views == again.num_views

    # What masks said is the model's to tell, and not kept.
    assert loaded.model.group_confidence() is None
    assert first.sure is None
    confidence = torch.linspace(0, 1, loaded.model.num_points)
    monkeypatch.setattr(loaded.model, "group_confidence", lambda scale=None: confidence)
    told = ask()
    assert not asked
    assert torch.equal(told.sure, confidence)

    kept()[0].write_bytes(kept()[0].read_bytes()[:500])
    afresh = ask()
    assert torch.equal(afresh.own, first.own)
    assert torch.equal(afresh.sure, confidence)
    assert asked, "a damaged file is as if it were not there"

    means = loaded.model.gauss_params["means"].data
    for number in range(evidence_module.KEPT + 1):
        means[0, 0] += 1e-3 * (number + 1)
        ask()
        assert asked, "of other Gaussians something else is said"
    assert len(kept()) == evidence_module.KEPT


def test_parents_are_of_a_coarser_scale(constructed_saga_run: Path, loaded: Run) -> None:
    assert parents(loaded.model) == (None, None)
    model = load_run(constructed_saga_run).model
    scale, groups = parents(model, 0.1)
    assert scale == 0.5
    assert groups is not None
    assert torch.equal(groups, model.gaussian_groups(0.5))
    assert parents(model, 1.0) == (None, None)
