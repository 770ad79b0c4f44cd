"""Folders of label maps, matched by path: what `gseg eval` compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.overlap import resize_nearest
from gseg_ns.masks.folder import MaskFolder, scan_masks
from gseg_ns.masks.io import LABEL_SUFFIXES, read_labels

ID_SUFFIXES = LABEL_SUFFIXES


@dataclass(frozen=True)
class IdMapPair:
    """Predicted and ground-truth label maps of the same views."""

    names: tuple[str, ...]
    """Paths within the folder, without suffix, sorted."""
    pred: tuple[Tensor, ...]
    """int64 [H, W] each, at the size of the ground truth."""
    gt: tuple[Tensor, ...]
    """int64 [H, W] each."""
    missing: tuple[str, ...]
    """Views with ground truth but no prediction: not evaluated, to be reported."""
    resized: tuple[str, ...]
    """Views whose prediction had another size than the ground truth."""


def load_id_maps(pred: Path, gt: Path) -> IdMapPair:
    """Load the views that two folders of label maps have in common.

    Args:
        pred: folder of predicted ids, one `.png` (any integer bit depth) or `.npy` a view, also in subfolders.
        gt: folder of ground-truth ids, alike; matched by path without suffix.

    Raises:
        GsegError: a folder is missing or empty, no view in common, two files for one view, or a file that is not an
            integer label map.
    """
    pred_files, gt_files = id_files(pred), id_files(gt)
    names = sorted(pred_files.keys() & gt_files.keys())
    if not names:
        raise GsegError(
            f"{pred} and {gt} have no view in common: the first has e.g. {min(pred_files)}, the second {min(gt_files)}."
            " Files are matched by path and name without suffix."
        )
    pred_maps, gt_maps, resized = [], [], []
    for name in names:
        g, p = read_ids(gt_files[name]), read_ids(pred_files[name])
        if p.shape != g.shape:
            resized.append(name)
            p = resize_nearest(p, g.shape[0], g.shape[1])
        pred_maps.append(p)
        gt_maps.append(g)
    return IdMapPair(
        names=tuple(names),
        pred=tuple(pred_maps),
        gt=tuple(gt_maps),
        missing=tuple(sorted(gt_files.keys() - pred_files.keys())),
        resized=tuple(resized),
    )


def id_files(folder: Path) -> dict[str, Path]:
    """Label map files of a folder and its subfolders, by their path in it without suffix.

    Raises:
        GsegError: the folder is missing, has none, or has two of one path but for the suffix.
    """
    return dict(_open(folder).files)


def _open(folder: Path) -> MaskFolder:
    if not folder.is_dir():
        raise GsegError(f"{folder} is not a folder of label maps.")
    if not scan_masks(folder, ID_SUFFIXES):
        raise GsegError(f"{folder} holds no label map ({' or '.join(ID_SUFFIXES)}).")
    return MaskFolder(folder, ID_SUFFIXES)


def read_ids(path: Path) -> Tensor:
    """Read one label map: a PNG (see `gseg_ns.masks.io.read_label_map`) or an integer `.npy`.

    Returns:
        int64 [H, W].

    Raises:
        GsegError: not readable, not 2-D, or of floats.
    """
    return read_labels(path).long()
