from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from gseg_ns.cli.protocol import Name, ProtocolCommand
from gseg_ns.errors import GsegError
from gseg_ns.evaluation import grounding
from gseg_ns.evaluation.protocols import PROTOCOLS
from gseg_ns.runs import run as runs


def run_command(*arguments: str) -> None:
    tyro.cli(ProtocolCommand, args=list(arguments)).main()


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    """One scene with two test views of two objects."""
    scene = tmp_path / "replica" / "room_0"
    for folder in ("images", "semantic_instance"):
        (scene / folder).mkdir(parents=True)
    ids = np.repeat([[3, 3, 8, 8, 8, 8]], 4, axis=0).astype(np.uint8)
    for split, numbers in (("train", (0, 5, 10, 15)), ("test", (2, 7))):
        for i in numbers:
            Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(scene / "images" / f"{split}_rgb_{i:04d}.png")
            Image.fromarray(ids).save(scene / "semantic_instance" / f"{split}_semantic_instance_{i:04d}.png")
    return scene


def test_the_names_are_those_of_the_registry() -> None:
    assert set(get_args(Name)) == set(PROTOCOLS)


def test_without_data_it_describes_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    run_command("messy-rooms")
    out = capsys.readouterr().out
    assert "metadata.json" in out
    assert "512" in out


def test_prepare_with_a_sparse_subset(replica: Path) -> None:
    run_command("replica-gaga", "--data", str(replica), "--prepare", "--train-percent", "50")
    assert len((replica / "train_list.txt").read_text().split()) == 2
    assert (replica / "test_list.txt").read_text().split() == ["test_rgb_0002.png", "test_rgb_0007.png"]


def fake_view(cameras: dict[str, int], name: str) -> Any:
    """A view of a lens without distortion, as `Run.view` finds it."""
    if Path(name).stem not in cameras:
        raise GsegError(f"The run has no view {name}")
    same = SimpleNamespace(draw=lambda camera, drawn: drawn(camera))
    return SimpleNamespace(
        camera=cameras[Path(name).stem], photograph=SimpleNamespace(whole=lambda camera: (same, camera))
    )


def test_a_run_is_rendered_and_scored(
    replica: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = torch.tensor([[1, 1, 2, 2, 2, 2]]).expand(4, 6)
    views = {f"test_rgb_{i:04d}": i for i in (2, 7)}
    run = SimpleNamespace(
        view=lambda name: fake_view(views, name),
        model=SimpleNamespace(label_image=lambda camera, scale: labels, has_scales=False),
        config=SimpleNamespace(method_name="gaga"),
    )
    monkeypatch.setattr(runs, "load_run", lambda path, **_: run)
    options = ("--data", str(replica.parent), "--load-config", "config.yml")
    out, scores = tmp_path / "pred", tmp_path / "scores.json"
    run_command("replica-gaga", *options, "--predictions", str(out), "--output", str(scores))
    assert {p.name for p in (out / "room_0").iterdir()} == {"test_rgb_0002.png", "test_rgb_0007.png"}
    report = json.loads(scores.read_text())
    assert report["mean"]["IoU"] == 100
    assert "100.00" in capsys.readouterr().out
    with pytest.raises(GsegError, match="--predictions"):
        run_command("replica-gaga", *options)
    views.clear()
    with pytest.raises(GsegError, match=r"no camera for test_rgb_0002\.png, test_rgb_0007\.png \(2 of 2"):
        run_command("replica-gaga", *options, "--predictions", str(out))
    with pytest.raises(GsegError, match="gaga has no scales"):
        run_command("replica-gaga", *options, "--predictions", str(out), "--scale", "0.5")
    with pytest.raises(GsegError, match="Name the scene"):
        run_command("replica-gaga", *options, "--predictions", str(out), "--scene", "room_9")


def test_texts_are_grounded_on_the_first_test_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / "desk"
    for folder, numbers in (("images", (0, 1, 2)), ("images_train", (1,))):
        (scene / folder).mkdir(parents=True)
        for i in numbers:
            Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(scene / folder / f"{i}.png")
    ids = np.repeat([[1, 1, 2, 2, 2, 2]], 4, axis=0)
    for view in ("0", "1"):
        (scene / "test_mask" / view).mkdir(parents=True)
        Image.fromarray(((ids == 2) * 255).astype(np.uint8)).save(scene / "test_mask" / view / "red cup.png")
    rgb = torch.from_numpy(ids)[..., None].expand(4, 6, 3) / 2.0
    model = SimpleNamespace(
        label_image=lambda camera, scale: torch.from_numpy(ids),
        get_outputs_for_camera=lambda camera: {"rgb": rgb},
        device=torch.device("cpu"),
    )
    run = SimpleNamespace(view=lambda name: fake_view({str(i): i for i in (0, 1, 2)}, name), model=model)
    monkeypatch.setattr(runs, "load_run", lambda path, **_: run)

    def load(name: str, sam: Path | None, threshold: float, device: torch.device) -> SimpleNamespace:
        assert (name, sam, threshold) == ("detector", None, 0.3)
        return SimpleNamespace(mask=lambda picture, text: torch.from_numpy(picture[..., 0] == 255))

    monkeypatch.setattr(grounding.TextGrounder, "load", load)
    options = ("--data", str(scene), "--load-config", "c.yml", "--predictions", str(tmp_path / "p"))
    run_command("lerf-mask", *options, "--ground", "detector", "--output", str(tmp_path / "scores.json"))
    assert "red cup: ids [2], found on view 0" in capsys.readouterr().out
    mean = json.loads((tmp_path / "scores.json").read_text())["mean"]
    assert (mean["mIoU"], mean["mIoU_picked"]) == (100, 100)
    # What a text meant then is not scored with what is rendered now.
    run_command("lerf-mask", *options, "--output", str(tmp_path / "scores.json"))
    mean = json.loads((tmp_path / "scores.json").read_text())["mean"]
    assert mean["mIoU"] == 100
    assert "mIoU_picked" not in mean
    with pytest.raises(GsegError, match="--load-config"):
        run_command("lerf-mask", "--data", str(scene), "--ground", "detector")
