"""2D masks as data: overlapping scored masks, label maps, where they come from."""

from __future__ import annotations

from gseg_ns.masks.cached import cached_label_runs
from gseg_ns.masks.folder import MaskFolder
from gseg_ns.masks.io import read_label_map, read_mask_set, write_label_map, write_mask_set
from gseg_ns.masks.label_runs import LabelRuns
from gseg_ns.masks.load import load_labels, load_masks
from gseg_ns.masks.mask_file import MaskFile
from gseg_ns.masks.mask_set import MaskSet, nearest_index
from gseg_ns.masks.paint import PaintOrder, paint, resize_labels
from gseg_ns.masks.words import Said, said_of_labels

__all__ = [
    "LabelRuns",
    "MaskFile",
    "MaskFolder",
    "MaskSet",
    "PaintOrder",
    "Said",
    "cached_label_runs",
    "load_labels",
    "load_masks",
    "nearest_index",
    "paint",
    "read_label_map",
    "read_mask_set",
    "resize_labels",
    "said_of_labels",
    "write_label_map",
    "write_mask_set",
]
