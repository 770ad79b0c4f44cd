"""3D-OVS: every named class of a scene as a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.promptable import evaluate_masks
from gseg_ns.evaluation.protocols.base import (
    Prompt,
    Protocol,
    ProtocolOptions,
    ProtocolScene,
    ProtocolScores,
    Target,
    image_names,
    mean,
    missing_predictions,
    read_mask,
    require,
)
from gseg_ns.reading import read_text


class Ovs3d(Protocol):
    """3D-OVS with text prompts, as SAGA evaluates it."""

    name = "3d-ovs"
    source = (
        "3D-OVS (Liu et al., NeurIPS 2023; github.com/Kunhao-Liu/3D-OVS); SAGA (AAAI 2025), Table 3, on bed, bench, "
        "lawn, room, sofa."
    )
    layout = """\
<root>/<scene>/
  images/             sorted; all train, the annotated ones are also tested
  sparse/0/
  segmentations/classes.txt
  segmentations/<view>/<class>.png       <view> = index of the image, e.g. 00, 08"""
    predictions = "<view>/<class>.png: a mask of 0 and 255 for each class and annotated view"
    counted = (
        "IoU of each class, mean over views, then classes, then scenes. Predictions are resized (nearest) to the "
        "ground truth; a missing one counts as an empty mask; a class that neither shows in a view does not count "
        "there. There is no background class. The test views are training views: published so."
    )
    metrics = ("mIoU", "mBIoU")
    renders = None
    known_scenes = ("bed", "bench", "lawn", "room", "sofa")

    def is_scene(self, folder: Path) -> bool:
        return (folder / "segmentations" / "classes.txt").is_file()

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        options = options or ProtocolOptions()
        folder = self.scene_folder(root, scene)
        images = folder / (options.images or "images")
        names = image_names(images, self)
        segmentations = folder / "segmentations"
        lines = read_text(require(segmentations / "classes.txt", self), "a list of classes").splitlines()
        classes = sorted(line.strip() for line in lines if line.strip())
        if not classes:
            raise GsegError(f"{segmentations / 'classes.txt'} names no class.")
        targets: dict[str, Target] = {}
        for view in sorted(p for p in segmentations.iterdir() if p.is_dir()):
            if not view.name.isdigit() or int(view.name) >= len(names):
                raise GsegError(f"{view} names no image: {images} has {len(names)}, numbered from 0.")
            for label in classes:
                path = require(view / f"{label}.png", self)
                targets[f"{view.name}/{label}.png"] = Target(names[int(view.name)], path, label)
        if not targets:
            raise GsegError(f"{segmentations} holds no annotated view. {self.name} expects:\n{self.layout}")
        return ProtocolScene(
            name=scene,
            root=folder,
            images=images,
            train=names,
            test=tuple(dict.fromkeys(target.image for target in targets.values())),
            targets=targets,
            prompts=tuple(Prompt(label, "text") for label in classes),
            options=options,
        )

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        missing = missing_predictions(scene, predictions)
        if len(missing) == len(scene.targets):
            raise GsegError(f"{predictions} has no prediction of {scene.name}, e.g. {missing[0]}.")
        details: dict[str, dict[str, float]] = {}
        for prompt in scene.prompts:
            names = [name for name, target in scene.targets.items() if target.prompt == prompt.name]
            truth = [read_mask(scene.targets[name].truth) for name in names]
            pred = [
                np.zeros_like(mask) if name in missing else read_mask(predictions / name, strict=True)
                for name, mask in zip(names, truth, strict=True)
            ]
            scores = evaluate_masks(pred, truth)
            details[prompt.name] = {"IoU": scores.iou, "BIoU": scores.boundary_iou}
        return ProtocolScores(
            {"mIoU": mean(d["IoU"] for d in details.values()), "mBIoU": mean(d["BIoU"] for d in details.values())},
            details,
            missing,
        )
