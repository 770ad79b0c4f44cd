"""Messy Rooms: 25 to 500 objects, scene-level panoptic quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.folders import read_ids
from gseg_ns.evaluation.panoptic import messy_rooms_quality
from gseg_ns.evaluation.protocols.base import (
    Protocol,
    ProtocolOptions,
    ProtocolScene,
    ProtocolScores,
    Target,
    numeric,
    require,
    require_predictions,
    subset,
)
from gseg_ns.files import atomic_path
from gseg_ns.reading import read_json, reading

TEST_SHARE = 0.2


class MessyRooms(Protocol):
    """Messy Rooms as Contrastive Lift evaluates it."""

    name = "messy-rooms"
    source = "Contrastive Lift (arXiv 2306.04633), figshare of its project page; used by Unified-Lift, Table 3."
    layout = """\
messy_rooms/<scene>/          old_room_25 ... large_corridor_500
  color/  0.png ...           the last fifth, by number, are test views
  semantic/  0.npy ...        0 background, 1 foreground
  instance/  0.npy ...
  metadata.json               camera: K (normalised), positions, quaternions (w x y z, Blender axes)"""
    predictions = "<frame>.png: label maps, ids consistent over views; optionally semantic/<frame>.png of 0 and 1"
    counted = (
        "All test pixels as one image at 512 x 512 (nearest); a segment matches at IoU > 0.5; PQ is the mean of "
        "foreground (things) and background (stuff), less classes under 0.5 % of the pixels. Without semantic maps the "
        "largest predicted segment is the background (Unified-Lift). Every test view must be predicted."
    )
    metrics = ("PQ_scene", "SQ", "RQ")
    known_scenes = tuple(f"{room}_{n}" for room in ("old_room", "large_corridor") for n in (25, 50, 100, 500))

    def is_scene(self, folder: Path) -> bool:
        return (folder / "metadata.json").is_file() and (folder / "color").is_dir()

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        options = options or ProtocolOptions()
        folder = self.scene_folder(root, scene)
        images = require(folder / "color", self)
        names = sorted((p.name for p in images.glob("*.png") if p.name[0] != "."), key=numeric)
        first = int(len(names) * (1 - TEST_SHARE))
        train, test = names[:first], names[first:]
        if not train or not test:
            raise GsegError(f"{images} has {len(names)} images, too few for a split of {1 - TEST_SHARE:.0%}.")
        targets: dict[str, Target] = {}
        for name in test:
            stem = Path(name).stem
            require(folder / "semantic" / f"{stem}.npy", self)
            targets[f"{stem}.png"] = Target(name, require(folder / "instance" / f"{stem}.npy", self))
        return ProtocolScene(scene, folder, images, subset(train, options), tuple(test), targets, options=options)

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        require_predictions(scene, predictions)
        stems = [Path(name).stem for name in scene.targets]
        semantics = [predictions / "semantic" / f"{stem}.png" for stem in stems]
        given = [path.is_file() for path in semantics]
        if any(given) and not all(given):
            absent = semantics[given.index(False)]
            raise GsegError(f"{absent} is missing: give semantic maps for all test views or none.")
        scores = messy_rooms_quality(
            [read_ids(predictions / name) for name in scene.targets],
            [read_ids(scene.root / "semantic" / f"{stem}.npy") for stem in stems],
            [read_ids(target.truth) for target in scene.targets.values()],
            [read_ids(path) for path in semantics] if all(given) else None,
        )
        return ProtocolScores(
            {"PQ_scene": scores.pq, "SQ": scores.sq, "RQ": scores.rq},
            {
                {0: "background", 1: "foreground"}[i]: {"PQ": c.pq, "SQ": c.sq, "RQ": c.rq}
                for i, c in scores.classes.items()
            },
        )

    def prepare(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> tuple[Path, ...]:
        """Write a Nerfstudio transforms.json from metadata.json, with the protocol's split.

        Raises:
            GsegError: as `load`; the metadata is damaged or has another number of cameras.
        """
        loaded = self.load(root, scene, options)
        path = loaded.root / "transforms.json"
        content = json.dumps(transforms(loaded), indent=1)
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf8")
        return (path,)


def transforms(scene: ProtocolScene) -> dict[str, Any]:
    """Cameras of a Messy Rooms scene in Nerfstudio's format.

    The metadata's poses are camera-to-world with Blender's axes, which are OpenGL's and Nerfstudio's; its K is divided
    by the image size and has signs that are dropped.

    Raises:
        GsegError: the metadata is damaged or has fewer cameras than images.
    """
    from PIL import Image

    path = scene.root / "metadata.json"
    names = sorted((p.name for p in scene.images.glob("*.png") if p.name[0] != "."), key=numeric)
    with reading(scene.images / names[0], "an image"), Image.open(scene.images / names[0]) as image:
        width, height = image.size
    about = ("Messy Rooms metadata", "It needs camera.K, camera.positions, camera.quaternions.")
    with reading(path, *about):
        camera = read_json(path, *about)["camera"]
        k = np.abs(np.asarray(camera["K"], dtype=float).reshape(3, 3)) * np.array([[width], [height], [1]])
        positions = np.asarray(camera["positions"], dtype=float).reshape(-1, 3)
        quaternions = np.asarray(camera["quaternions"], dtype=float).reshape(-1, 4)
        if not (quaternions**2).sum(axis=1).all():
            raise ValueError("a quaternion of zeros")
    if not len(positions) == len(quaternions) >= len(names):
        raise GsegError(
            f"{path} has {len(positions)} positions and {len(quaternions)} quaternions for {len(names)} images."
        )
    frames = []
    for name, position, (w, x, y, z) in zip(names, positions, quaternions, strict=False):
        n = 2 / (w * w + x * x + y * y + z * z)
        rotation = [
            [1 - n * (y * y + z * z), n * (x * y - w * z), n * (x * z + w * y)],
            [n * (x * y + w * z), 1 - n * (x * x + z * z), n * (y * z - w * x)],
            [n * (x * z - w * y), n * (y * z + w * x), 1 - n * (x * x + y * y)],
        ]
        matrix = [[*map(float, row), float(p)] for row, p in zip(rotation, position, strict=True)]
        frames.append({"file_path": f"color/{name}", "transform_matrix": [*matrix, [0.0, 0.0, 0.0, 1.0]]})
    test = [f"color/{name}" for name in scene.test]
    return {
        **{"camera_model": "OPENCV", "w": width, "h": height},
        **{"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]},
        "train_filenames": [f"color/{name}" for name in scene.train],
        **{"val_filenames": test, "test_filenames": test},
        "frames": frames,
    }
