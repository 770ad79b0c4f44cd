"""Scenes as a lens with distortion would have taken them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def distort_scene(scene: Path, folder: Path, lens: Mapping[str, float], folders: Sequence[str] = ("masks",)) -> Path:
    """A copy of a scene without distortion whose photographs, and label maps in `folders`, a lens has bent.

    What such a lens sees beyond the borders of the original is black, and 0 in the label maps. Nothing of the product
    is used: where a distorted pixel comes from is OpenCV's answer.

    Args:
        scene: with a transforms.json of one camera.
        folder: where the copy is written.
        lens: k1, k2, p1, p2 of Brown's model, or k1 to k4 and `camera_model` OPENCV_FISHEYE.
        folders: of label maps named as the images.
    """
    shutil.copytree(scene, folder)
    meta = json.loads((folder / "transforms.json").read_text())
    camera = np.array([[meta["fl_x"], 0, meta["cx"]], [0, meta["fl_y"], meta["cy"]], [0, 0, 1]])
    y, x = np.mgrid[: meta["h"], : meta["w"]] + 0.5
    pixels = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    if lens.get("camera_model") == "OPENCV_FISHEYE":
        bends = np.array([lens.get(f"k{i}", 0.0) for i in range(1, 5)])
        straight = cv2.fisheye.undistortPoints(pixels, camera, bends, P=camera)
    else:
        bends = np.array([lens.get(name, 0.0) for name in ("k1", "k2", "p1", "p2")])
        straight = cv2.undistortPoints(pixels, camera, bends, P=camera)
    maps = straight.reshape(meta["h"], meta["w"], 2).astype(np.float32) - np.float32(0.5)
    for frame in meta["frames"]:
        path = folder / frame["file_path"]
        bent = cv2.remap(np.asarray(Image.open(path).convert("RGB")), maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
        Image.fromarray(bent).save(path)
        for name in folders:
            labels = folder / name / Path(frame["file_path"]).with_suffix(".png").name
            ids = np.asarray(Image.open(labels)).astype(np.uint16)
            Image.fromarray(cv2.remap(ids, maps[..., 0], maps[..., 1], cv2.INTER_NEAREST)).save(labels)
    (folder / "transforms.json").write_text(json.dumps({**meta, **lens}))
    return folder
