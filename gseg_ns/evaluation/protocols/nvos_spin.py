"""NVOS and SPIn-NeRF: one object, prompted in one view, scored as a mask in others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.promptable import evaluate_masks
from gseg_ns.evaluation.protocols.base import (
    IMAGE_SUFFIXES,
    Prompt,
    Protocol,
    ProtocolOptions,
    ProtocolScene,
    ProtocolScores,
    Target,
    image_names,
    read_mask,
    require,
    require_predictions,
)


class Nvos(Protocol):
    """NVOS: scribbles in one view of an LLFF scene, the mask in another."""

    name = "nvos"
    source = (
        "Neural Volumetric Object Selection (Ren et al., CVPR 2022; jason718.github.io/nvos) on the LLFF scenes "
        "(NeRF's nerf_llff_data); laid out as LUDVIG documents."
    )
    layout = """\
<root>/
  llff_data/<LLFF scene>/images/, sparse/0/            horns for horns_center and horns_left
  llff_masks/reference_image/<scene>/<view>.JPG        the view with the scribbles
  llff_masks/scribbles/<scene>/pos_*.png, neg_*.png
  llff_masks/masks/<scene>/<view>.JPG, <view>_mask.png the view to segment"""
    predictions = "<view>.png: a mask of 0 and 255 for the target view (a folder for each scene)"
    counted = (
        "IoU and accuracy of the foreground in the one target view of a scene, mean over scenes. The prediction is "
        "resized (nearest) to the ground truth and must exist. Scale and threshold belong chosen on the reference view."
    )
    metrics = ("mIoU", "mAcc", "mBIoU")
    renders = None
    known_scenes = ("fern", "flower", "fortress", "horns_center", "horns_left", "leaves", "orchids", "trex")

    def is_scene(self, folder: Path) -> bool:
        return False  # a scene is spread over two folders: only the root can be named

    def scenes(self, root: Path) -> tuple[str, ...]:
        masks = require(root / "llff_masks" / "masks", self)
        found = tuple(sorted(p.name for p in masks.iterdir() if p.is_dir()))
        if not found:
            raise GsegError(f"{masks} holds no scene. {self.name} expects:\n{self.layout}")
        return found

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        options = options or ProtocolOptions()
        folder = root / "llff_data" / scene
        if not folder.is_dir():
            folder = require(root / "llff_data" / scene.split("_")[0], self)
        images = folder / (options.images or "images")
        names = image_names(images, self)
        by_stem = {Path(name).stem: name for name in names}
        masks = root / "llff_masks"
        truth = sorted(require(masks / "masks" / scene, self).glob("*_mask.png"))
        if not truth:
            raise GsegError(f"{masks / 'masks' / scene} holds no *_mask.png. {self.name} expects:\n{self.layout}")
        targets: dict[str, Target] = {}
        for path in truth:
            stem = path.stem.removesuffix("_mask")
            if stem not in by_stem:
                raise GsegError(f"{path} belongs to the view {stem}, which {images} lacks.")
            targets[f"{stem}.png"] = Target(by_stem[stem], path, scene)
        reference = Path(image_names(masks / "reference_image" / scene, self)[0]).stem
        if reference not in by_stem:
            raise GsegError(f"The reference view {reference} of {scene} is not in {images}.")
        scribbles = require(masks / "scribbles" / scene, self)
        positive = tuple(sorted(p for p in scribbles.glob("*pos*") if p.suffix.lower() in IMAGE_SUFFIXES))
        negative = tuple(sorted(p for p in scribbles.glob("*neg*") if p.suffix.lower() in IMAGE_SUFFIXES))
        if not positive:
            raise GsegError(f"{scribbles} holds no pos_*.png. {self.name} expects:\n{self.layout}")
        unseen = {target.image for target in targets.values()}
        return ProtocolScene(
            name=scene,
            root=folder,
            images=images,
            train=names,
            test=tuple(sorted(unseen)),
            targets=targets,
            prompts=(Prompt(scene, "scribble", by_stem[reference], positive, negative),),
            options=options,
        )

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        return _score_masks(scene, predictions)


class SpinNerf(Protocol):
    """SPIn-NeRF multi-view segmentation: the mask of the first annotated view is given."""

    name = "spin-nerf"
    source = (
        "SPIn-NeRF (Mirzaei et al., CVPR 2023; spinnerf3d.github.io) with images of LLFF, NeRF-Supervision, Tanks and "
        "Temples and lego_real_night_radial; laid out as LUDVIG documents."
    )
    layout = """\
<root>/
  SPIn-NeRF_data/<scene>/images/, sparse/0/
  SPIn-NeRF_masks/<scene>/*.png        one mask for each annotated view; *_cutout, *_pseudo and *.json are not used"""
    predictions = "<mask name>.png: a mask of 0 and 255 for each annotated view (a folder for each scene)"
    counted = (
        "IoU and accuracy of the foreground, mean over annotated views, then scenes. The reference is the first "
        "annotated view; mIoU and mAcc leave it out (LUDVIG), *_reference include it (SA3D, SAGA). Predictions are "
        "resized (nearest) and must exist, the reference's only for *_reference."
    )
    metrics = ("mIoU", "mAcc", "mBIoU", "mIoU_reference", "mAcc_reference")
    renders = None
    known_scenes = (
        *("orchids", "leaves", "fern", "room", "horns", "fortress"),
        *("fork", "pinecone", "truck", "lego_real_night_radial"),
    )

    def is_scene(self, folder: Path) -> bool:
        return False  # a scene is spread over two folders: only the root can be named

    def scenes(self, root: Path) -> tuple[str, ...]:
        masks = require(root / "SPIn-NeRF_masks", self)
        found = tuple(sorted(p.name for p in masks.iterdir() if p.is_dir()))
        if not found:
            raise GsegError(f"{masks} holds no scene. {self.name} expects:\n{self.layout}")
        return found

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        options = options or ProtocolOptions()
        folder = require(root / "SPIn-NeRF_data" / scene, self)
        images = folder / (options.images or "images")
        names = image_names(images, self)
        masks = require(root / "SPIn-NeRF_masks" / scene, self)
        files = sorted(
            p
            for p in masks.iterdir()
            if p.suffix.lower() in IMAGE_SUFFIXES and not re.search(r"_(cutout|pseudo)$", p.stem)
        )
        if not files:
            raise GsegError(f"{masks} holds no mask. {self.name} expects:\n{self.layout}")
        views = _spin_views(scene, files, names, images)
        targets = {f"{path.stem}.png": Target(view, path, scene) for path, view in zip(files, views, strict=True)}
        return ProtocolScene(
            name=scene,
            root=folder,
            images=images,
            train=names,
            test=tuple(views),
            targets=targets,
            prompts=(Prompt(scene, "mask", views[0], (files[0],)),),
            options=options,
        )

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        reference = next(iter(scene.targets))
        others = {name: target for name, target in scene.targets.items() if name != reference}
        if not others:
            raise GsegError(f"{scene.name} has a single annotated view: nothing is left to score.")
        held_out = _score_masks(replace(scene, targets=others), predictions)
        values = dict(held_out.values)
        missing: tuple[str, ...] = ()
        if (predictions / reference).is_file():
            everything = _score_masks(scene, predictions).values
            values |= {"mIoU_reference": everything["mIoU"], "mAcc_reference": everything["mAcc"]}
        else:
            missing = (reference,)
        return ProtocolScores(values, held_out.details, missing, (f"reference view: {scene.prompts[0].image}",))


def _spin_views(scene: str, files: list[Path], names: tuple[str, ...], images: Path) -> list[str]:
    """Image of every mask: by name where the names agree, else in sorted order, as the masks were published.

    Orchids' masks skip the fifteenth image; truck and lego name the image after an underscore.
    """
    by_stem = {Path(name).stem: name for name in names}
    after_underscore = scene.startswith(("truck", "lego"))
    keys = [path.stem.split("_")[-1] if after_underscore else path.stem for path in files]
    if all(key in by_stem for key in keys):
        return [by_stem[key] for key in keys]
    ordered = [name for i, name in enumerate(names) if not (scene == "orchids" and i == 14)]
    if len(files) > len(ordered):
        raise GsegError(f"{files[0].parent} has {len(files)} masks, but {images} only {len(ordered)} images for them.")
    return ordered[: len(files)]


def _score_masks(scene: ProtocolScene, predictions: Path) -> ProtocolScores:
    require_predictions(scene, predictions)
    names = list(scene.targets)
    scores = evaluate_masks(
        [read_mask(predictions / name, strict=True) for name in names],
        [read_published(scene.targets[name].truth) for name in names],
    )
    return ProtocolScores(
        {"mIoU": scores.iou, "mAcc": scores.accuracy, "mBIoU": scores.boundary_iou},
        {name: {"IoU": iou} for name, iou in zip(names, scores.view_iou, strict=True)},
    )


def read_published(path: Path) -> np.ndarray:
    """A mask or scribble bool [H, W], stored as 0 and 255 or as 0 and 1: the published files differ."""
    mask = read_mask(path)
    return mask if mask.any() else read_mask(path, above=0)
