"""Scores of one run on photographs that a lens has bent, and on undistorted copies of them.

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


def places(copy: dict[str, Any], scene: dict[str, Any], shift: tuple[float, float] = (0.0, 0.0)) -> Maps:
    """Where a picture without distortion shows what each pixel of another of the same pose shows.

    Args:
        copy: camera and lens of the other.
        scene: camera of the picture, whose axes are those of the other.
        shift: from the middle of the pixels to the place in them that is meant.
    """
    pixels = _pixels(copy["w"], copy["h"]) + np.array(shift)
    rays = cv2.undistortPoints(pixels.reshape(-1, 1, 2), _camera(copy), _bends(copy)).reshape(pixels.shape)
    camera = _camera(scene)
    return np.asarray(rays, dtype=float) * camera[[0, 1], [0, 1]] + camera[:2, 2]


def bent_places(straight: dict[str, Any], meta: dict[str, Any]) -> Maps:
    """Where a bent photograph shows what each pixel of a picture without distortion shows."""
    camera, pixels = _camera(straight), _pixels(straight["w"], straight["h"])
    rays = (pixels.reshape(-1, 2) - camera[:2, 2]) / camera[[0, 1], [0, 1]]
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    found, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), _camera(meta), _bends(meta))
    return np.asarray(found, dtype=float).reshape(pixels.shape)


def undistorted(meta: dict[str, Any]) -> dict[str, Any]:
    """The camera of the copy that OpenCV makes of a bent photograph: what it shows without its borders."""
    camera = _camera(meta)
    camera[:2, 2] -= 0.5  # the middle of the first pixel is 0 there
    size = meta["w"], meta["h"]
    new, (left, top, width, height) = cv2.getOptimalNewCameraMatrix(camera, _bends(meta), size, 0)
    found = {"fl_x": new[0, 0], "fl_y": new[1, 1], "cx": new[0, 2] + 0.5 - left, "cy": new[1, 2] + 0.5 - top}
    numbers = {name: float(value) for name, value in found.items()}
    return {**meta, **numbers, "w": int(width), "h": int(height), **dict.fromkeys(LENS, 0.0)}


def _color(picture: NDArray[np.uint8], found: Maps) -> NDArray[np.uint8]:
    x, y = np.moveaxis((found - 0.5).astype(np.float32), -1, 0)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR), dtype=np.uint8)


def _flat(found: Maps, size: tuple[int, int]) -> torch.Tensor:
    """The pixel of a picture of `size` (height, width) at each place: int64, flat, -1 outside."""
    x, y = np.moveaxis(np.floor(found).astype(np.int64), -1, 0)
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
        straight = {**fine, **dict.fromkeys(LENS, 0.0)}
        found = bent_places(straight, meta)
        frames = []
        for frame in meta["frames"]:
            # With the suffix, whatever the file says.
            [file] = self.scene.glob(str(Path(frame["file_path"]).with_suffix(".*")))
            name = Path(frame["file_path"]).with_suffix(".png")
            _save(_color(np.asarray(Image.open(file).convert("RGB")), found), self.out / name)
            frames.append({**frame, "file_path": name.as_posix()})
        dropped = ("camera_angle_x", "camera_angle_y")
        kept = {name: value for name, value in straight.items() if name not in dropped}
        _write(self.out, {**kept, "frames": frames}, self.scene)


@dataclass
class Copies:
    """A scene without distortion twice, coarser: as a lens that bends would have taken it, and that undistorted."""

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
        size = fine["h"], fine["w"]
        bent = {**_coarser(fine, self.coarser), **{name: float(getattr(self, name)) for name in LENS}}
        for name, copy in (("straight", undistorted(bent)), ("bent", bent)):
            folder = self.out / name
            # Of the finer scene, several in each pixel: a photograph is their mean.
            steps = (np.arange(self.coarser) + 0.5) / self.coarser - 0.5
            each = [places(copy, fine, (x, y)) for y in steps for x in steps]
            middle = _flat(places(copy, fine), size)
            images = [Path(frame["file_path"]) for frame in fine["frames"]]
            for image in images:
                picture = np.asarray(Image.open(self.scene / image).convert("RGB"))
                mean = np.mean([_color(picture, found).astype(float) for found in each], axis=0)
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
