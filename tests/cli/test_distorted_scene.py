"""Commands where photographs and views differ: what a user has, and gets, lies on the photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from bent_scene import distort_scene
from constructed_run import build_run
from gseg_ns.benchmarking.clicks import ClickProtocol, score_clicks
from gseg_ns.benchmarking.promptable import score_prompts
from gseg_ns.benchmarking.settings import PromptableSettings
from gseg_ns.cli.evaluate import Eval
from gseg_ns.cli.render import Render
from gseg_ns.cli.select import Select
from gseg_ns.errors import GsegError
from gseg_ns.masks import read_label_map
from gseg_ns.runs.run import load_run
from gseg_ns.selection.store import Fingerprint, load_selections

VIEW = "frame_00001"


@pytest.fixture(scope="module")
def bent(ball_room: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A scene with a strong lens, and a run on it whose groups are right."""
    folder = tmp_path_factory.mktemp("bent")
    scene = distort_scene(ball_room, folder / "scene", {"k1": 0.3}, ("masks", "gt/object"))
    return scene, build_run(scene, folder)


def score(config: Path, truth: Path, output: Path) -> dict[str, float]:
    Eval(load_config=config, ground_truth=truth, output=output, pictures=output.with_suffix("")).main()
    return json.loads(output.read_text())


def test_scores_are_those_of_a_scene_without_distortion(
    bent: tuple[Path, Path], ball_room: Path, constructed_run: Path, tmp_path: Path
) -> None:
    scene, config = bent
    here = score(config, scene / "gt/object", tmp_path / "bent.json")
    there = score(constructed_run, ball_room / "gt/object", tmp_path / "plain.json")
    assert abs(here["iou"] - there["iou"]) < 0.3
    assert abs(here["boundary_iou"] - there["boundary_iou"]) < 1.5
    assert (tmp_path / "bent" / "frame_00000.png").is_file()


def test_clicks_and_prompts_score_as_on_a_scene_without_distortion(
    bent: tuple[Path, Path], ball_room: Path, constructed_run: Path, tmp_path: Path
) -> None:
    scores = []
    for number, (scene, config) in enumerate((bent, (ball_room, constructed_run))):
        run, truth = load_run(config), scene / "gt/object"
        clicked = score_clicks(run, truth, ClickProtocol(clicks=1))
        asked = PromptableSettings(scene=scene, object_id=2)
        prompted = score_prompts(run, truth, VIEW, asked, tmp_path / f"{number}.png")
        assert all(key in prompted["rows"] for key in ("click", "mask"))
        scores.append((np.mean([entry.iou for entry in clicked]), prompted["rows"]["mask"]["iou"], len(clicked)))
        widths = {image.width for image in map(Image.open, (scene / "images").glob("*.png"))}
        assert Image.open(tmp_path / f"{number}.png").width >= 4 * max(widths)
    (clicked_bent, prompted_bent, count_bent), (clicked_plain, prompted_plain, count_plain) = scores
    assert count_bent == count_plain == 6
    assert abs(clicked_bent - clicked_plain) < 1
    assert abs(prompted_bent - prompted_plain) < 1


def test_ids_that_were_rendered_are_the_run_s_own(bent: tuple[Path, Path], tmp_path: Path) -> None:
    Render(load_config=bent[1], output_dir=tmp_path, outputs=()).main()
    assert score(bent[1], tmp_path / "ids", tmp_path / "s.json")["iou"] > 99.9


def test_ids_lie_on_the_photographs(bent: tuple[Path, Path], tmp_path: Path) -> None:
    scene, config = bent
    Render(load_config=config, output_dir=tmp_path, split="train", outputs=("photo-overlay", "depth")).main()
    ids = read_label_map(tmp_path / "ids" / f"{VIEW}.png")
    truth = read_label_map(scene / "gt/object" / f"{VIEW}.png")
    assert ids.shape == truth.shape
    for name in truth.unique()[1:]:
        shown = truth == name
        group = ids[shown].mode().values
        assert ((ids == group) & shown).sum() / ((ids == group) | shown).sum() > 0.88, int(name)
    border = read_label_map(scene / "masks" / f"{VIEW}.png") > 0
    border[8:-8, 8:-8] = False
    assert border.sum() > 100
    assert (ids[border] > 0).float().mean() > 0.8, "what undistortion cuts off is labelled, too"
    overlay = np.asarray(Image.open(tmp_path / "photo-overlay" / f"{VIEW}.png")).astype(int)
    photo = np.asarray(Image.open(scene / "images" / f"{VIEW}.png").convert("RGB")).astype(int)
    inside = ndimage.binary_erosion((ids > 0).numpy(), iterations=2)
    assert overlay.shape == photo.shape
    assert np.corrcoef(overlay[inside].ravel(), photo[inside].ravel())[0, 1] > 0.45
    Render(load_config=config, output_dir=tmp_path / "view", split="train", outputs=("rgb",), frame="view").main()
    assert read_label_map(tmp_path / "view/ids" / f"{VIEW}.png").shape != ids.shape


def test_marks_are_made_on_the_photograph(bent: tuple[Path, Path], tmp_path: Path) -> None:
    scene, config = bent
    truth = read_label_map(scene / "gt/object" / f"{VIEW}.png").numpy()
    # The ball that is farthest from the middle: there photograph and view differ most.
    middle = (np.array(truth.shape) - 1) / 2
    far = max(np.unique(truth)[1:], key=lambda i: np.abs(np.argwhere(truth == i).mean(axis=0) - middle).max())
    y, x = np.argwhere(truth == far).mean(axis=0)
    mask = tmp_path / "mask.png"
    Image.fromarray(((truth == far) * 255).astype(np.uint8)).save(mask)
    scribble = tmp_path / "scribble.png"
    Image.fromarray(ndimage.binary_erosion(truth == far, iterations=4).astype(np.uint8)).save(scribble)
    fingerprint, chosen = Fingerprint.of(load_run(config).model.means), []
    for number, marks in enumerate(({"point": ((x + 0.5, y + 0.5),)}, {"mask": mask}, {"scribble": scribble})):
        output = tmp_path / f"{number}.npz"
        Select(load_config=config, output=output, view=VIEW, **marks).main()
        chosen.append(load_selections(output, fingerprint)["selection"].unpack())
    assert chosen[0].any()
    assert torch.equal(chosen[0], chosen[1])
    assert torch.equal(chosen[0], chosen[2])
    Select(load_config=config, output=tmp_path / "seen.png", view=VIEW, mask=mask).main()
    seen = np.asarray(Image.open(tmp_path / "seen.png")) > 0
    assert (seen & (truth == far)).sum() / (seen | (truth == far)).sum() > 0.85


def test_a_mark_of_another_picture_is_refused(bent: tuple[Path, Path], tmp_path: Path) -> None:
    Image.fromarray(np.ones((50, 200), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(GsegError, match="200x50"):
        Select(load_config=bent[1], output=tmp_path / "o.npz", view=VIEW, mask=tmp_path / "m.png").main()


def test_pictures_of_two_cameras_do_not_overwrite_each_other(ball_room: Path, tmp_path: Path) -> None:
    scene = Path(shutil.copytree(ball_room, tmp_path / "scene"))
    meta = json.loads((scene / "transforms.json").read_text())
    renamed = {}
    for view, frame in enumerate(meta["frames"]):
        old, new = Path(frame["file_path"]).name, f"{('left', 'right')[view % 2]}/{view // 2:04d}.png"
        for kind in ("images", "masks", "gt/object"):
            (scene / kind / new).parent.mkdir(exist_ok=True)
            (scene / kind / old).rename(scene / kind / new)
        renamed[frame["file_path"]] = frame["file_path"] = f"images/{new}"
    for key in ("train_filenames", "test_filenames"):
        meta[key] = [renamed[name] for name in meta[key]]
    (scene / "transforms.json").write_text(json.dumps(meta))
    config = build_run(scene, tmp_path)
    Render(load_config=config, output_dir=tmp_path / "r", split="train", outputs=()).main()
    assert len(list((tmp_path / "r/ids").rglob("*.png"))) == 12
    assert (tmp_path / "r/ids/right/0000.png").is_file()
    scores = score(config, scene / "gt/object", tmp_path / "s.json")
    assert scores["num_views"] == 4
    assert scores["iou"] > 85
    with pytest.raises(GsegError, match="give the folder too"):
        Select(load_config=config, output=tmp_path / "o.npz", view="0001", point=((5, 5),)).main()
