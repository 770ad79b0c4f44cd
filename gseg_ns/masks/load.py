"""The masks of one photograph, whatever they are written in."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from gseg_ns.masks.dialects.binary import read_objects, read_stack
from gseg_ns.masks.dialects.documents import document_masks
from gseg_ns.masks.io import read_labels, read_mask_set
from gseg_ns.masks.label_runs import LabelRuns
from gseg_ns.masks.mask_file import MaskFile
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.paint import PaintOrder, paint_runs, resize_labels
from gseg_ns.reading import reading


def load_labels(
    file: Path | MaskFile,
    size: tuple[int, int] | None = None,
    order: PaintOrder = "confidence",
    min_score: float = 0.5,
    min_visible: float = 0.1,
) -> Tensor:
    """The label map of a photograph's masks: one that is there as it is, others painted (see `paint`).

    Args:
        file: as `MaskFolder.find` gives it, or the path of a file of one photograph.
        size: (height, width) to resize to, nearest.
        order: see `paint`; no meaning for a label map, and so for the next two.
        min_score: see `paint`.
        min_visible: see `paint`.

    Returns:
        int32 [H, W].

    Raises:
        GsegError: it is damaged.
    """
    labels = load_label_runs(file, order, min_score, min_visible).image()
    return labels if size is None else resize_labels(labels, *size)


def load_label_runs(
    file: Path | MaskFile,
    order: PaintOrder = "confidence",
    min_score: float = 0.5,
    min_visible: float = 0.1,
) -> LabelRuns:
    """As `load_labels` at the masks' own size, by runs; labels below 0 are 0."""
    file = file if isinstance(file, MaskFile) else MaskFile.of(file)
    with reading(file.path, "masks"):
        if file.is_label_map:
            return LabelRuns.of(read_labels(file.path).int())
        return paint_runs(load_masks(file), order, min_score, min_visible)


def load_masks(file: Path | MaskFile, size: tuple[int, int] | None = None) -> MaskSet:
    """A photograph's masks, which may overlap; of a label map one mask a label with score 1.

    Args:
        file: as `MaskFolder.find` gives it, or the path of a file of one photograph.
        size: (height, width) to resize to, nearest.

    Raises:
        GsegError: it is damaged.
    """
    file = file if isinstance(file, MaskFile) else MaskFile.of(file)
    if file.parts:
        masks = read_objects(file.parts)
    elif file.entry is not None:
        masks = document_masks(file.path, file.entry)
    elif file.is_label_map:
        with reading(file.path, "a label map"):
            masks = MaskSet.from_labels(read_labels(file.path).int())
    elif file.path.suffix.lower() == ".npy":
        masks = read_stack(file.path)
    else:
        masks = read_mask_set(file.path)
    return masks if size is None else masks.resize(*size)
