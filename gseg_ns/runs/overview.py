"""What a run is: method, steps, masks, groups, objects; and which runs there are below a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.folders import is_held
from gseg_ns.masks import MaskFolder
from gseg_ns.objects import ObjectRecord, find_floaters, object_records
from gseg_ns.reading import integer, number, read_json, reading
from gseg_ns.runs.edited_run import EditedRun
from gseg_ns.runs.evidence import parents, run_evidence
from gseg_ns.runs.labels import LABELLED_PLY, UNLABELLED_PLY
from gseg_ns.runs.run import Run
from gseg_ns.runs.safe_config import read_config

_SCORES = "eval_test.json"


def overview(
    run: Run, scale: float | None = None, track: Callable[[list[int]], Iterable[int]] = iter
) -> tuple[dict[str, Any], list[ObjectRecord]]:
    """What there is to say of a run, and of each of its objects in the run's own coordinates.

    Args:
        run: it may have no groups yet; then it has no objects either.
        scale: at which groups are meant, for methods that have scales.
        track: wraps the list of views while they are asked about the objects, for a progress bar.

    Returns:
        plain values for JSON, and the objects by id.
    """
    return described(run, scale, track)[:2]


def described(
    run: Run, scale: float | None = None, track: Callable[[list[int]], Iterable[int]] = iter
) -> tuple[dict[str, Any], list[ObjectRecord], Tensor]:
    """As `overview`, and what of the objects floats: bool [N], of the run's own Gaussians."""
    progress, model = run.progress, run.model
    floating = torch.zeros(model.num_points, dtype=torch.bool)
    facts: dict[str, Any] = {
        "config": str(run.source),
        "method": run.config.method_name,
        "scene": "" if run.alone else str(run.datamanager.get_datapath()),
        "steps": progress.steps,
        "planned_steps": progress.planned,
        "training_ended": progress.is_finished,
        "training_now": progress.is_running,
        "has_groups": progress.has_groups,
        "gaussians": model.num_points,
        "psnr": _psnr(run),
        "masks": _masks(run),
        "groups": 0,
        "frame": "nerfstudio",
        "views_asked": None,
        "parent_scale": None,
    }
    if not progress.has_groups:
        return facts, [], floating
    groups = model.gaussian_groups(scale)
    facts["groups"] = int((groups.unique() > 0).sum())
    if facts["method"] == LABELLED_PLY and not facts["groups"]:
        facts["method"] = UNLABELLED_PLY
    evidence = run_evidence(run, scale, track)
    facts["views_asked"] = None if evidence is None else evidence.num_views
    facts["parent_scale"], larger = parents(model, scale)
    try:
        names = EditedRun(run, scale=scale).names
    except GsegError:  # an ornament, of another state of the run
        names = {}
    rows = model.splats().exportable()
    seen = None if evidence is None else evidence.rows(torch.nonzero(rows)[:, 0])
    larger = None if larger is None else larger[rows]
    splats = model.splats().subset(rows)
    found = find_floaters(splats.to("cpu"), groups[rows].cpu(), None if seen is None else seen.to("cpu"))
    floating[rows.cpu()] = found.cpu()
    return facts, object_records(splats, groups[rows], seen, names, found, parents=larger), floating


def _psnr(run: Run) -> float | None:
    """That `gseg eval` measured of this checkpoint."""
    path = run.folder / _SCORES
    about = "scores of gseg eval"
    try:
        with reading(path, about):
            scores = read_json(path, about)
            return number(scores["psnr"], -200, 200) if integer(scores["step"]) == run.step else None
    except GsegError:
        return None


def _masks(run: Run) -> dict[str, Any] | None:
    """Where the masks are, and how many training views have some; None where they are gone."""
    data = run.datamanager
    if data.absent is not None:
        return None
    try:
        files = MaskFolder(data.masks_path).match(data.train_dataset.image_filenames)
    except GsegError:
        return None
    return {
        "folder": str(data.masks_path),
        "views": len(files),
        "views_with_masks": sum(file is not None for file in files),
    }


@dataclass(frozen=True)
class ListedRun:
    """A run as its files say it, unloaded."""

    config: Path
    method: str
    steps: int | None
    """That its newest checkpoint has; None without one."""
    planned: int | None
    state: str
    """"ended", "running", "stopped early", "no checkpoint", or what is wrong with it."""
    written: str
    """When its newest checkpoint was."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "config": str(self.config)}


def runs_below(folder: Path) -> list[ListedRun]:
    """The runs of Nerfstudio below a folder, also those of other methods, by path."""
    return [_listed(path) for path in sorted(folder.rglob("config.yml")) if _is_run(path)]


def _is_run(config: Path) -> bool:
    with config.open("rb") as file:
        return file.read(64).startswith(b"!!python/object:")


def _listed(path: Path) -> ListedRun:
    from gseg_ns.models.checkpoints import checkpoints

    try:
        config = read_config(path)
    except GsegError as error:
        return ListedRun(path, "", None, None, str(error), "")
    found = checkpoints(path.parent / config.relative_model_dir)
    planned, method = config.max_num_iterations, config.method_name or ""
    if not found:
        state = "running" if is_held(path.parent) else "no checkpoint"
        return ListedRun(path, method, None, planned, state, "")
    steps = int(found[0].stem[5:]) + 1
    state = "ended" if steps >= planned else "running" if is_held(path.parent) else "stopped early"
    written = datetime.fromtimestamp(found[0].stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    return ListedRun(path, method, steps, planned, state, written)
