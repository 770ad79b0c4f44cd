from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig

from browser_driver import viewing
from gseg_ns.cli.export import Export
from gseg_ns.cli.isolate import Isolate
from gseg_ns.data.cameras import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.runs.run import Run, load_run
from gseg_ns.runs.scene import find_scene
from posed_photographs import write_json, write_model
from viewer_client import ViewerClient


def test_a_scene_is_found_where_it_was_said_given_or_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.png", "b.png"]
    config = tmp_path / "project/outputs/scene/gaga/run/config.yml"
    config.parent.mkdir(parents=True)
    said = Path("captures/scene")
    assert find_scene(config, said) is None
    beside = write_json(tmp_path / "project/scene", names)
    assert find_scene(config, said) == beside
    nearer = tmp_path / "project/captures/scene"
    write_model(nearer / "sparse/0", names)
    assert find_scene(config, said) == nearer
    monkeypatch.chdir(tmp_path / "project")
    assert find_scene(config, said) == said
    other = write_json(tmp_path / "other", names)
    assert find_scene(config, said, other) == other
    with pytest.raises(GsegError, match="given with --data, is no scene"):
        find_scene(config, said, tmp_path)


@pytest.fixture
def moved_run(constructed_run: Path, ball_room: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run whose config.yml names a scene that is not there, and the scene, which is elsewhere."""
    run = tmp_path / "runs/viewer/gaga/run"
    shutil.copytree(constructed_run.parent, run)
    config = run / "config.yml"
    parts = "".join(f"- {part}\n" for part in ball_room.parts)
    text = config.read_text()
    for indent in ("", "  ", "    ", "      ", "        "):
        block = "".join(f"{indent}{line}\n" for line in parts.splitlines())
        text = text.replace(block, f"{indent}- gone\n{indent}- ball room\n")
    config.write_text(text)
    scene = tmp_path / "elsewhere"
    shutil.copytree(ball_room, scene)
    return config, scene


def test_a_run_without_its_scene_exports_and_isolates_and_says_what_it_lacks(
    moved_run: tuple[Path, Path], tmp_path: Path
) -> None:
    config, scene = moved_run
    run = load_run(config)
    assert run.datamanager.absent is not None
    assert int(run.model.gaussian_groups().max()) == 7
    Export(config, tmp_path / "out").main()
    assert (tmp_path / "out/scene.ply").is_file()
    with pytest.raises(GsegError, match=r"ball room, relative to the folder.*name it with --data"):
        list(run.views("train"))
    # The viewer asks for this when it starts, and shows grey in place of photographs.
    assert run.datamanager.fixed_indices_eval_dataloader == []
    assert run.datamanager.train_dataset[0]["image"].shape == (240, 320, 3)
    Isolate(config, groups=[1], output_dir=tmp_path / "isolated").main()
    assert list((tmp_path / "isolated").rglob("config.yml"))

    found = load_run(config, scene)
    assert found.datamanager.absent is None
    assert len(list(found.views("train"))) == 12


def test_the_viewer_of_a_run_without_its_scene_answers(moved_run: tuple[Path, Path]) -> None:
    with viewing(moved_run[0]) as viewer, ViewerClient(viewer) as client:
        controller = viewer.pipeline.model.panel.controller
        assert "Group 3" in client.command("pick", 3, "set")
        chosen = controller.selected
        assert torch.equal(chosen, viewer.pipeline.model.gaussian_groups() == 3)
        assert "Not done" not in client.command("remove")
        assert "Undone" in client.command("undo")


def test_a_scene_beside_the_run_is_found_and_said(
    moved_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, scene = moved_run
    scene.rename(tmp_path / "ball room")
    assert len(list(load_run(config).views("test"))) == 4
    assert "The scene is read from" in capsys.readouterr().out


def test_cameras_without_photographs_are_enough_for_all_but_pictures(moved_run: tuple[Path, Path]) -> None:
    config, scene = moved_run
    shutil.rmtree(scene / "images")
    run = load_run(config, scene)
    assert len(run.datamanager.train_dataset) == 12
    assert run.datamanager.train_dataset[0]["image"].shape == (192, 256, 3)
    with pytest.raises(GsegError, match=r"frame_00001\.png does not exist"):
        list(run.views("train"))


@pytest.mark.parametrize("mode", ["SO3xR3", "SE3"])
def test_all_that_looks_through_a_training_camera_uses_its_corrected_pose(
    ball_room: Path, make_trainer: Any, mode: str
) -> None:
    trainer = make_trainer(gaga, ball_room, camera_optimizer=CameraOptimizerConfig(mode=mode))
    model, data = trainer.pipeline.model, trainer.pipeline.datamanager
    torch.manual_seed(1)
    model.camera_optimizer.pose_adjustment.data.normal_(0, 0.05)
    run = Run(Path("config.yml"), trainer.config, model, data, 0)
    for view, seen in enumerate(run.views("train")):
        camera = seen.camera
        plain = data.train_dataset.cameras[view : view + 1]
        plain.metadata = {"cam_idx": view}
        trained = model.camera_optimizer.apply_to_camera(plain).detach()
        assert not torch.allclose(trained, plain.camera_to_worlds)
        torch.testing.assert_close(model.corrected(camera).camera_to_worlds, trained)
        plain.metadata, plain.camera_to_worlds = None, trained
        torch.testing.assert_close(model.view_camera(view).viewmat, to_camera(plain).viewmat)
        if view == 3:
            torch.testing.assert_close(model.picture(camera), model.picture(plain))
    assert torch.equal(
        model.corrected(data.eval_dataset.cameras[:1]).camera_to_worlds, data.eval_dataset.cameras[:1].camera_to_worlds
    )


def test_scripts_find_runs_and_views_where_they_were(constructed_run: Path) -> None:
    from gseg_ns.models.runs import load_run as former

    assert former is load_run
    name, camera, image = next(iter(former(constructed_run).views("train")))
    assert name.startswith("frame_")
    assert tuple(image.shape[:2]) == (int(camera.height), int(camera.width))
