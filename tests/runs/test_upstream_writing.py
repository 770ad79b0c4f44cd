"""What Nerfstudio's own commands write is whole, or not there."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open3d
import pytest
import torch
from nerfstudio.exporter import texture_utils, tsdf_utils
from nerfstudio.pipelines import base_pipeline
from nerfstudio.scripts import eval as ns_eval
from nerfstudio.scripts import exporter, render
from PIL import Image

from gseg_ns.errors import GsegError
from gseg_ns.runs.upstream_writing import WholePath, guard_writing

resource = pytest.importorskip("resource")  # not on Windows

guard_writing()

NOISE = np.random.default_rng(0).random((64, 64, 3))


def write_splats(path: Path) -> None:
    columns = {name: np.arange(3000, dtype=np.float32)[:, None] for name in "xyz"}
    exporter.ExportGaussianSplat.write_ply(str(path), 3000, columns)  # type: ignore[arg-type]


def write_cloud(path: Path) -> None:
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(NOISE.reshape(-1, 3)))
    exporter.o3d.t.io.write_point_cloud(str(path), exporter.o3d.t.geometry.PointCloud.from_legacy(cloud))


def write_legacy_cloud(path: Path) -> None:
    exporter.o3d.io.write_point_cloud(
        str(path), exporter.o3d.geometry.PointCloud(open3d.utility.Vector3dVector(NOISE.reshape(-1, 3)))
    )


def write_surface(path: Path) -> None:
    exporter.o3d.io.write_triangle_mesh(str(path), open3d.geometry.TriangleMesh.create_sphere(1.0, 40))


def write_fused(path: Path) -> None:
    corners = torch.rand(600, 3)
    faces = torch.arange(600).view(200, 3)
    mesh = tsdf_utils.Mesh(vertices=corners, faces=faces, normals=corners, colors=corners)
    tsdf_utils.TSDF.export_mesh(mesh, filename=str(path))


def write_outline(path: Path) -> None:
    file = texture_utils.open(path, "w", encoding="utf-8")  # type: ignore[attr-defined]
    file.writelines(["# made\n"])
    for number in range(3000):
        file.write(f"v {number} 0 0\n")
    file.close()


def write_raw(path: Path) -> None:
    with render.gzip.open(path, "wb") as file:
        np.save(file, NOISE)


def write_scores(path: Path) -> None:
    WholePath(path).write_text(json.dumps(NOISE.tolist()), "utf8")


def write_film(path: Path) -> None:
    with render.media.VideoWriter(path=path, shape=(64, 64), fps=24) as film:
        for _ in range(4):
            film.add_image(NOISE)


WRITERS: dict[str, Callable[[Path], None]] = {
    "splat.ply": write_splats,
    "cloud.ply": write_cloud,
    "legacy.ply": write_legacy_cloud,
    "surface.ply": write_surface,
    "tsdf_mesh.ply": write_fused,
    "mesh.obj": write_outline,
    "depth.npy.gz": write_raw,
    "scores.json": write_scores,
    "photograph.jpg": lambda path: render.media.write_image(path, NOISE, fmt="jpeg", quality=100),
    "material_0.png": lambda path: texture_utils.media.write_image(str(path), NOISE),
    "eval_img_0000.png": lambda path: base_pipeline.vutils.save_image(torch.rand(3, 64, 64), path),
    "film.mp4": write_film,
}


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Within this block no file grows beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def ffmpeg(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes a file of what it is sent and, as the real one may, says nothing of a full disk."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nfile = os.open(sys.argv[-1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)\n"
        "while data := os.read(0, 65536):\n    try:\n        os.write(file, data)\n    except OSError:\n        pass\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_whole_or_as_before(name: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir()
    WRITERS[name](path)
    whole = content(path.parent)
    assert whole.keys() == {name}
    path.write_bytes(b"before")
    for size in (len(whole[name]) - 1, len(whole[name]) // 2, 0):
        with pytest.raises(GsegError, match=re.escape(f"Cannot write {path}")), full_disk(size):
            WRITERS[name](path)
        assert content(path.parent) == {name: b"before"}


def test_what_is_written_is_what_it_was(tmp_path: Path) -> None:
    write_raw(tmp_path / "depth.npy.gz")
    with gzip.open(tmp_path / "depth.npy.gz") as file:
        assert np.array_equal(np.load(file), NOISE)
    assert b"depth.npy\0" in (tmp_path / "depth.npy.gz").read_bytes()[:30]
    write_outline(tmp_path / "mesh.obj")
    assert (tmp_path / "mesh.obj").read_text().splitlines()[-1] == "v 2999 0 0"
    render.media.write_image(tmp_path / "a.png", NOISE, fmt="png")
    assert np.array_equal(np.array(Image.open(tmp_path / "a.png")), render.media.to_uint8(NOISE))
    assert render.media.read_image(tmp_path / "a.png").shape == (64, 64, 3)


@pytest.mark.usefixtures("ffmpeg")
def test_a_film_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"

    def stop() -> None:
        with render.media.VideoWriter(path=path, shape=(64, 64), fps=24) as film:
            film.add_image(NOISE)
            sys.exit(1)

    with pytest.raises(SystemExit):
        stop()
    with pytest.raises(ValueError, match="dimensions"), render.media.VideoWriter(path=path, shape=(64, 64)) as film:
        film.add_image(NOISE[:5])
    assert not list(tmp_path.iterdir())


def test_a_program_that_cannot_write_is_one_message(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").write_text("#!/bin/sh\ncat > /dev/null\necho no room >&2\nexit 1\n")
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(GsegError, match=r"Cannot write .*film\.mp4 \(.*no room\)"):
        write_film(tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())


def test_films_all_around_are_marked_beside(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    # moov with a trak of 8 bytes, after an mdat
    film.write_bytes(b"\0\0\0\x0cmdat1234" + b"\0\0\0\x10moov" + b"\0\0\0\x08trak")
    before = content(tmp_path)
    with pytest.raises(GsegError, match=re.escape(f"Cannot write {film}")), full_disk(40):
        render.insert_spherical_metadata_into_file(film)
    assert content(tmp_path) == before
    render.insert_spherical_metadata_into_file(film)
    assert b"SphericalVideo" in film.read_bytes()


def test_ns_eval_writes_to_a_path_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is told by the reader of its config.yml, which it calls first."""
    command = ns_eval.ComputePSNR(load_config=tmp_path / "config.yml", output_path=tmp_path / "out.json")
    command.load_config.write_text("a: 1")
    with pytest.raises(SystemExit):
        command.main()
    assert isinstance(command.output_path, WholePath)
    pipeline: Any = SimpleNamespace(get_average_eval_image_metrics=lambda **_: {"psnr": 1.0})
    config = SimpleNamespace(experiment_name="e", method_name="m")
    monkeypatch.setattr(ns_eval, "eval_setup", lambda _: (config, pipeline, tmp_path / "a.ckpt", 1))
    command.main()
    assert json.loads((tmp_path / "out.json").read_text())["results"] == {"psnr": 1.0}
