"""Nerfstudio's and our own commands on a trained run, as subprocesses."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData

from gseg_ns.masks import read_label_map

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def text(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Non-zero exit, one message with these parts, no traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr, done.stderr[-2000:]
    for part in parts:
        assert part in text(done), text(done)[-2000:]


def test_ns_eval(gaga_run: Path, run_command: Run, tmp_path: Path) -> None:
    done = run_command("ns-eval", "--load-config", gaga_run, "--output-path", tmp_path / "eval.json")
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["psnr"] > 15


def test_ns_render(gaga_run: Path, run_command: Run, tmp_path: Path) -> None:
    done = run_command(
        "ns-render", "dataset", "--load-config", gaga_run, "--output-path", tmp_path, "--rendered-output-names",
        "groups", "rgb", "--image-format", "png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(tmp_path.rglob("*.png"))) == 4


def test_ns_export_and_gseg_export_agree(gaga_run: Path, run_command: Run, tmp_path: Path) -> None:
    done = run_command("ns-export", "gaussian-splat", "--load-config", gaga_run, "--output-dir", tmp_path / "ns")
    assert done.returncode == 0, done.stderr[-2000:]
    done = run_command("gseg", "export", "--load-config", gaga_run, "--output-dir", tmp_path / "gseg")
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = PlyData.read(next((tmp_path / "ns").glob("*.ply")))["vertex"]
    ours = PlyData.read(tmp_path / "gseg/scene.ply")["vertex"]
    assert theirs.count == ours.count
    for name in [prop.name for prop in theirs.properties]:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-6, err_msg=name)
    labels = np.asarray(ours["label"])
    assert np.issubdtype(labels.dtype, np.integer)
    summary = json.loads((tmp_path / "gseg/objects.json").read_text())["objects"]
    assert summary
    for item in summary:
        part = PlyData.read(tmp_path / "gseg" / item["file"])["vertex"]
        assert part.count == (labels == item["group"]).sum() == item["gaussians"]
    again = run_command("gseg", "export", "--load-config", gaga_run, "--output-dir", tmp_path / "gseg")
    refused(again, "--overwrite")


def test_an_isolated_run_is_exported_alike(gaga_run: Path, run_command: Run, tmp_path: Path) -> None:
    """`gseg isolate`, then Nerfstudio's own export, against `gseg export` of the same groups."""
    scene = tmp_path / "all"
    assert (
        run_command("gseg", "export", "--load-config", gaga_run, "--keep-floaters", "--output-dir", scene).returncode
        == 0
    )
    listed = json.loads((scene / "objects.json").read_text())["objects"]
    groups = [str(entry["group"]) for entry in listed[:2]]
    assert len(groups) == 2
    done = run_command(
        "gseg", "isolate", "--load-config", gaga_run, "--groups", *groups, "--output-dir", tmp_path / "runs"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (config,) = (tmp_path / "runs").rglob("config.yml")
    done = run_command("ns-export", "gaussian-splat", "--load-config", config, "--output-dir", tmp_path / "ns")
    assert done.returncode == 0, done.stderr[-2000:]
    done = run_command(
        "gseg", "export", "--load-config", gaga_run, "--groups", *groups, "--keep-floaters", "--output-dir",
        tmp_path / "gseg",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = PlyData.read(next((tmp_path / "ns").glob("*.ply")))["vertex"]
    ours = PlyData.read(tmp_path / "gseg/scene.ply")["vertex"]
    assert theirs.count == ours.count == sum(entry["gaussians"] for entry in listed[:2])
    for prop in theirs.properties:
        assert np.array_equal(theirs[prop.name], ours[prop.name]), prop.name


def test_ns_viewer_serves_the_run(gaga_run: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).parent / "ns-viewer", "--load-config", gaga_run, "--viewer.websocket-port", port]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.time() + 120
        while True:
            assert process.poll() is None, process.stdout.read()[-2000:] if process.stdout else ""
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).read()
                break
            except OSError:
                assert time.time() < deadline, "the viewer did not come up"
                time.sleep(0.5)
        assert b"<html" in page.lower()
    finally:
        process.terminate()
        process.wait(20)


def test_gseg_render_and_eval(gaga_run: Path, small_scene: Path, run_command: Run, tmp_path: Path) -> None:
    done = run_command(
        "gseg", "render", "--load-config", gaga_run, "--output-dir", tmp_path, "--outputs", "groups", "rgb", "overlay"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = {"frame_00004.png", "frame_00012.png"}
    for folder in ("ids", "groups", "rgb", "overlay"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == names
    assert read_label_map(tmp_path / "ids/frame_00004.png").max() > 3

    done = run_command(
        "gseg", "eval", "--load-config", gaga_run, "--ground-truth", small_scene / "gt/instance", "--output",
        tmp_path / "scores.json", "--pictures", tmp_path / "pictures",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == names | {"comparison.png"}
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["iou"] > 30, "96x72 pixels and 250 steps allow no more"
    assert f"IoU {scores['iou']:.1f}" in text(done)


def test_portraits_of_objects(gaga_run: Path, run_command: Run, tmp_path: Path) -> None:
    done = run_command(
        "gseg", "render", "--load-config", gaga_run, "--output-dir", tmp_path, "--sheet", "--turntable", "1",
        "--frames", "4", "--size", "64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.png", "turntable"}
    frames = [np.asarray(Image.open(tmp_path / f"turntable/1/{number:03d}.png")) for number in range(4)]
    assert all(frame.shape == (64, 64, 3) and frame.min() < 128 for frame in frames)
    assert not np.array_equal(frames[0], frames[2])
    assert (tmp_path / "turntable/1.mp4").stat().st_size > 500
    assert Image.open(tmp_path / "sheet.png").width >= 64
    refused(
        run_command("gseg", "render", "--load-config", gaga_run, "--output-dir", tmp_path / "no", "--turntable", "cup"),
        "no object 'cup'",
    )
    assert not (tmp_path / "no").exists()


def test_resume_by_command(gaga_run: Path, small_scene: Path, run_command: Run, tmp_path: Path) -> None:
    done = run_command(
        "ns-train", "gaga", "--data", small_scene, "--load-dir", gaga_run.parent / "nerfstudio_models",
        "--max-num-iterations", "260", "--vis", "tensorboard", "--viewer.quit-on-train-completion", "True",
        "--output-dir", tmp_path, "--timestamp", "more",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["step-000000259.ckpt"]
    complete = run_command(
        "ns-train", "gaga", "--data", small_scene, "--load-dir", gaga_run.parent / "nerfstudio_models",
        "--max-num-iterations", "250", "--vis", "tensorboard", "--output-dir", tmp_path / "none",
    )  # fmt: skip
    refused(complete, "already has its 250 steps")


def test_bad_scenes_are_refused_before_training(small_scene: Path, run_command: Run, tmp_path: Path) -> None:
    train = ("ns-train", "gaga", "--vis", "tensorboard", "--output-dir", tmp_path / "out", "--data")
    refused(
        run_command(*train, small_scene, "--pipeline.datamanager.masks-dir", "nowhere"), "nowhere", "does not exist"
    )
    scene = tmp_path / "scene"
    shutil.copytree(small_scene, scene)
    broken = scene / "masks/frame_00002.json"
    broken.write_text(broken.read_text()[:100])
    refused(run_command(*train, scene), "frame_00002.json")


def test_bad_runs_are_refused(gaga_run: Path, run_command: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(gaga_run.parent, copy)
    config = copy / "config.yml"
    refused(run_command("gseg", "render", "--load-config", tmp_path / "no.yml", "--output-dir", tmp_path), "no.yml")
    other = tmp_path / "other.yml"
    other.write_text(config.read_text().replace("gseg_ns.models.gaga", "evil.package"))
    refused(run_command("gseg", "render", "--load-config", other, "--output-dir", tmp_path), "evil.package")

    checkpoint = next(copy.rglob("*.ckpt"))
    checkpoint.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    refused(run_command("gseg", "render", "--load-config", config, "--output-dir", tmp_path), checkpoint.name)
    refused(run_command("gseg", "eval", "--load-config", gaga_run, "--ground-truth", tmp_path), "holds no label map")
