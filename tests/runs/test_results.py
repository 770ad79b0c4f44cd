"""Folders NAME.gseg and labelled PLYs: what is packed comes back, and what is not as it was written is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from gseg_ns.cli.edit import Edit
from gseg_ns.cli.evaluate import Eval
from gseg_ns.cli.export import Export
from gseg_ns.cli.info import Info
from gseg_ns.cli.isolate import Isolate
from gseg_ns.cli.pack import Pack
from gseg_ns.cli.render import Render
from gseg_ns.cli.select import Select
from gseg_ns.errors import GsegError
from gseg_ns.objects import FringeOptions
from gseg_ns.runs import result_folder
from gseg_ns.runs.edited_run import EditedRun, take_object
from gseg_ns.runs.labelled import open_labelled
from gseg_ns.runs.overview import described
from gseg_ns.runs.packing import NOTES, pack_run
from gseg_ns.runs.result_folder import MANIFEST, MODEL, read_result, read_tensors, write_tensors
from gseg_ns.runs.run import Run, load_run
from gseg_ns.selection.store import (
    GROUP_NAMES_FILE,
    SELECTIONS_FILE,
    UNITS_FILE,
    Fingerprint,
    load_group_names,
    load_selections,
    load_units,
    save_group_names,
    save_selections,
    save_units,
)
from gseg_ns.splats.ply import read_ply, write_ply
from random_splats import make


@pytest.fixture(scope="module")
def run(constructed_run: Path) -> Run:
    """A run with a name and a selection."""
    loaded = load_run(constructed_run)
    fingerprint = Fingerprint.of(loaded.model.means)
    save_group_names(constructed_run.parent / GROUP_NAMES_FILE, {(2, None): "red ball"}, fingerprint)
    chosen = loaded.model.gaussian_groups() == 3
    save_selections(constructed_run.parent / "selections.npz", {"third": chosen}, fingerprint)
    return loaded


@pytest.fixture(scope="module")
def packed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as a result. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("packed") / "balls.gseg"
    pack_run(run, folder)
    return folder


@pytest.fixture(scope="module")
def told(run: Run, packed: Path) -> Any:
    """What there is to say of the run: to find it out takes long."""
    return described(run)


@pytest.fixture
def alone(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, on a machine without the scene and the run: nothing but the result is opened."""
    copy = tmp_path / "copy.gseg"
    shutil.copytree(packed, copy)

    def refuse(*_: Any) -> None:
        raise AssertionError("a config.yml is read")

    monkeypatch.setattr("gseg_ns.runs.run.read_config", refuse)
    monkeypatch.setattr("gseg_ns.runs.isolated.read_config", refuse)
    monkeypatch.chdir(tmp_path)
    return copy


def test_everything_comes_back(run: Run, alone: Path) -> None:
    there = load_run(alone)
    for name, value in run.model.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, there.model.state_dict()[name]), name
    assert torch.equal(run.model.gaussian_groups(), there.model.gaussian_groups())
    assert (there.step, there.config.method_name) == (run.step, "gaga")
    assert EditedRun(there).names == {2: "red ball"}
    assert int(EditedRun(there).object("third").sum()) == int((run.model.gaussian_groups() == 3).sum())
    theirs, ours = there.frame(), run.frame()
    assert theirs is not None
    assert ours is not None
    torch.testing.assert_close(theirs[0], ours[0])
    for split in ("train", "test"):
        known, found = list(run.views(split)), list(there.views(split))  # type: ignore[arg-type]
        assert [view.name for view in known] == [view.name for view in found]
        torch.testing.assert_close(found[0].camera.camera_to_worlds, known[0].camera.camera_to_worlds)
    assert torch.equal(run.model.label_image(known[0].camera), there.model.label_image(found[0].camera))
    assert torch.equal(run.model.picture(known[0].camera), there.model.picture(found[0].camera))
    with pytest.raises(GsegError, match=r"copy\.gseg has no photographs"):
        _ = found[0].image


def test_what_others_read_of_it(run: Run, packed: Path) -> None:
    from safetensors.torch import load_file

    groups = run.model.gaussian_groups()
    assert np.array_equal(PlyData.read(str(packed / "splats.ply"))["vertex"]["label"], groups.numpy())
    assert torch.equal(load_file(packed / "labels.safetensors")["labels"].long(), groups)
    listed = json.loads((packed / "objects.json").read_text())
    assert listed["tree"] is None
    table = listed["objects"]
    assert [entry["id"] for entry in table] == sorted(set(groups.tolist()) - {0})
    assert {entry["id"]: entry["name"] for entry in table}[2] == "red ball"
    manifest = json.loads((packed / MANIFEST).read_text())
    assert (manifest["schema"], manifest["version"], manifest["method"]) == ("gseg-result", 1, "gaga")
    assert str(run.config_path.parent) not in (packed / MANIFEST).read_text()


def test_a_method_with_features_answers_as_before(
    constructed_saga_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gseg_ns.data.cameras import to_camera
    from gseg_ns.runs.prompting import Prompter

    run = load_run(constructed_saga_run)
    Pack(constructed_saga_run, output=tmp_path / "saga.gseg").main()
    assert "gseg view" in capsys.readouterr().out
    there = load_run(tmp_path / "saga.gseg")
    assert there.model.has_scales
    assert there.model.default_scale == run.model.default_scale == 0.1
    camera = next(iter(there.views("test"))).camera
    answers = []
    for model in (run.model, there.model):
        prompter = Prompter(model)
        point = prompter.point(to_camera(camera), 128.5, 120.5)
        answers.append(prompter.select_points([point]))
    assert torch.equal(*answers)


def test_commands_take_it_without_scene_and_config(alone: Path, tmp_path: Path, capsys: Any) -> None:
    Info(alone).main()
    assert "red ball" in capsys.readouterr().out
    Export(alone, tmp_path / "objects").main()
    assert (tmp_path / "objects/objects/group_0002_red-ball.ply").is_file() or list(
        (tmp_path / "objects/objects").glob("*red*")
    )
    Render(alone, tmp_path / "views", outputs=("groups", "overlay")).main()
    assert len(list((tmp_path / "views/ids").glob("*.png"))) == 4
    with pytest.raises(GsegError, match="has no photographs: leave photo-overlay out"):
        Render(alone, tmp_path / "views", outputs=("photo-overlay",)).main()
    view = next(iter(load_run(alone).views("test"))).name
    Select(alone, tmp_path / "s.ply", view=view, point=((128.5, 120.5),)).main()
    assert (tmp_path / "s.ply").is_file()
    Edit(alone, do="remove", groups=[1]).main()
    assert (alone / "edits.json").is_file()
    Isolate(alone, groups=[2], output_dir=tmp_path / "runs").main()
    assert len(list((tmp_path / "runs").rglob("*.ckpt"))) == 1
    assert take_object(f"{alone}#red ball", tmp_path).is_file()
    load_run(alone)  # what was saved beside it does not count as damage


def test_borders_are_cleaned_without_photographs(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the cameras show; colors stay."""
    options = FringeOptions(steps=20, rounds=0)
    monkeypatch.setattr("gseg_ns.objects.fringes.FringeOptions", lambda: options)
    for folder, clean in (("plain", False), ("clean", True)):
        Export(alone, tmp_path / folder, groups=[2], keep_floaters=True, clean_borders=clean).main()
    plain, cleaned = (
        read_ply(next((tmp_path / folder / "objects").glob("group_0002*.ply"))) for folder in ("plain", "clean")
    )
    assert not torch.equal(cleaned.opacities[: len(plain)], plain.opacities)
    assert torch.equal(cleaned.sh[: len(plain)], plain.sh)


def test_scores_need_no_photographs(packed: Path, ball_room: Path, run: Run, tmp_path: Path) -> None:
    alone = tmp_path / "copy.gseg"
    shutil.copytree(packed, alone)
    Eval(alone, ball_room / "gt/object").main()
    scores = json.loads((alone / "eval_test.json").read_text())
    assert scores["psnr"] is None
    Eval(run.config_path, ball_room / "gt/object", output=alone / "theirs.json").main()
    assert scores["iou"] == json.loads((alone / "theirs.json").read_text())["iou"]


def test_a_ply_without_labels_is_told_what_makes_them(alone: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "a plain one.ply"
    write_ply(path, load_run(alone).model.splats())
    Info(path).main()
    said = capsys.readouterr().out
    assert "labelled" not in said
    assert f"`gseg segment '{path}'`" in said.replace("\n", "")
    Info(path, json=True).main()
    assert json.loads(capsys.readouterr().out)["method"] == "PLY that names no objects"


def test_a_labelled_ply_is_enough(alone: Path, tmp_path: Path, capsys: Any) -> None:
    Export(alone, tmp_path / "objects").main()
    scene = tmp_path / "objects/scene.ply"
    there = load_run(scene)
    groups = there.model.gaussian_groups()
    assert np.array_equal(PlyData.read(str(scene))["vertex"]["label"], groups.numpy())
    assert EditedRun(there).names[2] == "red ball"
    Info(scene).main()
    assert "labelled PLY" in capsys.readouterr().out
    Edit(scene, do="recolor", groups=[2], output=tmp_path / "edited.ply").main()
    assert (tmp_path / "objects/scene.ply.notes/edits.json").is_file()
    Pack(scene, output=tmp_path / "scene.gseg").main()
    assert torch.equal(load_run(tmp_path / "scene.gseg").model.gaussian_groups(), groups)
    Isolate(scene, groups=[2]).main()
    assert len(list((tmp_path / "objects/outputs").rglob("config.yml"))) == 1
    for command in (Render(scene, tmp_path / "views"), Render(scene, tmp_path / "views", sheet=True)):
        with pytest.raises(GsegError, match=r"scene\.ply has no cameras"):
            command.main()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"has no property `label`.*gseg segment"),
        (torch.full((9,), 0.5), "no integer a splat"),
        (torch.full((9,), -1), "not from 0 to"),
        (torch.full((9,), 2**22), "not from 0 to"),
    ],
)
def test_a_ply_without_labels_of_sense_is_told(tmp_path: Path, labels: torch.Tensor | None, message: str) -> None:
    write_ply(tmp_path / "a.ply", replace(make(9), extra={}), {} if labels is None else {"label": labels})
    with pytest.raises(GsegError, match=rf"a\.ply.*{message}"):
        load_run(tmp_path / "a.ply")


def test_paths_that_are_nothing_are_told(tmp_path: Path, packed: Path) -> None:
    (tmp_path / "empty.gseg").mkdir()
    with pytest.raises(GsegError, match=r"empty\.gseg has no manifest\.json"):
        load_run(tmp_path / "empty.gseg")
    with pytest.raises(GsegError, match=r"none\.gseg.*does not exist"):
        load_run(tmp_path / "none.gseg")
    (tmp_path / "a.spz").write_bytes(b"spz")
    with pytest.raises(GsegError, match="holds no labels that are read"):
        load_run(tmp_path / "a.spz")
    with pytest.raises(GsegError, match="--data goes with a run"):
        load_run(packed, tmp_path)


def copies(packed: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """A fresh copy for each file that the manifest lists."""
    for number, name in enumerate(sorted(json.loads((packed / MANIFEST).read_text())["files"])):
        copy = folder / f"{number}.gseg"
        shutil.copytree(packed, copy)
        yield name, copy


def test_a_flipped_bit_in_any_file_is_told_by_name(packed: Path, tmp_path: Path) -> None:
    names = []
    for name, copy in copies(packed, tmp_path):
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 4
        (copy / name).write_bytes(content)
        with pytest.raises(GsegError, match=rf"{name} is damaged or was changed"):
            read_result(copy)
        (copy / name).unlink()
        with pytest.raises(GsegError, match=rf"{name} is missing"):
            read_result(copy)
        names.append(name)
    assert {"splats.ply", "labels.safetensors", "model.safetensors", "objects.json", "cameras/transforms.json"} <= {
        *names
    }


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def rename(manifest: dict[str, Any], name: str) -> None:
    manifest["files"][name] = manifest["files"].pop("objects.json")


@pytest.mark.parametrize("name", ["../objects.json", "/etc/passwd", "a/../../x", "C:\\x", "a\x1b[2J", ".", "", "~/x"])
def test_a_path_trick_in_the_manifest_is_refused(alone: Path, name: str) -> None:
    change(alone, lambda manifest: rename(manifest, name))
    with pytest.raises(GsegError, match="leads out of its folder: it is not opened"):
        load_run(alone)


def test_a_link_that_leads_out_is_refused(alone: Path, tmp_path: Path) -> None:
    (alone / "objects.json").rename(tmp_path / "objects.json")
    (alone / "objects.json").symlink_to(tmp_path / "objects.json")
    with pytest.raises(GsegError, match="leads out of its folder"):
        load_run(alone)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(version=2), "is of version 2.*upgrade gseg-ns"),
        (lambda m: m.update(schema="other"), "another schema"),
        (lambda m: m.update(version="1"), "its version is '1'"),
        (lambda m: m.update(files={}), "no files"),
        (lambda m: m["files"].pop("labels.safetensors"), "lists no labels.safetensors"),
        (lambda m: m.update(options={"geometry": "/etc"}), "cannot be '/etc'"),
        (lambda m: m.update(options={"_target": "x"}), "there is no option"),
        (lambda m: m.update(options={"cache_gib": True}), "cannot be True"),
        (lambda m: m.update(options={"consensus.regions": "many"}), "cannot be 'many'"),
        (lambda m: m.update(steps=-5), "its steps is -5"),
        (lambda m: m["state"].update(words=[["x"]]), "is damaged or not the manifest of a result"),
    ],
)
def test_a_manifest_of_no_sense_is_told(alone: Path, edit: Callable[[Any], Any], message: str) -> None:
    change(alone, edit)
    with pytest.raises(GsegError, match=rf"(?s)manifest\.json.*{message}"):
        load_run(alone)


def test_labels_of_a_method_that_is_not_installed_are_used_alone(run: Run, alone: Path, capsys: Any) -> None:
    change(alone, lambda manifest: manifest.update(method="nobody-knows"))
    there = load_run(alone)
    assert "nobody-knows" in capsys.readouterr().out
    assert torch.equal(there.model.gaussian_groups(), run.model.gaussian_groups())
    assert len(list(there.views("test"))) == 4


def test_an_existing_result_is_replaced_whole_and_only_on_demand(
    run: Run, told: Any, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gseg_ns.runs.packing.described", lambda *_: told)
    with pytest.raises(GsegError, match="is there already: name another one or add --overwrite"):
        pack_run(run, alone)
    (tmp_path / "others.gseg").mkdir()
    (tmp_path / "others.gseg/mine.txt").write_text("mine")
    with pytest.raises(GsegError, match="is no result: name another one"):
        pack_run(run, tmp_path / "others.gseg", overwrite=True)
    with pytest.raises(GsegError, match=r"call it packed\.gseg"):
        pack_run(run, tmp_path / "packed")
    (alone / "objects.json").write_text("damaged")
    pack_run(run, alone, overwrite=True)
    read_result(alone)


def test_what_was_saved_in_a_result_stays_when_it_is_made_again(
    run: Run, told: Any, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gseg_ns.runs.packing.described", lambda *_: told)
    means = run.model.splats().means.cpu()
    for name in NOTES:
        (alone / name).unlink(missing_ok=True)
    chosen = torch.arange(len(means)) % 3 == 0
    save_selections(alone / SELECTIONS_FILE, {"mine": chosen}, Fingerprint.of(means))
    save_units(alone / UNITS_FILE, 2.5)
    pack_run(run, alone, overwrite=True)
    read_result(alone)
    assert torch.equal(load_selections(alone / SELECTIONS_FILE, Fingerprint.of(means))["mine"].unpack(), chosen)
    assert load_units(alone / UNITS_FILE) == 2.5

    # of other Gaussians it is not overwritten, and not lost
    before = {path.name: path.read_bytes() for path in alone.iterdir() if path.is_file()}
    with monkeypatch.context() as other:
        moved = run.model.splats()
        other.setattr(run.model, "splats", lambda: replace(moved, means=moved.means + 1))
        with pytest.raises(GsegError, match="was saved with other Gaussians"):
            pack_run(run, alone, overwrite=True)
    assert {path.name: path.read_bytes() for path in alone.iterdir() if path.is_file()} == before


def test_names_of_groups_stay_with_their_labels(
    run: Run, told: Any, alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The run calls group 2 a red ball. Of two names the later one counts, and none goes over to other labels."""
    monkeypatch.setattr("gseg_ns.runs.packing.described", lambda *_: told)
    labels = run.model.gaussian_groups()
    fingerprint = Fingerprint.of(run.model.means)
    names, own = alone / GROUP_NAMES_FILE, (run.folder / GROUP_NAMES_FILE).stat().st_mtime
    for later, second in ((100, "mug"), (-100, "red ball")):
        save_group_names(names, {(2, None): "mug", (3, None): "tray"}, fingerprint)
        os.utime(names, (own + later, own + later))
        pack_run(run, alone, overwrite=True)
        read_result(alone)
        assert load_group_names(names, fingerprint) == {(2, None): second, (3, None): "tray"}
    capsys.readouterr()
    monkeypatch.setattr(run.model, "gaussian_groups", lambda *_: torch.where(labels == 3, 1, labels))
    pack_run(run, alone, overwrite=True)
    assert load_group_names(names, fingerprint) == {(2, None): "red ball"}
    warned = capsys.readouterr()
    assert "3 'tray'" in warned.out + warned.err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_leaves_the_former_result_or_none(
    run: Run, told: Any, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each of the files that it writes."""
    from gseg_ns.runs import packing

    monkeypatch.setattr(packing, "described", lambda *_: told)
    copy = tmp_path / "copy.gseg"
    shutil.copytree(packed, copy)
    for target in ("write_ply", "write_tensors", "write_manifest"):
        original = getattr(packing, target)

        def killed(*arguments: Any, _original: Any = original, **options: Any) -> None:
            _original(*arguments, **options)
            os._exit(9)

        for output, former in ((copy, True), (tmp_path / "new.gseg", False)):
            child = os.fork()
            if child == 0:
                try:
                    monkeypatch.setattr(packing, target, killed)
                    pack_run(run, output, overwrite=True)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
            assert output.exists() == former
        read_result(copy)
    pack_run(run, copy, overwrite=True)
    read_result(copy)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("lost", ["voted_labels", "strengths"])
def test_results_of_versions_without_votes_open(lost: str, run: Run, alone: Path) -> None:
    """What lacks votes is answered by what the method trains, which labels alone cannot do."""
    names = ("voted_labels", "strengths") if lost == "voted_labels" else (lost,)
    voted = {"voted_labels": run.model.gaussian_groups().int(), "voted_confidence": torch.ones(run.model.num_points)}
    tensors = {name: value for name, value in (read_tensors(alone / MODEL) | voted).items() if name not in names}
    write_tensors(alone / MODEL, tensors)
    manifest = json.loads((alone / MANIFEST).read_text("utf-8"))
    content = (alone / MODEL).read_bytes()
    manifest["files"][MODEL] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (alone / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    found, model = open_labelled(alone), load_run(alone).model
    if lost == "voted_labels":
        assert found is None
        assert torch.equal(model.gaussian_groups(), model.decode(model.gauss_params["identity"]))
    else:
        assert found is not None
        assert torch.equal(found.model.gaussian_groups(), run.model.gaussian_groups())
        assert torch.equal(model.gaussian_groups(), run.model.gaussian_groups())


def test_versions_are_told_apart(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_folder, "VERSION", 3)
    read_result(alone)


def test_an_empty_ply_is_told(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", replace(make(9), extra={}), {"label": torch.zeros(9, dtype=torch.int32)})
    vertices = PlyData.read(str(tmp_path / "a.ply"), mmap=False)["vertex"].data[:0]
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(tmp_path / "a.ply"))
    with pytest.raises(GsegError, match=r"a\.ply"):
        load_run(tmp_path / "a.ply")


@pytest.mark.parametrize(("host", "bound"), [(None, "127.0.0.1"), ("0.0.0.0", "0.0.0.0")])
def test_a_viewer_is_bound_to_this_machine_unless_asked(alone: Path, host: str | None, bound: str) -> None:
    from gseg_ns.cli.pack import start_viewer

    run = load_run(alone)
    run.config.viewer.websocket_host = "0.0.0.0"  # ns-viewer's own default
    viewer: Any = start_viewer(run, 0, host)
    try:
        assert viewer.config.websocket_host == bound
    finally:
        viewer.viser_server.stop()
