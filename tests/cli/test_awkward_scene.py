"""A scene of two distorting cameras, one of them on its side, as COLMAP alone, with spaces and accents in its names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import viser.transforms as vtf
from scipy.ndimage import distance_transform_edt

from awkward_scene import FOLDERS, write_awkward_scene
from ball_room import FLOOR
from browser_driver import viewing
from constructed_run import build_run
from gseg_ns.cli.evaluate import Eval
from gseg_ns.cli.export import Export
from gseg_ns.cli.render import Render
from gseg_ns.cli.select import Select
from gseg_ns.data.datamanager import MaskDatamanagerConfig
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
from gseg_ns.masks import read_label_map
from gseg_ns.masks.check import check
from gseg_ns.masks.images import scene_images
from gseg_ns.runs.run import load_run
from gseg_ns.selection.store import Fingerprint, load_selections
from viewer_client import ViewerClient

VIEW = f"{FOLDERS[1]}/Bild 02 ä"


@pytest.fixture(scope="module")
def awkward(ball_room: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The scene, and a run on it whose groups are right."""
    folder = tmp_path_factory.mktemp("awkward")
    scene = write_awkward_scene(ball_room, folder)
    shutil.copy(ball_room / "gt/points_labelled.ply", scene / "gt")
    return scene, build_run(scene, folder)


def test_its_masks_are_known_to_be_turned(awkward: tuple[Path, Path]) -> None:
    report = check(awkward[0] / "masks", scene_images(awkward[0]))
    assert report.ok
    assert len(report.turned) == 8


def test_masks_lie_on_what_is_trained_on(awkward: tuple[Path, Path]) -> None:
    data = MaskDatamanagerConfig(data=awkward[0], dataparser=GsegDataParserConfig(), cache_images_type="uint8").setup(
        device="cpu"
    )
    data.require_masks()
    for view, name in enumerate(data.names("train")):
        labels, image = data.labels(view), data.cached_train[view]["image"].float()
        assert labels is not None
        assert labels.shape == image.shape[:2]
        # The floor is grey and balls are colored.
        spread = image.amax(dim=-1) - image.amin(dim=-1)
        lit = image.amax(dim=-1) > 40
        floor, balls = labels == labels.max(), (labels > 0) & (labels < labels.max())
        assert spread[floor & lit].median() < 30 < spread[balls & lit].median(), name


def test_scores_and_ids(awkward: tuple[Path, Path], ball_room: Path, constructed_run: Path, tmp_path: Path) -> None:
    scene, config = awkward
    Eval(config, scene / "gt/object", output=tmp_path / "a.json").main()
    Eval(constructed_run, ball_room / "gt/object", output=tmp_path / "b.json").main()
    here, there = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert here["num_views"] == there["num_views"]
    assert abs(here["iou"] - there["iou"]) < 1
    # `gseg info` reads it there, wherever else it was written.
    assert json.loads((config.parent / "eval_test.json").read_text()) == here
    # Scores of parts, kept elsewhere, are not those of the run.
    Eval(config, scene / "gt/object", output=tmp_path / "c.json", variant="official").main()
    assert json.loads((tmp_path / "c.json").read_text()) != here
    assert json.loads((config.parent / "eval_test.json").read_text()) == here
    Render(config, tmp_path / "views", split="train", outputs=()).main()
    ids = read_label_map(tmp_path / "views/ids" / f"{VIEW}.png")
    truth = torch.from_numpy(np.rot90(read_label_map(scene / "gt/object" / f"{VIEW}.png").numpy()).copy())
    assert ids.shape == truth.shape
    for name in truth.unique()[1:]:
        shown = truth == name
        group = ids[shown].mode().values
        assert ((ids == group) & shown).sum() / ((ids == group) | shown).sum() > 0.85, int(name)


def test_marks_and_objects(awkward: tuple[Path, Path], tmp_path: Path) -> None:
    scene, config = awkward
    truth = np.rot90(read_label_map(scene / "gt/object" / f"{VIEW}.png").numpy())
    y, x = np.argwhere(truth == 2).mean(axis=0)
    Select(config, output=tmp_path / "o.npz", view=f"{VIEW}.jpg", point=((x + 0.5, y + 0.5),)).main()
    model = load_run(config).model
    chosen = load_selections(tmp_path / "o.npz", Fingerprint.of(model.means))["selection"].unpack()
    assert torch.equal(chosen, model.gaussian_groups() == 2)
    Export(config, tmp_path / "Objekte ä").main()
    assert len(list((tmp_path / "Objekte ä/objects").glob("*.ply"))) == 7


def test_a_click_in_the_viewer_is_answered(awkward: tuple[Path, Path]) -> None:
    """From the camera of a photograph that is held on its side, on one object after the other."""
    with viewing(awkward[1]) as viewer, ViewerClient(viewer) as client:
        data, model = viewer.pipeline.datamanager, viewer.pipeline.model
        number = data.names("train").index(VIEW)
        camera = data.camera(number)
        with viewer.train_lock:  # the viewer draws this model, too, and a drawing of another camera may come between
            labels = model.label_image(camera)
        width, height = int(camera.width), int(camera.height)
        pose = camera.camera_to_worlds.reshape(3, 4).double().numpy()
        client.look(
            wxyz=(vtf.SO3.from_matrix(pose[:, :3]) @ vtf.SO3.from_x_radians(np.pi)).wxyz.tolist(),
            position=(pose[:, 3] * 10).tolist(),
            fov=float(2 * np.arctan(height / 2 / float(camera.fy))),
            aspect=width / height,
        )
        known = viewer.viser_server.get_clients()
        [browser] = known.values()
        client.wait(lambda: np.allclose(browser.camera.position, pose[:, 3] * 10, atol=1e-3), "the camera")
        for group in (2, 4, FLOOR):
            # The pixel of the object that is farthest from any other.
            y, x = np.unravel_index(distance_transform_edt((labels == group).numpy()).argmax(), labels.shape)
            place = [
                float(0.5 + (x + 0.5 - float(camera.cx)) / width),
                float(0.5 + (y + 0.5 - float(camera.cy)) / height),
            ]
            said = client.answer(
                lambda place=place: client.send(
                    "SceneNodeClickMessage",
                    name="/segment",
                    instance_index=None,
                    ray_origin=[0.0, 0.0, 10.0],
                    ray_direction=[0.0, 0.0, 1.0],
                    screen_pos=place,
                )
            )
            assert said.startswith(f"Selected group {group}:")
