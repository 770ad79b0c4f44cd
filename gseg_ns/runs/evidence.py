"""What the training views of a run say of its objects: see `gseg_ns.objects`.

To ask them is to render up to a hundred views, so that the answer is kept beside the run, by all that it depends on.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns import __version__
from gseg_ns.data.cameras import spread_views, to_camera
from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.objects import Evidence, gather_evidence
from gseg_ns.reading import integer, read_npz, reading

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.rendering import Camera
    from gseg_ns.runs.run import Run

MOST_VIEWS = 100
"""So many views are asked at most, evenly drawn; each is rendered once."""

LONGEST = 512
"""Pixels of the longer side in which they are asked: what floats shows there, too."""


KEPT = 4
"""Answers that are kept beside a run: of its scales, for one."""

_NAME = "evidence-{}.npz"
_FORM = 5
"""Of what is kept: a number for each change of how it is gathered."""
_OF_GAUSSIANS = ("total", "own", "front", "ends")
_ARRAYS = (*_OF_GAUSSIANS, "pixels", "views", "patches")
_COLORS = ("features_dc", "features_rest")
"""Parameters that say nothing of where a Gaussian is and what it is part of."""


@torch.no_grad()
def run_evidence(
    run: Run,
    scale: float | None = None,
    track: Callable[[list[int]], Iterable[int]] = iter,
    lock: AbstractContextManager[Any] | None = None,
) -> Evidence | None:
    """Ask the training views of a run about its Gaussians, before any edits.

    Args:
        run: a trained run.
        scale: at which groups are meant, for methods that have scales.
        track: wraps the list of views while it is worked through, for a progress bar.
        lock: held while the model draws a view, where others draw with it, too.

    Returns:
        What they say; None where the run has no group, or its scene is gone.
    """
    groups = run.model.gaussian_groups(scale)
    if run.datamanager.absent is not None or not bool((groups > 0).any()):
        return None
    cameras = asked_views(run)
    path = run.folder / _NAME.format(_key(run.model, cameras, groups, scale))
    if (kept := _read(path, len(groups), int(groups.max()) + 1)) is not None:
        return _with_sure(kept, run.model, scale)

    def views() -> Iterator[tuple[Camera, Tensor]]:
        for place in track(list(range(len(cameras)))):
            camera = run.model.corrected(cameras[place]).to(run.model.device)
            with lock or nullcontext():
                labels = run.model.label_image(camera, scale)
            yield to_camera(camera), labels

    evidence = gather_evidence(run.model.splats(), groups, views())
    _keep(path, evidence)
    return _with_sure(evidence, run.model, scale)


def _with_sure(evidence: Evidence, model: SegmentationModel, scale: float | None) -> Evidence:
    """With what masks said of each Gaussian's group [N]; without where none voted, or for parts of the groups."""
    sure = None if model.tree() is not None else model.group_confidence(scale)
    # What is read from a file is on the CPU.
    return replace(evidence, sure=None if sure is None else sure.to(evidence.total.device))


def asked_numbers(run: Run) -> list[int]:
    """Which of the training views are asked."""
    return spread_views(len(run.datamanager.names("train")), MOST_VIEWS)


def asked_views(run: Run) -> list[Cameras]:
    """The cameras [1] of the training views that are asked, at the size in which they are."""
    return [_small(run, view) for view in asked_numbers(run)]


def _small(run: Run, view: int) -> Cameras:
    """The camera [1] of a training view at the size in which it is asked."""
    camera = copy.deepcopy(run.datamanager.camera(view))
    longest = max(int(camera.width.max()), int(camera.height.max()))
    if longest > LONGEST:
        camera.rescale_output_resolution(LONGEST / longest)
    return camera


def _key(model: SegmentationModel, cameras: Sequence[Cameras], groups: Tensor, scale: float | None) -> str:
    """A name for all that the answer depends on."""
    digest = hashlib.blake2b(repr((__version__, _FORM, scale, LONGEST)).encode(), digest_size=12)
    tensors = [groups]
    tensors += [value for name, value in sorted(model.state_dict().items()) if isinstance(value, Tensor)
                and name.rpartition(".")[2] not in _COLORS]  # fmt: skip
    for camera in cameras:
        parts = (camera.camera_to_worlds, camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
        tensors += [part for part in parts if isinstance(part, Tensor)]
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(array.data)
    return digest.hexdigest()


def _read(path: Path, count: int, groups: int) -> Evidence | None:
    """What was kept; None where nothing was, or it is damaged.

    Args:
        path: the file.
        count: of Gaussians.
        groups: how many numbers of groups there are, with 0.
    """
    about = "what views say of objects"
    try:
        with reading(path, about):
            arrays = {name: torch.from_numpy(a) for name, a in read_npz(path, (*_ARRAYS, "num_views"), about).items()}
            num_views = integer(arrays.pop("num_views").item())
    except GsegError:
        return None
    kinds: dict[str, tuple[tuple[int, ...], torch.dtype]] = {name: ((count,), torch.float32) for name in _OF_GAUSSIANS}
    kinds |= {name: ((groups,), torch.int64) for name in ("pixels", "views")} | {"patches": ((count, 9), torch.float32)}
    right = all(
        (tuple(array.shape), array.dtype) == kinds[name]
        and (name == "patches" or bool((array >= 0).all()))
        and bool(array.isfinite().all())
        for name, array in arrays.items()
    )
    return Evidence(**arrays, num_views=num_views) if right else None


def _keep(path: Path, evidence: Evidence) -> None:
    """Keep an answer in place of the oldest; a run that cannot be written to keeps none."""
    with suppress(GsegError):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            arrays = {name: getattr(evidence, name).cpu().numpy() for name in _ARRAYS}
            np.savez(file, num_views=np.int64(evidence.num_views), **arrays)
        found = sorted(path.parent.glob(_NAME.format("*")), key=lambda other: other.stat().st_mtime)
        for former in found[: max(len(found) - KEPT, 0)]:
            former.unlink(missing_ok=True)


def parents(model: SegmentationModel, scale: float | None = None) -> tuple[float | None, Tensor | None]:
    """The larger things that groups at a scale may be parts of.

    Returns:
        the coarser scale, and the group of each Gaussian at it [N] int64; None twice where there is none.
    """
    if not model.has_scales:
        return None, None
    asked = model.default_scale if scale is None else scale
    if asked >= 1:
        return None, None
    coarser = 0.5 if asked < 0.5 else 1.0
    return coarser, model.gaussian_groups(coarser)


def tree_table(model: SegmentationModel) -> list[dict[str, Any]] | None:
    """Parent, children and evidence of all parts, objects and groups, as objects.json tells; None without a tree."""
    tree = model.tree()
    if tree is None:
        return None
    parents, last = tree.parents.tolist(), tree.last.tolist()
    counts = torch.bincount(tree.nodes.cpu(), minlength=len(parents)).cumsum(dim=0)
    return [
        {
            "id": node,
            "parent": parents[node] or None,
            "children": [child for child in range(node + 1, last[node] + 1) if parents[child] == node],
            "evidence": round(min(max(float(tree.evidence[node]), 0.0), 1.0), 4),
            "object": bool(tree.objects[node]),
            "count": int(counts[last[node]] - counts[node - 1]),
        }
        for node in range(1, len(parents))
    ]
