from __future__ import annotations

import json
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from gseg_ns.cli.segment import Segment
from gseg_ns.cli.views import _TAKEN_FOR, Views
from gseg_ns.errors import GsegError
from gseg_ns.splats import write_ply
from gseg_ns.splats.transform import transform
from gseg_ns.views.places import Kind
from splats_by_hand import ball


@pytest.fixture(scope="module")
def splat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("splat") / "ball.ply"
    write_ply(path, ball(count=500))
    return path


def test_a_bare_file_becomes_a_scene_and_a_guess_is_told(
    splat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Views(splat, tmp_path / "scene", count=3, width=64, height=48).main()
    captured = capsys.readouterr()
    told = " ".join((captured.out + captured.err).split())
    assert "Up is a guess" in told
    assert "--up X Y Z" in told
    assert "contact_sheet.png" in told
    assert f"--geometry {splat} --geometry-frame original" in told.replace("- ", "-")
    about = json.loads((tmp_path / "scene" / "views.json").read_text())
    assert (about["kind"], about["up_is_certain"], about["gaussians"]) == ("object", False, 500)
    meta = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    assert len(meta["frames"]) == 3
    Views(splat, tmp_path / "near", count=2, width=64, height=48, kind="focus").main()
    assert "taken for what photographs were taken of" in " ".join(capsys.readouterr().out.split())
    # The views go back in: the same pictures come out.
    Views(splat, tmp_path / "again", cameras=tmp_path / "scene").main()
    again = json.loads((tmp_path / "again" / "transforms.json").read_text())
    for one, other in zip(meta["frames"], again["frames"], strict=True):
        assert one["file_path"] == other["file_path"]
        assert np.allclose(one["transform_matrix"], other["transform_matrix"], atol=1e-5)


@pytest.mark.parametrize("command", [Views, Segment])
def test_every_kind_can_be_asked_for_and_told(command: type) -> None:
    kinds = set(get_args(Kind))
    assert set(get_args(get_type_hints(command)["kind"])) == kinds | {"auto"}
    assert set(_TAKEN_FOR) == kinds


def test_cameras_of_a_capture_fit_what_was_packed_from_a_run_of_it(splat: Path, tmp_path: Path) -> None:
    """Its Gaussians lie where the run's do, which its frame tells."""
    Views(splat, tmp_path / "scene", count=3, width=64, height=48).main()
    shift, scale = torch.tensor([0.5, 0.1, -0.2]), 0.8
    result = tmp_path / "ball.gseg"
    result.mkdir()
    write_ply(result / "splats.ply", transform(ball(count=500), torch.eye(3), shift * scale, scale))
    (result / "manifest.json").write_text("{}")
    matrix = torch.cat([torch.eye(3), shift[:, None]], dim=1).tolist()
    (result / "dataparser_transforms.json").write_text(json.dumps({"transform": matrix, "scale": scale}))
    Views(result / "manifest.json", tmp_path / "again", cameras=tmp_path / "scene").main()
    taken, again = (
        np.array([frame["transform_matrix"] for frame in json.loads(path.read_text())["frames"]])
        for path in (tmp_path / "scene/transforms.json", tmp_path / "again/transforms.json")
    )
    assert np.allclose(again[:, :3, 3], (taken[:, :3, 3] + shift.numpy()) * scale, atol=1e-4)
    assert np.allclose(again[:, :3, :3], taken[:, :3, :3], atol=1e-4)


@pytest.mark.parametrize("name", ["none.ply", "a.ksplat", "a.ply", "a.spz"])
def test_what_is_no_splat_is_one_message_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    if name != "none.ply":
        (tmp_path / name).write_bytes(b"not a splat")
    with pytest.raises(GsegError, match=name.replace(".", r"\.")):
        Views(tmp_path / name, tmp_path / "scene").main()
    assert not (tmp_path / "scene").exists()


def test_cameras_of_something_else_are_one_message(splat: Path, tmp_path: Path) -> None:
    entry = {
        "img_name": "a", "width": 64, "height": 48, "position": [0, 0, 9], "rotation": np.eye(3).tolist(), "fx": 50.0,
        "fy": 50.0,
    }  # fmt: skip
    (tmp_path / "cameras.json").write_text(json.dumps([entry]))
    with pytest.raises(GsegError, match="see nothing of the splat"):
        Views(splat, tmp_path / "scene", cameras=tmp_path / "cameras.json").main()
    assert not (tmp_path / "scene").exists()
