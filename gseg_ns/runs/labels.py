"""What says of which object a splat is, in a PLY and in a result: read without any method, and without Nerfstudio."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.masks.words import clean_word
from gseg_ns.reading import integer, number, read_json, reading, text
from gseg_ns.runs.result_folder import LABELS, OBJECTS, Result, column, read_tensors
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply

LARGEST_GROUP = 2**20
"""Of the labels of a PLY or a result: tables have a row a group."""
LABELLED_PLY = "labelled PLY"
"""What stands for the method where there is none."""
UNLABELLED_PLY = "PLY that names no objects"
"""What stands for it where there are no labels either."""
NOTES = ".notes"
"""After the name of a PLY: the folder beside it in which what people save with it lies."""


def labels_of_ply(path: Path, plain: bool = False) -> tuple[Splats, Tensor, Tensor | None]:
    """Read a PLY with an integer label a splat.

    Args:
        path: the PLY.
        plain: also one without labels, in which nothing is of any object.

    Returns:
        N Gaussians; their groups, int64 [N]; and how sure these are [N], where the file says it.

    Raises:
        GsegError: it is damaged, or has no labels.
    """
    splats = read_ply(path)
    found = splats.extra.get("label")
    if found is None and plain:
        found = torch.zeros(len(splats), dtype=torch.int32)
    if found is None:
        raise GsegError(
            f"{path} has no property `label`, by which a splat is of an object: make labels with `gseg segment {path}`"
        )
    if len(splats) == 0:
        raise GsegError(f"{path} has no Gaussian: there is nothing to open")
    if found.ndim != 1 or not bool(found.isfinite().all()) or bool((found != found.round()).any()):
        raise GsegError(f"{path}: its property `label` is no integer a splat")
    if bool((found < 0).any()) or int(found.max()) > LARGEST_GROUP:
        raise GsegError(f"{path}: its labels are not from 0 to {LARGEST_GROUP}")
    sure = splats.extra.get("confidence")
    if sure is not None and (sure.ndim != 1 or not bool(sure.isfinite().all())):
        sure = None
    return replace(splats, extra={}), found.long(), sure


def names_beside(path: Path) -> dict[int, tuple[str, float]]:
    """What objects are called in the list that lies beside a PLY; none where there is no such list."""
    names: dict[int, tuple[str, float]] = {}
    with suppress(GsegError, KeyError, TypeError, ValueError):
        for entry in read_json(path.parent / OBJECTS, "a list of objects")["objects"]:
            group, name = integer(entry["id"], 1), clean_word(text(entry["name"]))
            if name and name not in (f"object {group}", f"group {group}"):
                names[group] = name, 1.0
    return names


def extra_state(given: Any) -> dict[str, Any]:
    """The extra state of a model, from what JSON can hold of it."""
    words = {integer(group, 1): (clean_word(text(word)), number(score, 0, 1)) for group, word, score in given["words"]}
    plain = {key: value for key, value in given.items() if isinstance(value, bool | int | float | str)}
    return {
        **plain,
        "strategy": {},
        "chance": None,
        "lookups": {},
        "neighbours": None,
        "words": words,
        "num_groups": integer(given.get("num_groups", 0), 0, LARGEST_GROUP),
    }


def labels_of_result(result: Result, count: int) -> tuple[Tensor, Tensor | None]:
    """The groups of a result's Gaussians, int64 [N], and how sure these are [N], where it says it.

    Raises:
        GsegError: the file is missing or damaged, or is not of `count` Gaussians.
    """
    path = result.path(LABELS)
    tensors = read_tensors(path)
    with reading(path, "labels of a result", "Make it again."):
        labels = column(tensors, "labels", count, torch.int32).long()
        if bool((labels < 0).any()) or (len(labels) and int(labels.max()) > LARGEST_GROUP):
            raise ValueError(f"labels that are not from 0 to {LARGEST_GROUP}")
        sure = column(tensors, "confidence", count, torch.float32) if "confidence" in tensors else None
        return labels, sure
