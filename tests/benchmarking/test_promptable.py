from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import tyro
from PIL import Image

from gseg_ns.benchmarking import promptable, training
from gseg_ns.benchmarking.promptable import deepest_pixel, spread_views
from gseg_ns.benchmarking.training import TrainedRun, TrainSettings
from gseg_ns.cli.bench import Bench
from gseg_ns.errors import GsegError
from gseg_ns.masks.io import read_label_map


def test_every_view_has_a_chosen_one_near() -> None:
    clusters = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])
    offsets = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [-0.3, 0, 0], [0, 0, 0.3]])
    positions = (clusters[:, None] + offsets).reshape(-1, 3)
    # The middle of each cluster, and not its rim.
    assert spread_views(positions, 3) == [0, 4, 8]
    assert spread_views(positions[:2], 5) == [0, 1]


def test_a_click_is_deep_inside_and_the_edge_of_the_image_is_outline() -> None:
    mask = torch.zeros((20, 30), dtype=torch.bool)
    mask[0:9, 5:14] = True
    assert deepest_pixel(mask) == (9.5, 4.5)


@pytest.fixture
def trained(gaga_run: Path, monkeypatch: pytest.MonkeyPatch) -> list[TrainSettings]:
    asked: list[TrainSettings] = []

    def train(settings: TrainSettings, output: Path, experiment: str) -> TrainedRun:
        asked.append(settings)
        return TrainedRun(gaga_run, 1.0, 0.5)

    monkeypatch.setattr(training, "ns_train", train)
    return asked


def bench(*arguments: str | Path) -> None:
    tyro.cli(Bench, args=["promptable", *map(str, arguments)]).main()


def test_masks_of_few_views_are_written_and_prompts_scored(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    truth = small_scene / "gt/instance"
    ids, sizes = torch.cat([read_label_map(path).flatten() for path in sorted(truth.glob("*.png"))]).unique(
        return_counts=True
    )
    wanted = int(ids[sizes.argmax()])
    arguments = ("--scene", small_scene, "--ground-truth", "gt/instance", "--object-id", wanted, "--output", tmp_path)
    bench(*arguments, "--views", "2")
    assert "boundary IoU" in capsys.readouterr().out

    [settings] = trained
    files = sorted(Path(settings.masks).glob("*.png"))
    assert len(files) == 2
    labels = read_label_map(files[0])
    assert torch.equal(labels == 1, read_label_map(truth / files[0].name) == wanted)
    assert set(labels.unique().tolist()) <= {1, 2}
    assert "--pipeline.datamanager.masks-are-consistent" in settings.options

    result = json.loads((tmp_path / "promptable_small.json").read_text())
    assert result["view"] in {path.stem for path in files}
    assert list(result["rows"]) == ["click", "mask", "click, largest piece", "mask, largest piece", "ceiling"]
    for row in result["rows"].values():
        assert row["worst"] <= row["iou"] <= 100
    # The run knows every object of the scene: what is clicked is the largest of them.
    assert result["rows"]["click"]["iou"] > 60
    assert result["rows"]["ceiling"]["iou"] > 60
    assert Image.open(result["picture"]).width > 96

    bench(*arguments, "--views", "2")
    bench(*arguments, "--views", "2", "--threshold", "0.5")
    assert len(trained) == 1  # the cell is reused, and of other prompts the run
    bench(*arguments, "--masks", "masks")
    assert trained[1].masks == str((small_scene / "masks").resolve())
    assert "--pipeline.datamanager.masks-are-consistent" not in trained[1].options


def test_a_prompt_that_fails_leaves_the_run(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise GsegError("There is nothing at 3, 4")

    monkeypatch.setattr(promptable, "score_prompts", fails)
    for _ in range(2):
        with pytest.raises(GsegError, match="There is nothing"):
            bench("--scene", small_scene, "--ground-truth", "gt/instance", "--output", tmp_path)
    assert len(trained) == 1


def test_masks_of_another_object_or_ground_truth_have_a_folder_of_their_own(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promptable, "score_prompts", lambda *_: {})
    monkeypatch.setattr(promptable, "promptable_table", lambda _: "")
    for truth, name in (("gt/object", "1"), ("gt/part", "1"), ("gt/object", "0"), ("gt/object", None)):
        wanted = () if name is None else ("--object-id", name)
        bench("--scene", small_scene, "--ground-truth", truth, *wanted, "--output", tmp_path)
    assert len({settings.masks for settings in trained}) == 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--object-id", "999"), "in no training view"),
        (("--view", "nothing"), "nothing is not a training view"),
        (("--views", "0"), "give at least 1"),
        (("--threshold", "2"), "between -1 and 1"),
        (("--scale", "0.5"), "gaga: no method with scales"),
        (("--method", "saga", "--scale", "1.5"), "between 0"),
    ],
)
def test_what_cannot_be_prompted_is_told_before_training(
    small_scene: Path, tmp_path: Path, trained: list[TrainSettings], option: tuple[str, str], message: str
) -> None:
    with pytest.raises(GsegError, match=message):
        bench("--scene", small_scene, "--ground-truth", "gt/instance", "--output", tmp_path, *option)
    assert trained == []
