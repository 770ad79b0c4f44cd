"""What is given in place of masks of objects: pictures, one mask for all views, masks of which pixels to train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gseg_ns.captures.photographs import FORMATS
from gseg_ns.errors import GsegError
from gseg_ns.masks import LabelRuns
from gseg_ns.reading import check_memory, reading

_PIXEL_MEMORY = 8
"""Bytes a pixel while it is read: four of its own, and of what is made of it."""

_SAME = 0.995
"""Part of the pixels in which a copy agrees, which may have been resized or saved as JPEG."""
_RESTLESS = 0.4
"""Part of the pixels whose neighbour has another label, in both directions, from which on labels are colors."""
_FEW_LABELS = 32
_MANY_LABELS, _FEW_PIXELS = 256, 8
"""More labels than that, of which most have fewer pixels than that, are colors: things as small are no things."""
_MOST = 0.5
_AROUND = 0.75
"""Parts of a view and of its border that are covered by what is to be trained on: all but somebody who walks by."""

_FEWEST_TO_JUDGE = 3
"""Views, of fewer nothing is said about what their masks have in common."""


def refuse_pictures(labels: Mapping[int, LabelRuns], name: Callable[[int], str]) -> None:
    """Refuse photographs, or masks drawn over them, in place of label maps.

    Args:
        labels: label maps of views.
        name: what a view's mask file is called.

    Raises:
        GsegError: most views have one.
    """
    pictures = [view for view, runs in labels.items() if is_picture(runs)]
    if 2 * len(pictures) > len(labels):
        raise GsegError(
            f"{name(pictures[0])} is a picture and no label map: its colors differ from pixel to pixel, and would be "
            f"{len(labels[pictures[0]].ids)} labels. Name the folder of the label maps with "
            "--pipeline.datamanager.masks-dir"
        )


def refuse_regions(
    folder: Path, labels: Mapping[int, LabelRuns], photometric: Sequence[Path | None], consistent: bool
) -> None:
    """Refuse masks that say which pixels to train on, or nothing at all, and not what the objects are.

    Args:
        folder: of the masks.
        labels: label maps of views.
        photometric: the capture's own mask (`mask_path`) of each view, or none at all.
        consistent: the user says that labels agree between the views, so that a single one is an object.

    Raises:
        GsegError: all views have the same labels at the same pixels; or no view has more than one label, and the masks
            are those of the capture itself, or every view has the same region, one label over everything, or one over
            most and all around.
    """
    if any((runs.ids > 0).sum() > 1 for runs in labels.values()):
        first, *others = labels.values()
        if len(labels) >= _FEWEST_TO_JUDGE and all(same_labels(first, other) for other in others):
            raise GsegError(
                f"{folder} has the same masks for all {len(labels)} views, which do not show the same: they are of one "
                "photograph. Make those of the others, too, such as with `gseg masks`."
            )
        return
    if consistent:
        return
    maps = {view: runs.image().numpy() > 0 for view, runs in labels.items()}
    what = None
    own = [photometric[view] for view in maps] if photometric else []
    if any(own) and all(path is None or same_region(path, mask) for path, mask in zip(own, maps.values(), strict=True)):
        what = "the capture's own masks (mask_path)"
    elif len(maps) >= _FEWEST_TO_JUDGE:
        what = told_apart(list(maps.values()))
    if what is not None:
        raise GsegError(
            f"{folder} has {what}: such masks say which pixels to train on (`mask_path`), or nothing, and not what the "
            "objects are. Make masks with `gseg masks --output-dir objects`, or name another folder with "
            "--pipeline.datamanager.masks-dir; if this is one object, seen in all views, add "
            "--pipeline.datamanager.masks-are-consistent True"
        )


def is_picture(labels: LabelRuns) -> bool:
    """Whether a label map is a picture: very many labels, most of a few pixels, or changing from pixel to pixel."""
    pixels = labels.height * labels.width
    count = len(labels.ids)
    runs = pixels if labels.starts is None else len(labels.starts)
    if count > _MANY_LABELS:
        names, index = np.unique(labels.labels, return_inverse=True)
        lengths = None if labels.starts is None else np.diff(labels.starts, append=pixels)
        if np.median(np.bincount(index, lengths)[names > 0]) < _FEW_PIXELS:
            return True
    if runs < _RESTLESS * pixels or count <= _FEW_LABELS:
        return False
    image = labels.image().numpy()
    changes = [float((image[1:] != image[:-1]).mean()), float((image[:, 1:] != image[:, :-1]).mean())]
    return min(changes) >= _RESTLESS


def same_labels(one: LabelRuns, other: LabelRuns) -> bool:
    """Whether two label maps are the same, pixel by pixel."""
    if one.size != other.size:
        return False
    if one.starts is None or other.starts is None:
        return one.starts is other.starts and np.array_equal(one.labels, other.labels)
    return np.array_equal(one.starts, other.starts) and np.array_equal(one.labels, other.labels)


def same_region(photometric: Path, mask: np.ndarray) -> bool:
    """Whether a mask [H, W] bool is the photometric mask of its view, or the opposite of it."""
    from PIL import Image

    try:
        with reading(photometric, "a mask"), Image.open(photometric, formats=FORMATS) as image:
            check_memory(
                photometric, image.width * image.height * _PIXEL_MEMORY, f"{image.width}x{image.height} pixels"
            )
            alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else image.convert("L")
            scaled = alpha.resize((mask.shape[1], mask.shape[0]), Image.Resampling.NEAREST)
    except GsegError:
        return False
    agreeing = float(((np.asarray(scaled) > 0) == mask).mean())
    return max(agreeing, 1 - agreeing) >= _SAME


def told_apart(masks: Sequence[np.ndarray]) -> str | None:
    """What shows that the single regions [H, W] bool of all views are no object; None where nothing does."""
    if all(mask.all() or not mask.any() for mask in masks):
        return "one label over everything"
    if all(mask.shape == masks[0].shape and (mask == masks[0]).all() for mask in masks):
        return "the same single region in every view"
    borders = [np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean() for mask in masks]
    if np.median([mask.mean() for mask in masks]) > _MOST and np.median(borders) > _AROUND:
        return "a single label over most of every view and its border"
    return None
