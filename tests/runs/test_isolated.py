"""Runs of some Gaussians, from the command line: what Nerfstudio and we make of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.cli.edit import Edit
from gseg_ns.cli.isolate import Isolate
from gseg_ns.cli.render import Render
from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.edit_list import load_edits
from gseg_ns.editing.operations import Remove, Transform, centre_of
from gseg_ns.errors import GsegError
from gseg_ns.masks import read_label_map
from gseg_ns.objects import FringeOptions
from gseg_ns.rendering import Camera, composite
from gseg_ns.runs.edited_run import EditedRun, take_object
from gseg_ns.runs.isolated import export_command
from gseg_ns.runs.run import load_run
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.store import SELECTIONS_FILE, Fingerprint, save_selections
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply
from gseg_ns.splats.projection import project_splats


@pytest.fixture(scope="module")
def groups(constructed_run: Path) -> torch.Tensor:
    return load_run(constructed_run).model.gaussian_groups()


def only(folder: Path) -> Path:
    (config,) = folder.glob("*/gaga/*/config.yml")
    return config


def test_an_isolated_run_is_exported_by_nerfstudio_as_we_export_it(
    constructed_run: Path, groups: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nerfstudio.scripts.exporter import ExportGaussianSplat

    Isolate(load_config=constructed_run, groups=[1, 4], output_dir=tmp_path).main()
    config = only(tmp_path)
    assert config.parts[-4] == "viewer-groups-1-4"
    assert export_command(config).startswith("ns-export gaussian-splat --load-config")
    run = load_run(config)
    kept = (groups == 1) | (groups == 4)
    assert run.model.num_points == int(kept.sum())
    assert torch.equal(run.model.gaussian_groups(), groups[kept])
    original = load_run(constructed_run).model
    for name, parameter in run.model.gauss_params.items():
        assert torch.equal(parameter, original.gauss_params[name][kept]), name

    ExportGaussianSplat(load_config=config, output_dir=tmp_path / "export").main()
    theirs = read_ply(tmp_path / "export" / "splat.ply")
    ours = original.splats().subset(kept)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert np.allclose(getattr(theirs, name), getattr(ours, name)[..., :], atol=1e-6), name


def test_a_saved_selection_is_isolated(constructed_run: Path, groups: torch.Tensor, tmp_path: Path) -> None:
    fingerprint = Fingerprint.of(load_run(constructed_run).model.means)
    file = constructed_run.parent / SELECTIONS_FILE
    save_selections(file, {"stool": groups == 1}, fingerprint)
    try:
        Isolate(load_config=constructed_run, selection="stool", output_dir=tmp_path).main()
        assert load_run(only(tmp_path)).model.num_points == int((groups == 1).sum())
        with pytest.raises(GsegError, match="It has: stool"):
            Isolate(load_config=constructed_run, selection="chair", output_dir=tmp_path).main()
        # A selection of the original run means nothing in the isolated one.
        (only(tmp_path).parent / SELECTIONS_FILE).write_bytes(file.read_bytes())
        with pytest.raises(GsegError, match="this run has"):
            Isolate(load_config=only(tmp_path), selection="stool", output_dir=tmp_path).main()
    finally:
        file.unlink()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Say what to take"),
        ({"groups": [4000]}, "no group 4000"),
        ({"groups": [0]}, "no group 0"),
        ({"selection": "none such"}, "It has: none"),
        ({"groups": [1], "name": "a/b"}, "cannot name"),
    ],
)
def test_bad_requests_write_nothing(constructed_run: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(GsegError, match=message):
        Isolate(load_config=constructed_run, output_dir=tmp_path / "out", **options).main()
    assert not (tmp_path / "out").exists()


def test_an_object_is_isolated_without_its_fringe(
    constructed_run: Path,
    groups: torch.Tensor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gseg_ns.objects.fringes.LONG", 0.3)  # the balls' Gaussians are short
    with pytest.raises(GsegError, match="--clean-borders is about objects"):
        Isolate(load_config=constructed_run, edits=tmp_path / "edits.json", clean_borders=True).main()
    edits = tmp_path / "edits.json"
    Edit(load_config=constructed_run, do="transform", groups=[4], move=(0.0, 0.5, 0.0), edits=edits).main()
    Isolate(load_config=constructed_run, groups=[4], edits=edits, output_dir=tmp_path, clean_borders=True).main()
    said = " ".join(capsys.readouterr().out.split())
    assert "Cleaned the borders of 1 objects" in said
    run = load_run(constructed_run)
    alone, before = load_run(only(tmp_path)).model, run.model
    count = int((groups == 4).sum())
    halves = alone.num_points - count
    assert halves > 0
    assert f"Wrote {count} of {len(groups)} Gaussians, {halves} of them as two halves, to" in said
    assert torch.equal(alone.gaussian_groups(), torch.full((alone.num_points,), 4))  # halves, too
    moved = alone.means[:count] - before.means[groups == 4]
    assert torch.allclose(moved.median(dim=0).values, torch.tensor([0.0, 0.5, 0.0]), atol=0.02)

    # Of what a training view calls the object it covers more, and of what it calls another thing less.
    camera = run.datamanager.camera(0)
    mask = before.label_image(camera) == 4
    scene = before.splats().subset(groups == 4)
    splats = replace(alone.splats(), means=alone.means.detach() - torch.tensor([0.0, 0.5, 0.0]))
    errors = [float((drawn_alpha(part, to_camera(camera)) - mask.float()).abs().sum()) for part in (scene, splats)]
    assert errors[1] < 0.8 * errors[0]


def test_a_turned_object_without_its_fringe_lies_where_the_scene_has_it(
    constructed_run: Path, groups: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gseg_ns.objects.fringes.FringeOptions", lambda: FringeOptions(steps=10, rounds=0))
    run, own = load_run(constructed_run), groups == 4
    turn = Transform(PackedMask.pack(own), rotation=(0.0, 1.0, 0.0, 0.0), scale=2.0)  # by a half, about x
    plain, turned = EditedRun(run, ()), EditedRun(run, [turn])
    for edited in (plain, turned):
        assert edited.clean_borders(own) == 1
    centre = centre_of(plain.splats, own)
    first, second = plain.alone.subset(own), turned.alone.subset(own)
    expected = centre + 2 * (first.splats.means - centre) * torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(second.splats.means, expected, atol=1e-5, rtol=0)
    assert torch.equal(first.source, second.source)
    everything = torch.ones(len(first.splats), dtype=torch.bool)
    assert float((centre_of(first.splats, everything) - centre).norm()) > 1e-4  # which the edit does not go by


def test_borders_of_a_part_of_an_object_are_not_cleaned(
    constructed_run: Path, groups: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, part = load_run(constructed_run), groups == 4
    part[part.nonzero()[::3]] = False
    part[part.nonzero()[::2]] = False  # a third
    monkeypatch.setattr(run.model, "label_image", lambda *_: pytest.fail("a view is asked"))
    edited = EditedRun(run, ())
    for rows, among in ((part, None), (groups == 0, None), (groups == 4, [1])):
        with pytest.raises(GsegError, match="no borders to clean"):
            edited.clean_borders(rows, among=among)
    save_selections(constructed_run.parent / SELECTIONS_FILE, {"third": part}, Fingerprint.of(run.model.means))
    try:
        with pytest.raises(GsegError, match="no borders to clean"):
            Isolate(constructed_run, selection="third", output_dir=tmp_path / "out", clean_borders=True).main()
    finally:
        (constructed_run.parent / SELECTIONS_FILE).unlink()
    assert not (tmp_path / "out").exists()


def drawn_alpha(splats: Splats, camera: Camera) -> torch.Tensor:
    return composite(project_splats(splats, camera), torch.ones(len(splats), 1))[..., 0]


def test_edits_from_the_command_line(constructed_run: Path, groups: torch.Tensor, tmp_path: Path) -> None:
    edits = tmp_path / "edits.json"
    Edit(load_config=constructed_run, do="remove", groups=[1], edits=edits).main()
    Edit(load_config=constructed_run, do="duplicate", groups=[4], move=(0.3, 0.0, 0.0), edits=edits).main()
    Edit(load_config=constructed_run, do="recolor", groups=[4], edits=edits, output=tmp_path / "scene.ply").main()
    model = load_run(constructed_run).model
    operations = load_edits(edits, Fingerprint.of(model.means))
    assert [type(operation).__name__ for operation in operations] == ["Remove", "Duplicate", "Recolor"]
    ones, fours = int((groups == 1).sum()), int((groups == 4).sum())
    assert len(read_ply(tmp_path / "scene.ply")) == len(groups) - ones + fours
    with pytest.raises(GsegError, match="there already"):
        Edit(load_config=constructed_run, edits=edits, output=tmp_path / "scene.ply").main()

    Isolate(load_config=constructed_run, edits=edits, groups=[4], output_dir=tmp_path / "runs").main()
    assert load_run(only(tmp_path / "runs")).model.num_points == 2 * fours

    Edit(load_config=constructed_run, undo=2, edits=edits).main()
    (operation,) = load_edits(edits, Fingerprint.of(model.means))
    assert isinstance(operation, Remove)
    with pytest.raises(GsegError, match="too many"):
        Edit(load_config=constructed_run, undo=2, edits=edits).main()
    with pytest.raises(GsegError, match="no group 4000"):
        Edit(load_config=constructed_run, do="remove", groups=[4000], edits=edits).main()
    with pytest.raises(GsegError, match="nothing to edit"):
        Edit(load_config=constructed_run, do="remove", edits=edits).main()


def test_pictures_of_an_edited_scene(constructed_run: Path, groups: torch.Tensor, tmp_path: Path) -> None:
    edits = tmp_path / "edits.json"
    Edit(load_config=constructed_run, do="remove", groups=[1], edits=edits).main()
    Edit(load_config=constructed_run, do="hide", groups=[2], edits=edits).main()
    for folder, options in (("plain", {}), ("edited", {"edits": edits})):
        Render(load_config=constructed_run, output_dir=tmp_path / folder, outputs=("rgb",), **options).main()
    seen = {}
    for folder in ("plain", "edited"):
        maps = [read_label_map(path) for path in (tmp_path / folder / "ids").iterdir()]
        seen[folder] = {int(group) for labels in maps for group in labels.unique()}
    assert {1, 2} <= seen["plain"]
    assert seen["edited"] == seen["plain"] - {1, 2}
    portraits = {"load_config": constructed_run, "edits": edits, "size": 32, "frames": 2}
    Render(output_dir=tmp_path / "turned", turntable=("3",), **portraits).main()
    assert len(list((tmp_path / "turned" / "turntable" / "3").iterdir())) == 2
    for group, message in (("1", "edits removed it"), ("2", "hide all of '2'")):
        with pytest.raises(GsegError, match=message):
            Render(output_dir=tmp_path / "none", turntable=("3", group), **portraits).main()
    assert not (tmp_path / "none").exists()


def test_an_object_of_another_run_takes_a_place(constructed_run: Path, groups: torch.Tensor, tmp_path: Path) -> None:
    """The other run has a name for its object, has removed a group, and is gone when the edits are replayed."""
    from gseg_ns.editing.session import Session

    Isolate(load_config=constructed_run, groups=[1, 2, 4], name="other", output_dir=tmp_path / "runs").main()
    config = only(tmp_path / "runs")
    other = load_run(config).model
    session = Session(other.splats())
    session.label(4, "mug")
    session.select(other.gaussian_groups() == 2)
    session.edit(Remove(session.state.selection))
    session.save(config.parent)

    run = tmp_path / "run"
    shutil.copytree(constructed_run.parent, run)
    swap = {"load_config": run / "config.yml", "do": "swap", "groups": [3]}
    for source, message in {
        str(config): "#3 for a group",
        f"{config}#7": "no group 7",
        f"{config}#cup": "no object 'cup'",
        f"{config}#2": "edits removed it",
        f"{tmp_path / 'no.yml'}#2": "does not exist",
        "cup": "no selection 'cup'",
    }.items():
        with pytest.raises(GsegError, match=message):
            Edit(other=source, **swap).main()
    assert not (run / "edits.json").exists()
    Edit(other=f"{config}#mug", **swap).main()
    Edit(other=f"{config}#1", **(swap | {"groups": [5]})).main()
    shutil.rmtree(tmp_path / "runs")
    Edit(load_config=run / "config.yml", output=tmp_path / "scene.ply").main()
    counts = [int((groups == group).sum()) for group in range(6)]
    edited = read_ply(tmp_path / "scene.ply")
    assert len(edited) == len(groups) - counts[3] - counts[5] + counts[4] + counts[1]
    splats = load_run(run / "config.yml").model.splats()
    newcomer = edited.means[-counts[1] - counts[4] : -counts[1]]
    torch.testing.assert_close(
        centre_of(splats, groups == 3), centre_of(edited, torch.isin(edited.means, newcomer).all(dim=1)), atol=1e-3,
        rtol=0,
    )  # fmt: skip


def test_an_object_that_was_changed_since_is_another_file(constructed_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(constructed_run.parent, run)
    config = run / "config.yml"
    taken = [take_object(f"{config}#4", tmp_path)]
    for edit in ({"do": "recolor"}, {"do": "opacity"}):
        Edit(load_config=config, groups=[4], **edit).main()  # type: ignore[arg-type]
        taken.append(take_object(f"{config}#4", tmp_path))
    assert len(set(taken)) == 3
    assert take_object(f"{config}#4", tmp_path) == taken[-1]
    assert not torch.equal(read_ply(taken[0]).sh, read_ply(taken[1]).sh)
    assert not torch.equal(read_ply(taken[1]).opacities, read_ply(taken[2]).opacities)


def test_an_experiment_without_a_name(constructed_run: Path, tmp_path: Path) -> None:
    """Its runs lie a folder less deep; what is isolated gets a name."""
    shutil.copytree(constructed_run.parent, tmp_path / "a/outputs/gaga/run")
    config = tmp_path / "a/outputs/gaga/run/config.yml"
    config.write_text(config.read_text().replace("experiment_name: viewer", "experiment_name: ''"))
    Isolate(load_config=config, groups=[1]).main()
    assert len(list((tmp_path / "a/outputs").glob("groups-1/gaga/*/config.yml"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../../..", "/tmp/elsewhere", "a/../../../b"])
def test_a_run_whose_name_is_a_path_writes_nowhere(constructed_run: Path, name: str, tmp_path: Path) -> None:
    run = tmp_path / "a/b/c/outputs/scene/gaga/run"
    shutil.copytree(constructed_run.parent, run)
    config = run / "config.yml"
    config.write_text(config.read_text().replace("experiment_name: viewer", f"experiment_name: {name}"))
    before = sorted(tmp_path.rglob("*"))
    for output in (None, tmp_path / "a/b/new"):
        with pytest.raises(GsegError, match="experiment_name"):
            Isolate(load_config=config, groups=[1], output_dir=output).main()
    with pytest.raises(GsegError, match="cannot name"):
        Isolate(load_config=constructed_run, groups=[1], name=name, output_dir=tmp_path).main()
    assert sorted(tmp_path.rglob("*")) == before
