"""LERF-Mask: objects named by text, in held-out views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.boundary import iou_percent
from gseg_ns.evaluation.folders import read_ids
from gseg_ns.evaluation.overlap import as_ids, resize_nearest
from gseg_ns.evaluation.promptable import lerf_mask_scores
from gseg_ns.evaluation.protocols.base import (
    Prompt,
    Protocol,
    ProtocolOptions,
    ProtocolScene,
    ProtocolScores,
    Target,
    image_names,
    read_mask,
    require,
)
from gseg_ns.files import atomic_path

PROMPTS = {
    "figurines": (
        *("green apple", "green toy chair", "old camera", "porcelain hand"),
        *("red apple", "red toy chair", "rubber duck with red hat"),
    ),
    "ramen": ("chopsticks", "egg", "glass of water", "pork belly", "wavy noodles in bowl", "yellow bowl"),
    "teatime": (
        *("apple", "bag of cookies", "coffee mug", "cookies on a plate", "paper napkin", "plate", "sheep"),
        *("spoon handle", "stuffed bear", "tea in a glass"),
    ),
}
"""Text prompts of the published tables."""


class LerfMask(Protocol):
    """LERF-Mask as Gaussian Grouping evaluates it."""

    name = "lerf-mask"
    source = (
        "Gaussian Grouping (arXiv 2312.00732): huggingface.co/mqye/Gaussian-Grouping, data/lerf_mask. "
        "Used by Gaga, Unified-Lift, GradiSeg."
    )
    layout = """\
lerf_mask/<scene>/
  images/           all views
  images_train/     the views to train on; the others, sorted by name, are test views 0, 1, ...
  sparse/0/
  test_mask/<test view>/<text prompt>.png"""
    predictions = (
        "<test view>/<text prompt>.png: masks of 0 and 255; or <test view>.png: label maps, for which ids are picked "
        "by their overlap with the ground truth of the first view that shows the prompt"
    )
    counted = (
        "Mask where above 128 of 255; boundary 0.02 of the diagonal; mean over views, then prompts, then scenes. "
        "Predictions are resized (nearest) to the ground truth. mIoU, mBIoU: a missing prediction counts 0; *_skip: it "
        "is left out, as the official script does. With label maps the picked ids are logged, and *_unseen leaves out "
        "the views that they were picked on. Where both masks and label maps are there, mIoU is of the masks and "
        "*_picked of the label maps."
    )
    metrics = (
        *("mIoU", "mBIoU", "mIoU_skip", "mBIoU_skip"),
        *("mIoU_picked", "mBIoU_picked", "mIoU_unseen", "mBIoU_unseen"),
    )
    known_scenes = tuple(PROMPTS)

    def is_scene(self, folder: Path) -> bool:
        return (folder / "test_mask").is_dir()

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        folder = self.scene_folder(root, scene)
        options = options or ProtocolOptions()
        images = folder / (options.images or "images")
        names = image_names(images, self)
        trained = {Path(name).stem for name in image_names(folder / "images_train", self)}
        train = tuple(name for name in names if Path(name).stem in trained)
        test = tuple(name for name in names if Path(name).stem not in trained)
        targets: dict[str, Target] = {}
        for view in sorted(require(folder / "test_mask", self).iterdir()):
            if not view.is_dir():
                continue
            if not view.name.isdigit() or int(view.name) >= len(test):
                raise GsegError(
                    f"{view} is no test view: {images} has {len(test)} images that are not in images_train, "
                    f"numbered from 0."
                )
            for mask in sorted(view.glob("*.png")):
                targets[f"{view.name}/{mask.name}"] = Target(test[int(view.name)], mask, mask.stem)
        if not targets:
            raise GsegError(f"{folder / 'test_mask'} holds no mask. {self.name} expects:\n{self.layout}")
        prompts = sorted({target.prompt for target in targets.values() if target.prompt})
        absent = sorted(set(PROMPTS.get(scene, ())) - set(prompts))
        if absent:
            raise GsegError(f"{folder / 'test_mask'} has no mask for the prompts {', '.join(absent)}.")
        return ProtocolScene(
            *(scene, folder, images, train, test, targets),
            prompts=tuple(Prompt(name, "text") for name in prompts),
            options=options,
        )

    def renderings(self, scene: ProtocolScene) -> dict[str, str]:
        return {f"{name.split('/')[0]}.png": target.image for name, target in scene.targets.items()}

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        pairs = {key: (key.split("/")[0], target.prompt or "") for key, target in scene.targets.items()}
        truth = {pair: read_mask(scene.targets[key].truth) for key, pair in pairs.items()}
        masks = {
            pair: read_mask(predictions / key, strict=True)
            for key, pair in pairs.items()
            if (predictions / key).is_file()
        }
        from_maps, picked = _masks_of_label_maps(truth, predictions)
        notes = tuple(f"{prompt}: ids {ids} picked on view {view}" for prompt, (view, ids) in picked.items())
        if not masks and not from_maps:
            raise GsegError(f"{predictions} has no prediction of {scene.name}. It expects {self.predictions}.")
        zero = lerf_mask_scores(masks or from_maps, truth)
        skip = lerf_mask_scores(masks or from_maps, truth, missing="skip")
        values = {
            "mIoU": zero.miou,
            "mBIoU": zero.mbiou,
            "mIoU_skip": skip.miou,
            "mBIoU_skip": skip.mbiou,
        }
        if masks and from_maps:
            by_maps = lerf_mask_scores(from_maps, truth)
            values |= {"mIoU_picked": by_maps.miou, "mBIoU_picked": by_maps.mbiou}
        unseen = set(truth) - {(view, prompt) for prompt, (view, _) in picked.items()}
        if from_maps and unseen:
            held_out = lerf_mask_scores(from_maps, {key: truth[key] for key in truth if key in unseen})
            values |= {"mIoU_unseen": held_out.miou, "mBIoU_unseen": held_out.mbiou}
        return ProtocolScores(
            values=values,
            details={prompt: {"IoU": iou, "BIoU": biou} for prompt, (iou, biou) in zero.prompts.items()},
            missing=tuple(f"{view}/{prompt}.png" for view, prompt in zero.missing),
            notes=notes,
        )


def select_ids(ids: Tensor | np.ndarray, mask: Tensor | np.ndarray, threshold: float = 0.7) -> list[int]:
    """Ids of a label map that lie inside a mask: the rule by which Gaussian Grouping turns a text mask into ids.

    Args:
        ids: label map [H, W]; 0 is never chosen.
        mask: bool [H, W], e.g. of a grounding model on the same view; `ids` is resized (nearest) to it.
        threshold: share of the id's pixels that must lie inside (strictly more).

    Returns:
        ids, ascending; empty when none qualifies.
    """
    inside = as_ids(mask) != 0
    labels = resize_nearest(as_ids(ids), *inside.shape)
    found, area = torch.unique(labels, return_counts=True)
    shared = torch.stack([(inside & (labels == i)).sum() for i in found])
    return [int(i) for i, a, s in zip(found, area, shared, strict=True) if i != 0 and s > threshold * a]


def best_id(ids: Tensor | np.ndarray, mask: Tensor | np.ndarray) -> int | None:
    """The id (not 0) of a label map with the highest IoU with a mask; None where nothing overlaps."""
    inside = as_ids(mask) != 0
    labels = resize_nearest(as_ids(ids), *inside.shape)
    candidates = [int(i) for i in torch.unique(labels[inside]) if i != 0]
    return max(candidates, key=lambda i: iou_percent(labels == i, inside), default=None)


def ground_prompts(
    scene: ProtocolScene, predictions: Path, picture: np.ndarray, view: str, ground: Callable[[np.ndarray, str], Tensor]
) -> dict[str, list[int]]:
    """Answer the prompts of a scene by text: ids that lie inside what a grounding model finds on one view.

    Args:
        scene: loaded by `LerfMask`.
        predictions: folder of the scene with a label map of each test view; one mask a prompt and test view is
            written beside them. A prompt that is not found gets empty masks.
        picture: [H, W, 3] uint8, the rendered view that is searched.
        view: its number, as the label maps are named.
        ground: picture and text to a mask [H, W], e.g. `TextGrounder.mask`.

    Returns:
        prompt -> ids.
    """
    labels = read_ids(predictions / f"{view}.png")
    texts = [prompt.name for prompt in scene.prompts]
    chosen = {text: select_ids(labels, ground(picture, text)) for text in texts}
    for key, target in scene.targets.items():
        number = key.split("/")[0]
        ids = torch.tensor(chosen[target.prompt or ""], dtype=torch.int64)
        mask = torch.isin(read_ids(predictions / f"{number}.png"), ids).numpy()
        with atomic_path(predictions / key) as temporary:
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary)
    return chosen


def _masks_of_label_maps(
    truth: dict[tuple[str, str], np.ndarray], predictions: Path
) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, tuple[str, list[int]]]]:
    """Masks of every prompt from label maps, with ids picked on the first view that shows the prompt."""
    maps = {view: predictions / f"{view}.png" for view, _ in truth}
    labels = {view: read_ids(path) for view, path in maps.items() if path.is_file()}
    picked: dict[str, tuple[str, list[int]]] = {}
    for (view, prompt), mask in truth.items():
        if prompt in picked or view not in labels or not mask.any():
            continue
        ids = select_ids(labels[view], mask)
        best = best_id(labels[view], mask)
        picked[prompt] = (view, ids or ([best] if best is not None else []))
    masks = {
        (view, prompt): torch.isin(labels[view], torch.tensor(picked[prompt][1], dtype=torch.int64)).numpy()
        for view, prompt in truth
        if view in labels and prompt in picked
    }
    return masks, picked
