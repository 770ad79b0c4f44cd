"""An exported object as tools read it that nobody here wrote, beside its picture: is it upright, and the same?

python benchmarks/other_tools.py outputs/scene/gaga/.../config.yml --group 3 --picture other-tools.jpg \
    --npm FOLDER   # where `npm install gltf-validator @playcanvas/splat-transform` ran

Ends with an error where what a tool reads does not stand as the format promises. A tool that is missing is left out.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from scipy.spatial import cKDTree
from torch import Tensor

from gseg_ns.choices import SplatFormat
from gseg_ns.cli.export import Export
from gseg_ns.pictures import captioned, contact_sheet, to_bytes
from gseg_ns.rendering import Camera
from gseg_ns.runs import load_run
from gseg_ns.splats import Splats, read_ply
from gseg_ns.views.drawing import draw_view

FloatArray = NDArray[np.float64]

_HEIGHT, _WIDTH = 420, 270
_MARGIN = 1.15
_DC = 0.28209479177387814
"""The harmonic of degree 0, as the 3DGS paper and all that read its files have it."""
_OFF = 1e-3
"""Of an object's height: how far a point may be from where it is in the run."""
_STANDING = {
    "z": np.eye(3),
    "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
"""By the axis that points up, the turn after which z does."""
_VALIDATE = """
const validator = require("gltf-validator"), data = require("fs").readFileSync(process.argv[1])
validator.validateBytes(new Uint8Array(data)).then(({issues, info}) => {
  const codes = {}
  for (const {code} of issues.messages) codes[code] = (codes[code] || 0) + 1
  console.log(`${issues.numErrors} errors, ${issues.numWarnings} warnings: ${JSON.stringify(codes)}`)
})
"""


@dataclass(frozen=True)
class Reading:
    """What a tool made of a file."""

    said: str
    up: str
    """What the format, or the tool, promises: a key of `_STANDING`."""
    points: FloatArray  # [n, 3]
    colors: FloatArray | None = None  # [n, 3], 0..1


class MissingTool(Exception):
    """It is not installed."""


def of_plyfile(ply: Path, up: str | None = None) -> Reading:
    """The PLY, by the reader of most Python tools.

    Args:
        ply: the file.
        up: where the file does not say it.
    """
    from plyfile import PlyData

    data = PlyData.read(ply)
    rows = data["vertex"]
    said = next((line.rsplit(None, 1)[1] for line in data.comments if line.startswith("Vertical Axis:")), up)
    assert said is not None, "nothing says which way is up"
    points, harmonics = (np.stack([rows[f"{name}{k}"] for k in ends], axis=1) for name, ends in _COLUMNS)
    text = f"{len(rows)} vertices of {len(rows.properties)} properties; {'; '.join(data.comments[:3])}"
    return Reading(text, said, points.astype(float), _colors(harmonics))


_COLUMNS = (("", "xyz"), ("f_dc_", "012"))


def of_open3d(ply: Path) -> Reading:
    """The PLY, by a library of point clouds, which takes no colors from a splat."""
    import open3d

    cloud = open3d.io.read_point_cloud(str(ply))
    return Reading(f"{cloud}, colors: {cloud.has_colors()}", "z", np.asarray(cloud.points))


def of_trimesh(glb: Path) -> Reading:
    """The glTF, by a library of meshes, which takes its points, nodes and `COLOR_0`."""
    import trimesh

    scene = trimesh.load_scene(glb)
    cloud = scene.to_geometry()
    assert isinstance(cloud, trimesh.PointCloud)
    return Reading(f"nodes {list(scene.geometry)}, {cloud}", "y", cloud.vertices, np.asarray(cloud.colors)[:, :3] / 255)


def of_usd(path: Path) -> Reading:
    """The USD, by Pixar's own library."""
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(path))
    (prim,) = (prim for prim in stage.Traverse() if prim.GetTypeName() == "ParticleField3DGaussianSplat")
    values = {name: np.asarray(prim.GetAttribute(name).Get(), float) for name in (_POSITIONS, _HARMONICS)}
    matrix = np.asarray(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.Default()))
    up = str(UsdGeom.GetStageUpAxis(stage))
    points = values[_POSITIONS] @ matrix[:3, :3] + matrix[3, :3]
    colors = _colors(values[_HARMONICS].reshape(len(points), -1, 3)[:, 0])
    return Reading(f"{prim.GetPath()} of {len(points)} particles, up axis {up}", up.lower(), points, colors)


_POSITIONS, _HARMONICS = "positions", "radiance:sphericalHarmonicsCoefficients"


def of_splat_transform(path: Path, npm: Path) -> Reading:
    """The file as PlayCanvas' converter writes it as a PLY: as it was where it was one, otherwise with y down."""
    command = npm / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    out = path.with_suffix(".read.ply")
    said = _node(npm, command, str(command), "--overwrite", str(path), str(out))
    back = of_plyfile(out, up="z" if path.suffix == ".ply" else "-y")
    lines = [line.strip(" ·▸") for line in said.splitlines()]
    return Reading("; ".join(line for line in lines if "gaussians" in line), back.up, back.points, back.colors)


def validated(glb: Path, npm: Path) -> str:
    """What Khronos' glTF validator says."""
    return _node(npm, npm / "node_modules" / "gltf-validator", "-e", _VALIDATE, str(glb)).strip()


def _node(npm: Path, needed: Path, *arguments: str) -> str:
    node = which("node")
    if node is None or not needed.exists():
        raise MissingTool(f"npm install {needed.name} in the folder --npm")
    done = subprocess.run([node, *arguments], cwd=npm, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def _colors(harmonics: FloatArray) -> FloatArray:
    """Of coefficients of degree 0 [n, 3]."""
    return np.clip(0.5 + _DC * harmonics.astype(float), 0, 1)


def check(reading: Reading, truth: FloatArray) -> float:
    """Whether what was read stands as the object stands in the run, whose z points up.

    Returns:
        how far a point is at most from its place, of the object's height.

    Raises:
        AssertionError: it does not.
    """
    height = float(np.ptp(truth[:, 2]))
    standing = _centred(reading.points @ _STANDING[reading.up].T)
    upside_down = standing * [1, -1, -1]
    off, fallen = (float(cKDTree(points).query(_centred(truth))[0].max()) for points in (standing, upside_down))
    assert len(reading.points) == len(truth), f"{len(reading.points)} of {len(truth)} Gaussians"
    assert off < _OFF * height < fallen, f"{off / height:.2g} of its height from where it should be"
    return off / height


def _centred(points: FloatArray) -> FloatArray:
    return points - points.mean(axis=0)


def drawn(reading: Reading, height: float) -> Tensor:
    """The points from the side, the axis that the format promises pointing up: [H, W, 3].

    Args:
        reading: of a tool.
        height: that the picture shows.
    """
    points = reading.points @ _STANDING[reading.up].T
    scale = _HEIGHT / height
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    across = _WIDTH / 2 + (points[:, 0] - middle[0]) * scale
    down = _HEIGHT / 2 - (points[:, 2] - middle[2]) * scale
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    for row in np.argsort(-points[:, 1]):  # from the far ones on
        color = (90, 90, 90) if reading.colors is None else tuple(int(255 * x) for x in reading.colors[row])
        draw.ellipse((across[row] - 3, down[row] - 3, across[row] + 3, down[row] + 3), fill=color)
    return torch.from_numpy(np.asarray(picture).copy()).float() / 255


def rendered(splats: Splats, height: float) -> Tensor:
    """Our picture of the object, from the side and from so far that it is nearly parallel: [H, W, 3]."""
    means = splats.means
    away = 40 * height
    middle = (means.amin(0) + means.amax(0)) / 2
    view = torch.eye(4)
    view[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    view[:3, 3] = -view[:3, :3] @ (middle - torch.tensor([0.0, away, 0]))
    focal = away * _HEIGHT / height
    K = torch.tensor([[focal, 0, _WIDTH / 2], [0, focal, _HEIGHT / 2], [0, 0, 1]])
    return draw_view(splats, Camera(view, K, _WIDTH, _HEIGHT), background=1.0).rgb


def main(config: tyro.conf.Positional[Path], group: int, picture: Path, npm: Path = Path()) -> None:
    """Export an object in each format, read it with each tool, check and draw what was read.

    Args:
        config: `config.yml` of a run.
        group: the object.
        picture: to write.
        npm: folder with the `node_modules` of the two tools of npm.
    """
    console = Console(width=140)
    run = load_run(config)
    with TemporaryDirectory() as folder:
        files = {form: _exported(config, group, Path(folder) / form, form) for form in _FORMATS}
        truth = read_ply(files["ply"])
        own = run.model.splats()
        _, rows = cKDTree(own.means.detach().numpy()).query(truth.means.numpy())
        splats = own.subset(torch.from_numpy(rows))  # of the run, not of a file
        points = splats.means.detach().double().numpy()
        height = _MARGIN * float(np.ptp(points[:, 2]))
        panels = [captioned(rendered(splats, height), "the run, rendered here", (0, 0, 0))]
        tools: list[tuple[str, Callable[[], Reading]]] = [
            ("PLY: plyfile", lambda: of_plyfile(files["ply"])),
            ("PLY: Open3D, no colors", lambda: of_open3d(files["ply"])),
            ("PLY: splat-transform", lambda: of_splat_transform(files["ply"], npm)),
            ("SPZ: splat-transform", lambda: of_splat_transform(files["spz"], npm)),
            ("glTF: trimesh", lambda: of_trimesh(files["glb"])),
            ("USD: usd-core", lambda: of_usd(files["usd"])),
        ]
        for name, read in tools:
            try:
                reading = read()
            except (ImportError, MissingTool) as missing:
                console.print(f"{name}: left out, {missing}", markup=False)
                continue
            off = check(reading, points)
            console.print(f"{name}: {reading.said}; upright, {off:.1e} of its height off", markup=False)
            panels.append(captioned(drawn(reading, height), name, (0, 0, 0)))
        try:
            console.print(f"glTF: Khronos' validator: {validated(files['glb'], npm)}", markup=False)
        except MissingTool as missing:
            console.print(f"glTF: Khronos' validator: left out, {missing}", markup=False)
    Image.fromarray(to_bytes(contact_sheet([panels]))).save(picture, quality=90)


_FORMATS: tuple[SplatFormat, ...] = ("ply", "spz", "glb", "usd")


def _exported(config: Path, group: int, folder: Path, form: SplatFormat) -> Path:
    """The file of an object."""
    Export(load_config=config, output_dir=folder, format=form, groups=[group]).main()
    (path,) = (folder / "objects").iterdir()
    return path


if __name__ == "__main__":
    tyro.cli(main)
