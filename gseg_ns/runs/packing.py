"""A run as a result that stands alone: see `gseg_ns.runs.result_folder` for the folder as files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.editing.edit_list import EDITS_FILE
from gseg_ns.errors import GsegError
from gseg_ns.folders import atomic_folder, newest
from gseg_ns.models.parameters import GEOMETRY
from gseg_ns.runs.evidence import tree_table
from gseg_ns.runs.overview import described
from gseg_ns.runs.result_folder import (
    CAMERAS,
    FRAME,
    LABELS,
    MANIFEST,
    MODEL,
    OBJECTS,
    SPLATS,
    SUFFIX,
    is_option,
    listed_files,
    write_manifest,
    write_tensors,
)
from gseg_ns.selection.store import (
    GROUP_NAMES_FILE,
    SELECTIONS_FILE,
    UNITS_FILE,
    Fingerprint,
    GroupKey,
    load_group_names,
    save_group_names,
)
from gseg_ns.splats.ply import read_ply, write_ply
from gseg_ns.splats.ply_header import PlyHeader

if TYPE_CHECKING:
    from gseg_ns.objects import ObjectRecord
    from gseg_ns.runs.run import Run
    from gseg_ns.splats import Splats

NOTES = (SELECTIONS_FILE, EDITS_FILE, GROUP_NAMES_FILE, UNITS_FILE)
"""What people save beside a run, and beside a result: copied, and not listed, for it changes."""


class Packed(NamedTuple):
    """What was found out about a run while it was packed."""

    records: list[ObjectRecord]
    """Its objects, by id."""
    floating: Tensor  # [N]
    """bool, what of them floats."""


def pack_run(
    run: Run,
    output: Path,
    scale: float | None = None,
    overwrite: bool = False,
    about: Mapping[str, Any] | None = None,
    track: Callable[[list[int]], Iterable[int]] = iter,
) -> Packed:
    """Write a run as a result.

    Args:
        run: with groups.
        output: the folder, NAME.gseg; made whole, or not at all.
        scale: of the labels and the table of objects, for methods that have scales.
        overwrite: replace a result that is there. What was saved in it stays.
        about: further plain values of how it was made.
        track: wraps the list of views while they are asked about the objects, for a progress bar.

    Returns:
        its table of objects, and what of them floats.

    Raises:
        GsegError: `output` is not called NAME.gseg, holds something, or cannot be written; the run has no Gaussian; or
            in the result that would be replaced something is saved that is of other Gaussians.
    """
    if output.suffix.lower() != SUFFIX:
        raise GsegError(f"{output} is no name of a result: call it {output.name}{SUFFIX}")
    former = listed_files(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        if not overwrite:
            raise GsegError(f"{output} is there already: name another one or add --overwrite")
        if not former:
            raise GsegError(f"{output} is no result: name another one")
    model = run.model
    labels = model.gaussian_groups(scale).int().cpu()
    sure = model.group_confidence(scale)
    facts, records, floating = described(run, scale, track)
    splats = model.splats().to("cpu")
    if len(splats) == 0:
        raise GsegError(f"{run.config_path} has no Gaussian: there is nothing to pack")
    columns = {"label": labels, **({} if sure is None else {"confidence": sure.float().cpu()})}
    state = {name: value for name, value in model.state_dict().items() if _is_kept(name, value)}
    made: dict[str, Any] = {
        "method": run.config.method_name,
        "steps": facts["steps"],
        "planned_steps": facts["planned_steps"],
        "name": run.config.experiment_name,
        "scale": scale,
        "groups": facts["groups"],
        "gaussians": len(splats),
        "options": options_of(model.config),
        "state": _plain(model.get_extra_state()),
        **(about or {}),
    }
    notes, names = _notes(run, output, splats, labels)

    def replaced() -> set[Path]:
        return listed_files(output) | {output / name for name in NOTES if (output / name).is_file()}

    with atomic_folder(output, replaced, index=MANIFEST) as staging:
        write_ply(staging / SPLATS, splats, columns, PlyHeader().comments())
        write_tensors(
            staging / LABELS, {"labels": labels, **({} if sure is None else {"confidence": columns["confidence"]})}
        )
        write_tensors(staging / MODEL, state)
        table = {
            "frame": facts["frame"],
            "views_asked": facts["views_asked"],
            "parent_scale": facts["parent_scale"],
            "tree": tree_table(model),
            "objects": [record.as_dict() for record in records],
        }
        (staging / OBJECTS).write_text(json.dumps(table, indent=1), encoding="utf-8")
        _write_cameras(run, staging / CAMERAS)
        _write_frame(run, staging / FRAME)
        write_manifest(staging, made)
        for name, path in notes.items():
            shutil.copyfile(path, staging / name)
        if names:
            save_group_names(staging / GROUP_NAMES_FILE, names, Fingerprint.of(splats.means))
    return Packed(records, floating)


def _notes(run: Run, output: Path, splats: Splats, labels: Tensor) -> tuple[dict[str, Path], dict[GroupKey, str]]:
    """What was saved with a run, and in a result that is to be replaced, of which it counts: file name -> file.

    Also the names of groups, where those of both count: of one that has two, the one that was saved last. Numbers of
    groups mean something with their labels only: names that were given to others are left out, and told.

    Raises:
        GsegError: what is saved in the result is of other Gaussians.
    """
    own = {name: newest(run.folder / name) for name in NOTES}
    there = {name: newest(output / name) for name in NOTES}
    own, there = ({name: path for name, path in found.items() if path.is_file()} for found in (own, there))
    if not there or output.resolve() == run.folder.resolve():
        return own, {}
    former = splats.subset(torch.zeros(len(splats), dtype=torch.bool))
    with suppress(GsegError):
        former = read_ply(output / SPLATS)
    if not torch.equal(former.means.nan_to_num(), splats.means.nan_to_num()):
        raise GsegError(
            f"{next(iter(there.values()))} was saved with other Gaussians than those of {run.source}: move it away, or "
            "name another --output"
        )
    if GROUP_NAMES_FILE not in there:
        return {**own, **there}, {}
    fingerprint = Fingerprint.of(splats.means)
    theirs = load_group_names(there[GROUP_NAMES_FILE], fingerprint)
    ours: dict[GroupKey, str] = {}
    if GROUP_NAMES_FILE in own:
        with suppress(GsegError):  # of another state of the run
            ours = load_group_names(own[GROUP_NAMES_FILE], fingerprint)
    before = former.extra.get("label")
    if before is None or not torch.equal(before.flatten().long(), labels.long()):
        lost = {key: name for key, name in theirs.items() if ours.get(key) != name}
        if lost:
            told = ", ".join(f"{group} {name!r}" for (group, _), name in sorted(lost.items(), key=str))
            terminal.warn(f"{output}: its objects are others now, so that their names are left out: {told}.")
        del there[GROUP_NAMES_FILE]
        return {**own, **there}, {}
    kept = {**own, **there}
    del kept[GROUP_NAMES_FILE]
    newer = GROUP_NAMES_FILE in own and (
        own[GROUP_NAMES_FILE].stat().st_mtime_ns > there[GROUP_NAMES_FILE].stat().st_mtime_ns
    )
    return kept, {**theirs, **ours} if newer else {**ours, **theirs}


def _is_kept(name: str, value: Any) -> bool:
    """Whether something of a model's state is part of a result: all but Splatfacto's own and the cameras'."""
    geometry = name.startswith("gauss_params.") and name.partition(".")[2] in GEOMETRY
    elsewhere = name.startswith(("camera_optimizer.", "lpips."))
    return isinstance(value, Tensor) and not geometry and not elsewhere


def options_of(config: Any) -> dict[str, Any]:
    """The options of a model in which it differs from its method's defaults: dotted name -> plain value."""
    return dict(_differences(config, type(config)(), ""))


def _differences(config: Any, default: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for entry in fields(config):
        value, usual = getattr(config, entry.name), getattr(default, entry.name, None)
        name = prefix + entry.name
        if is_dataclass(value) and not isinstance(value, type) and type(value) is type(usual):
            yield from _differences(value, usual, name + ".")
        elif is_option(name, value, usual) and value != usual:
            yield name, value


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model's extra state JSON can hold: how many groups, their words; and not what training needs."""
    found: dict[str, Any] = {key: value for key, value in state.items() if isinstance(value, bool | int | float | str)}
    words = state.get("words") or {}
    found["words"] = [[group, word, score] for group, (word, score) in sorted(words.items())]
    return found


def _write_cameras(run: Run, path: Path) -> None:
    """The views of the run, undistorted and with corrected poses, as a scene of Nerfstudio without photographs."""
    if run.datamanager.absent is not None:
        return
    frames: dict[str, dict[str, Any]] = {}
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for split, names in splits.items():
        for view in run.cameras(split):  # type: ignore[arg-type]
            name = f"images/{view.name}.png"
            names.append(name)
            if name in frames:
                continue
            camera = run.model.corrected(view.camera).reshape(()).to("cpu")
            pose = torch.cat([camera.camera_to_worlds, torch.tensor([[0.0, 0, 0, 1]])])
            frames[name] = {
                "file_path": name,
                "transform_matrix": pose.tolist(),
                "w": int(camera.width.item()),
                "h": int(camera.height.item()),
                "fl_x": float(camera.fx.item()),
                "fl_y": float(camera.fy.item()),
                "cx": float(camera.cx.item()),
                "cy": float(camera.cy.item()),
            }
    if len(frames) < 2:
        return
    path.parent.mkdir(parents=True)
    content = {
        "camera_model": "OPENCV",
        "orientation_override": "none",
        "train_filenames": splits["train"],
        "test_filenames": splits["test"],
        "frames": list(frames.values()),
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _write_frame(run: Run, path: Path) -> None:
    frame = run.frame()
    if frame is not None:
        rows = frame[0][:3].tolist()
        path.write_text(json.dumps({"transform": rows, "scale": float(frame[1])}, indent=1), encoding="utf-8")
