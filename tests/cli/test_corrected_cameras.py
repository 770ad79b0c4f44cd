"""Cameras that a scene has wrong and training has put right: whatever looks through them uses what training found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from constructed_run import build_run
from gseg_ns.cli.lift import Lift
from gseg_ns.cli.select import Select
from gseg_ns.data.ground_truth import ground_truth
from gseg_ns.runs.run import Run, load_run
from gseg_ns.selection.store import Fingerprint, load_selections

SEEN = range(12)
"""Training views."""
FAULTS = {"turned": (4.0, 0.0), "moved": (0.0, 0.12), "both": (3.0, 0.08)}
"""Degrees and units by which the scene's poses of training views are wrong."""


def wrong_run(room: Path, folder: Path, fault: str, mode: str = "SO3xR3") -> tuple[Path, Path]:
    """A scene whose training poses are wrong, and a run on it whose camera optimizer has found the right ones.

    Returns:
        the scene, and config.yml
    """
    angle, shift = FAULTS[fault]
    rng = np.random.default_rng(3)
    scene = Path(shutil.copytree(room, folder / "scene"))
    meta = json.loads((scene / "transforms.json").read_text())
    corrections = []
    for frame in meta["frames"]:
        if frame["file_path"] not in meta["train_filenames"]:
            continue
        axis, way = rng.normal(size=(2, 3))
        turn, move = np.radians(angle) * axis / np.linalg.norm(axis), shift * way / np.linalg.norm(way)
        pose = np.array(frame["transform_matrix"])
        # As Nerfstudio corrects: the camera is turned where it stands, and moved along the axes of the scene.
        pose[:3, :3] = Rotation.from_rotvec(turn).as_matrix().T @ pose[:3, :3]
        pose[:3, 3] -= move
        frame["transform_matrix"] = pose.tolist()
        corrections.append([*move, *turn])
    (scene / "transforms.json").write_text(json.dumps(meta))
    config = build_run(scene, folder)
    placed = load_run(config).frame()
    assert placed is not None
    found = torch.tensor(corrections, dtype=torch.float32).view(-1, 2, 3) @ placed[0][:, :3].T.float()
    found[:, 0] *= placed[1]
    [checkpoint] = (config.parent / "nerfstudio_models").glob("*.ckpt")
    content = torch.load(checkpoint, weights_only=False)
    content["pipeline"]["_model.camera_optimizer.pose_adjustment"] = found.flatten(1)
    torch.save(content, checkpoint)
    before = config.read_text()
    head, tail = before.split("camera_optimizer:", 1)
    config.write_text(f"{head}camera_optimizer:{tail.replace(chr(39) + 'off' + chr(39), mode, 1)}")
    return scene, config


def agreement(run: Run, truth: dict[int, torch.Tensor]) -> float:
    """Part of the pixels of balls that are labelled so, in training views."""
    right = total = 0
    for number, view in enumerate(run.views("train")):
        labels = run.labels_on_photograph(view)
        balls = truth[number] > 0
        right += int((labels == truth[number])[balls].sum())
        total += int(balls.sum())
    return right / total


@pytest.mark.parametrize("fault", FAULTS)
def test_views_are_drawn_from_where_training_found_them(fault: str, ball_room: Path, tmp_path: Path) -> None:
    scene, config = wrong_run(ball_room, tmp_path, fault)
    run = load_run(config)
    truth = ground_truth(run.datamanager, scene / "gt/object", "train")
    assert agreement(run, truth) > 0.95
    # The picture that points, scribbles and masks are made on.
    name = run.datamanager.names("train")[5]
    y, x = np.argwhere(truth[5].numpy() == 2).mean(axis=0)
    for number, marks in enumerate(({"point": ((x + 0.5, y + 0.5),)}, {"mask": tmp_path / "mask.png"})):
        Image.fromarray(((truth[5] == 2).numpy() * 255).astype(np.uint8)).save(tmp_path / "mask.png")
        Select(config, output=tmp_path / f"{number}.npz", view=name, **marks).main()  # type: ignore[arg-type]
        chosen = load_selections(tmp_path / f"{number}.npz", Fingerprint.of(run.model.means))["selection"].unpack()
        assert torch.equal(chosen, run.model.gaussian_groups() == 2)
    run.model.camera_optimizer.pose_adjustment.data.zero_()
    assert agreement(run, truth) < 0.9


def test_masks_are_lifted_from_there(ball_room: Path, tmp_path: Path) -> None:
    scene, config = wrong_run(ball_room, tmp_path, "both")
    known = load_run(config).model.gaussian_groups()
    Lift(scene, config, output_dir=tmp_path / "lifted", experiment_name="room").main()
    [lifted] = (tmp_path / "lifted").rglob("config.yml")
    groups = load_run(lifted).model.gaussian_groups()
    counts = torch.zeros((int(known.max()) + 1, int(groups.max()) + 1))
    counts.index_put_((known, groups), torch.ones(len(known)), accumulate=True)
    # Of every ball nearly all that a view shows is one group, and that group is of no other.
    best = counts[1:, 1:].argmax(dim=1)
    assert len(best.unique()) == int(known.max())
    labelled = groups > 0
    assert (best[known[labelled] - 1] + 1 == groups[labelled]).float().mean() > 0.97
