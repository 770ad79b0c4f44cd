"""Scores of one run on photographs that a lens has bent, and on the same photographs straight.

    gseg demo fine --width 768 --height 576
    python benchmarks/distorted.py copies --scene fine --out copies --k1 0.2 --k2 -0.03
    python benchmarks/distorted.py compare --load-config RUN/config.yml --straight copies/straight --bent copies/bent

A run on any of the three scenes will do: their poses are the same. For a capture whose own lens bends, `straighten`
makes the finer scene without distortion first, and `gseg render` on it what stands for ground truth.

Nothing of the product says where a pixel goes, OpenCV does. Labels of both copies are taken from a scene that is finer
than they are: whoever bends a label map of the copies' own size has moved its borders by half a pixel already.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from gseg_ns.cli.evaluate import Eval
from gseg_ns.masks import MaskFolder, load_masks, read_label_map, write_label_map, write_mask_set

Maps = NDArray[np.float64]
"""[H, W, 2]: the place x, y in one picture that each pixel of another shows; pixels, 0.5 is the middle of the first."""

LENS = ("k1", "k2", "p1", "p2")


def _camera(meta: dict[str, Any]) -> Maps:
    return np.array([[meta["fl_x"], 0, meta["cx"]], [0, meta["fl_y"], meta["cy"]], [0, 0, 1]], dtype=float)


def _bends(meta: dict[str, Any]) -> NDArray[np.float64]:
    return np.array([meta.get(name, 0.0) for name in LENS], dtype=float)


def _pixels(width: int, height: int) -> Maps:
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y], axis=-1)


def straight_places(meta: dict[str, Any]) -> Maps:
    """Where a picture without distortion, of the same camera, shows what each pixel of a bent photograph shows."""
    camera, pixels = _camera(meta), _pixels(meta["w"], meta["h"])
    found = cv2.undistortPoints(pixels.reshape(-1, 1, 2), camera, _bends(meta), P=camera)
    return np.asarray(found, dtype=float).reshape(pixels.shape)


def bent_places(meta: dict[str, Any]) -> Maps:
    """Where a bent photograph shows what each pixel of a picture without distortion shows."""
    camera, pixels = _camera(meta), _pixels(meta["w"], meta["h"])
    rays = (pixels.reshape(-1, 2) - camera[:2, 2]) / camera[[0, 1], [0, 1]]
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    found, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera, _bends(meta))
    return np.asarray(found, dtype=float).reshape(pixels.shape)


def _color(picture: NDArray[np.uint8], places: Maps) -> NDArray[np.uint8]:
    x, y = np.moveaxis((places - 0.5).astype(np.float32), -1, 0)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR), dtype=np.uint8)


def _flat(places: Maps, size: tuple[int, int]) -> torch.Tensor:
    """The pixel of a picture of `size` (height, width) at each place: int64, flat, -1 outside."""
    x, y = np.moveaxis(np.floor(places).astype(np.int64), -1, 0)
    inside = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
    return torch.from_numpy(np.where(inside, y * size[1] + x, -1))


def _coarser(meta: dict[str, Any], by: int) -> dict[str, Any]:
    sizes = {name: meta[name] // by for name in ("w", "h")}
    return {**meta, **sizes, **{name: meta[name] / by for name in ("fl_x", "fl_y", "cx", "cy")}}


def _read(path: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((path / "transforms.json").read_text(encoding="utf-8"))
    return meta


def _write(folder: Path, meta: dict[str, Any], scene: Path) -> None:
    """Write transforms.json, beside the points of the scene that it is made from."""
    folder.mkdir(parents=True, exist_ok=True)
    if "ply_file_path" in meta:
        points = folder / meta["ply_file_path"]
        points.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scene / meta["ply_file_path"], points)
    (folder / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")


def _save(picture: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@dataclass
class Straighten:
    """A capture that its lens bends as a finer scene without distortion, for `gseg render` and `copies`."""

    scene: Path
    """A transforms.json with one camera"""
    out: Path
    """The finer scene"""
    finer: int = 3
    """Pixels of it along each side of one of the photographs"""

    def main(self) -> None:
        """Write the scene."""
        meta = _read(self.scene)
        fine = {**meta, **{name: self.finer * meta[name] for name in ("w", "h", "fl_x", "fl_y", "cx", "cy")}}
        places = bent_places(fine) / self.finer
        frames = []
        for frame in meta["frames"]:
            # With the suffix, whatever the file says.
            [file] = self.scene.glob(str(Path(frame["file_path"]).with_suffix(".*")))
            name = Path(frame["file_path"]).with_suffix(".png")
            _save(_color(np.asarray(Image.open(file).convert("RGB")), places), self.out / name)
            frames.append({**frame, "file_path": name.as_posix()})
        dropped = (*LENS, "camera_angle_x", "camera_angle_y")
        straight = {name: value for name, value in fine.items() if name not in dropped}
        _write(self.out, {**straight, "frames": frames}, self.scene)


@dataclass
class Copies:
    """A scene without distortion twice, coarser: straight, and as a lens that bends would have taken it."""

    scene: Path
    """Scene folder with a transforms.json of one camera, without distortion"""
    out: Path
    """Where `straight` and `bent` are written"""
    k1: float = 0.2
    k2: float = -0.03
    p1: float = 0.0
    p2: float = 0.0
    coarser: int = 3
    """Pixels of the scene along each side of one of the copies; odd, so that one of them is in the middle"""
    labels: tuple[str, ...] = ("gt/object",)
    """Folders of label maps"""
    masks: str | None = "masks"
    """Folder of masks"""

    def main(self) -> None:
        """Write both."""
        fine = _read(self.scene)
        meta = _coarser(fine, self.coarser)
        lens = {name: float(getattr(self, name)) for name in LENS}
        size = fine["h"], fine["w"]
        for name, bends in (("straight", dict.fromkeys(LENS, 0.0)), ("bent", lens)):
            folder, copy = self.out / name, {**meta, **bends}
            # Of the finer scene, several in each pixel: a photograph is their mean.
            each = [
                straight_places(copy) + (np.array([dx, dy]) + 0.5) / self.coarser - 0.5
                for dy in range(self.coarser)
                for dx in range(self.coarser)
            ]
            middle = _flat(straight_places(copy) * self.coarser, size)
            images = [Path(frame["file_path"]) for frame in fine["frames"]]
            for image in images:
                picture = np.asarray(Image.open(self.scene / image).convert("RGB"))
                mean = np.mean([_color(picture, places * self.coarser).astype(float) for places in each], axis=0)
                _save(mean.round().astype(np.uint8), folder / image)
                for kind in self.labels:
                    path = Path(kind) / image.with_suffix(".png").name
                    if (self.scene / path).is_file():
                        ids = read_label_map(self.scene / path).flatten()[middle.clamp_min(0)]
                        write_label_map(folder / path, torch.where(middle < 0, 0, ids))
            if self.masks is not None:
                files = MaskFolder(self.scene / self.masks).match([self.scene / image for image in images])
                for image, file in zip(images, files, strict=True):
                    if file is not None:
                        masks = load_masks(file).remap(middle)
                        write_mask_set(folder / self.masks / f"{image.stem}.json", masks)
            _write(folder, copy, self.scene)


@dataclass
class Compare:
    """`gseg eval` of one run on both copies: a row each."""

    load_config: Path
    """config.yml of a run on the scene, or on one of the copies"""
    straight: Path
    """The copy without distortion"""
    bent: Path
    """The other, or the capture itself"""
    ground_truth: str = "gt/object"
    """Folder of label maps in both"""
    bent_ground_truth: Path | None = None
    """Of `bent`, where it is elsewhere"""

    def main(self) -> None:
        """Print the table."""
        table = Table()
        for heading in ("photographs", "IoU", "precision", "recall", "boundary IoU", "PSNR", "views"):
            table.add_column(heading, justify="left" if heading == "photographs" else "right")
        for name, scores in self.scores().items():
            values = (f"{scores[key]:.2f}" for key in ("iou", "precision", "recall", "boundary_iou", "psnr"))
            table.add_row(name, *values, f"{scores['num_views']}")
        Console().print(table)

    def scores(self) -> dict[str, dict[str, Any]]:
        """What `gseg eval` writes, of the straight and of the bent photographs."""
        truth = {
            "straight": self.straight / self.ground_truth,
            "bent": self.bent_ground_truth or self.bent / self.ground_truth,
        }
        found = {}
        for name, scene in (("straight", self.straight), ("bent", self.bent)):
            output = self.straight.parent / f"eval_{name}.json"
            Eval(self.load_config, truth[name], data=scene, output=output).main()
            found[name] = json.loads(output.read_text(encoding="utf-8"))
        return found


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"straighten": Straighten, "copies": Copies, "compare": Compare}).main()
