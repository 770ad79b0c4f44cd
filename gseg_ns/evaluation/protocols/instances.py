"""Replica and ScanNet: whole label maps against ground-truth instances."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.folders import read_ids
from gseg_ns.evaluation.matching import evaluate_instances
from gseg_ns.evaluation.protocols.base import (
    Protocol,
    ProtocolOptions,
    ProtocolScene,
    ProtocolScores,
    Target,
    image_names,
    missing_predictions,
    numeric,
    require,
    subset,
)


class ReplicaGaga(Protocol):
    """Replica instances as Gaga evaluates them."""

    name = "replica-gaga"
    source = (
        "Gaga (arXiv 2404.07977), Tables 2 and 3. Renders by Semantic-NeRF (github.com/Harry-Zhi/semantic_nerf, "
        "`Replica_Dataset`), arranged by Gaga's data/process.py and COLMAP."
    )
    layout = """\
replica/<scene>/
  images/  {train,test}_rgb_0000.png ...                          after COLMAP's undistortion (or input/ before it)
  semantic_instance/  {train,test}_semantic_instance_0000.png ...
  sparse/0/"""
    predictions = "test_rgb_0002.png ...: one label map (PNG, ids consistent over views) for each test image"
    counted = (
        "Linear assignment of labels over all test views; hit at IoU > 0.5. IoU, Precision, Recall: official script "
        "(mean over the views that show the ground-truth label, label 0 is a label on both sides). *_paper: "
        "Algorithm 1 (mean over the views that show either, 0 is unlabelled). Predictions are resized (nearest) to the "
        "ground truth. Views without a prediction are left out, as the official script does, and listed."
    )
    metrics: ClassVar[tuple[str, ...]] = (
        *("IoU", "Precision", "Recall"),
        *("IoU_paper", "Precision_paper", "Recall_paper"),
    )
    known_scenes = ("office_0", "office_1", "office_2", "office_3", "office_4", "room_0", "room_1", "room_2")

    def is_scene(self, folder: Path) -> bool:
        return (folder / "semantic_instance").is_dir()

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        options = options or ProtocolOptions()
        folder = self.scene_folder(root, scene)
        truth = require(folder / "semantic_instance", self)
        images = folder / (options.images or ("images" if (folder / "images").is_dir() else "input"))
        names = image_names(images, self)
        train = [name for name in names if name.startswith("train_rgb_")]
        test = [name for name in names if name.startswith("test_rgb_")]
        if not train or not test:
            raise GsegError(f"{images} has no train_rgb_* or no test_rgb_* images. It expects:\n{self.layout}")
        targets = {
            f"{Path(name).stem}.png": Target(
                name, truth / f"{Path(name).stem.replace('test_rgb', 'test_semantic_instance')}.png"
            )
            for name in test
        }
        for target in targets.values():
            require(target.truth, self)
        return ProtocolScene(scene, folder, images, subset(train, options), tuple(test), targets, options=options)

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        return score_label_maps(scene, predictions)


class ScanNetGaga(Protocol):
    """ScanNet instances as Gaga evaluates them."""

    name = "scannet-gaga"
    source = (
        "Gaga (arXiv 2404.07977), Table 2; split of DM-NeRF. ScanNet (www.scan-net.org, after its terms are signed), "
        "arranged by Gaga's data/process.py and COLMAP."
    )
    layout = """\
scannet/<scene>/
  images/  12.jpg ...                              all views, after COLMAP's undistortion (or input/ before it)
  train/train_images/  12.jpg ...
  test/test_images/  17.jpg ...
  test/test_ins_full/  17.png ...                  the sensor's full instance maps
  sparse/0/"""
    predictions = "17.png ...: one label map (PNG, ids consistent over views) for each test image"
    counted = ReplicaGaga.counted
    metrics = ReplicaGaga.metrics
    known_scenes = (
        *("scene0010_00", "scene0012_00", "scene0033_00", "scene0038_00"),
        *("scene0088_00", "scene0113_00", "scene0192_00"),
    )

    def is_scene(self, folder: Path) -> bool:
        return (folder / "test" / "test_ins_full").is_dir()

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        options = options or ProtocolOptions()
        folder = self.scene_folder(root, scene)
        images = folder / (options.images or ("images" if (folder / "images").is_dir() else "input"))
        known = set(image_names(images, self))
        train = sorted(image_names(folder / "train" / "train_images", self), key=numeric)
        test = sorted(image_names(folder / "test" / "test_images", self), key=numeric)
        truth = require(folder / "test" / "test_ins_full", self)
        # COLMAP loses some views: those can be neither trained on nor rendered.
        train, test = [n for n in train if n in known], [n for n in test if n in known]
        if not train or not test:
            raise GsegError(f"{images} has none of the images of {folder / 'train'} or {folder / 'test'}.")
        targets = {f"{Path(n).stem}.png": Target(n, require(truth / f"{Path(n).stem}.png", self)) for n in test}
        return ProtocolScene(scene, folder, images, subset(train, options), tuple(test), targets, options=options)

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        return score_label_maps(scene, predictions)


class ReplicaUnifiedLift(ReplicaGaga):
    """Replica instances with Unified-Lift's metrics."""

    name = "replica-unified-lift"
    source = (
        "Unified-Lift (Zhu et al., CVPR 2025), Tables 2 and 4. Its own Replica data and script were not released: "
        "this is its metric on the layout of `replica-gaga`, so only methods scored here compare with each other."
    )
    counted = (
        "Linear assignment of labels by IoU over the pixels of all test views together; mIoU over ground-truth labels, "
        "F-score at IoU > 0.5. Label 0: void in the ground truth, unlabelled in the prediction. Views without a "
        "prediction are left out and listed."
    )
    metrics = ("mIoU", "F-score")

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        maps, missing = _read_maps(scene, predictions)
        scores = evaluate_instances(*maps, variant="pooled")
        return ProtocolScores({"mIoU": scores.iou, "F-score": scores.f_score}, missing=missing)


def score_label_maps(scene: ProtocolScene, predictions: Path) -> ProtocolScores:
    """Gaga's scores of a scene in both variants."""
    maps, missing = _read_maps(scene, predictions)
    values: dict[str, float] = {}
    details: dict[str, dict[str, float]] = {}
    for variant, suffix in (("official", ""), ("paper", "_paper")):
        scores = evaluate_instances(*maps, variant=variant)  # type: ignore[arg-type]
        values |= {
            f"IoU{suffix}": scores.iou,
            f"Precision{suffix}": scores.precision,
            f"Recall{suffix}": scores.recall,
        }
        details |= {f"gt {i}": {"IoU": iou} for i, iou in scores.gt_iou.items() if variant == "official"}
    return ProtocolScores(values, details, missing)


def _read_maps(scene: ProtocolScene, predictions: Path) -> tuple[tuple[list, list], tuple[str, ...]]:
    missing = missing_predictions(scene, predictions)
    there = [name for name in scene.targets if name not in set(missing)]
    if not there:
        raise GsegError(f"{predictions} has no prediction of {scene.name}, e.g. {next(iter(scene.targets))}.")
    pred = [read_ids(predictions / name) for name in there]
    truth = [read_ids(scene.targets[name].truth) for name in there]
    return (pred, truth), missing
