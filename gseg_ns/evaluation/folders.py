"""Two folders of label maps, matched by file name: what `gseg eval` compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.overlap import resize_nearest
from gseg_ns.masks.io import read_label_map
from gseg_ns.reading import check_memory, read_npy

ID_SUFFIXES = (".png", ".npy")


@dataclass(frozen=True)
class IdMapPair:
    """Predicted and ground-truth label maps of the same views."""

    stems: tuple[str, ...]
    """File names without suffix, sorted."""
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
        pred: folder of predicted ids, one `.png` (any integer bit depth) or `.npy` a view.
        gt: folder of ground-truth ids, alike; matched by file name without suffix.

    Raises:
        GsegError: a folder is missing or empty, no view in common, two files for one view, or a file that is not an
            integer label map.
    """
    pred_files, gt_files = id_files(pred), id_files(gt)
    stems = sorted(pred_files.keys() & gt_files.keys())
    if not stems:
        raise GsegError(
            f"{pred} and {gt} have no view in common: the first has e.g. {min(pred_files)}, the second {min(gt_files)}."
            " Files are matched by name without suffix."
        )
    pred_maps, gt_maps, resized = [], [], []
    for stem in stems:
        g, p = read_ids(gt_files[stem]), read_ids(pred_files[stem])
        if p.shape != g.shape:
            resized.append(stem)
            p = resize_nearest(p, g.shape[0], g.shape[1])
        pred_maps.append(p)
        gt_maps.append(g)
    return IdMapPair(
        stems=tuple(stems),
        pred=tuple(pred_maps),
        gt=tuple(gt_maps),
        missing=tuple(sorted(gt_files.keys() - pred_files.keys())),
        resized=tuple(resized),
    )


def id_files(folder: Path) -> dict[str, Path]:
    """Label map files of a folder by stem.

    Raises:
        GsegError: the folder is missing, has none, or has two for one stem.
    """
    if not folder.is_dir():
        raise GsegError(f"{folder} is not a folder of label maps.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in ID_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            raise GsegError(f"{files[path.stem]} and {path} are both label maps of one view. Remove one.")
        files[path.stem] = path
    if not files:
        raise GsegError(f"{folder} holds no label map ({' or '.join(ID_SUFFIXES)}).")
    return files


def read_ids(path: Path) -> Tensor:
    """Read one label map: a PNG (see `gseg_ns.masks.io.read_label_map`) or an integer `.npy`.

    Returns:
        int64 [H, W].

    Raises:
        GsegError: not readable, not 2-D, or of floats.
    """
    import numpy as np

    if path.suffix.lower() != ".npy":
        return read_label_map(path).long()
    array = read_npy(path, "a label map")
    if array.dtype.kind not in "iub":
        raise GsegError(f"{path} holds {array.dtype}. A label map holds integer ids: round and save it as such.")
    if array.ndim != 2:
        raise GsegError(f"{path} has shape {array.shape}. A label map has two dimensions.")
    check_memory(path, array.size * 8, f"{array.shape[1]}x{array.shape[0]} pixels")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise GsegError(f"{path} holds ids beyond 64 bits with a sign. Number the objects from 1.")
    return torch.from_numpy(array.astype(np.int64))
