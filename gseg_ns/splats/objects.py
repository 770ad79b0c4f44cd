"""The objects of a scene as files: one for everything, with labels, and one for each group."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from gseg_ns.choices import SplatFormat
from gseg_ns.errors import GsegError
from gseg_ns.files import slug
from gseg_ns.folders import atomic_folder
from gseg_ns.palette import colors
from gseg_ns.reading import file_path, read_json
from gseg_ns.splats.container import Splats
from gseg_ns.splats.gltf import write_glb
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.spz import write_spz

_INDEX = "objects.json"


def write_splats(path: Path, splats: Splats, groups: Tensor | None = None) -> None:
    """Write splats in the format that the suffix names, `.ply`, `.spz` or `.glb`.

    Args:
        path: the file.
        splats: N Gaussians.
        groups: int [N]; a PLY gets them as `label`, and their colors as `red green blue`; a GLB as `_LABEL`. SPZ has
            no room for them.

    Raises:
        GsegError: another suffix, or as `write_ply`, `write_spz` and `write_glb`.
    """
    if path.suffix == ".spz":
        write_spz(path, splats)
    elif path.suffix == ".glb":
        write_glb(path, splats, groups)
    elif path.suffix == ".ply":
        write_ply(path, splats, {} if groups is None else {"label": groups.int(), "rgb": colors(groups)})
    else:
        raise GsegError(f"Cannot write {path}: the suffix must be .ply, .spz or .glb.")


def write_objects(
    folder: Path,
    splats: Splats,
    groups: Tensor,
    form: SplatFormat = "ply",
    min_gaussians: int = 20,
    names: Mapping[int, str] | None = None,
    about: Mapping[str, Any] | None = None,
    track: Callable[[list[int]], Iterable[int]] = iter,
) -> list[dict[str, Any]]:
    """Write `scene`, one file for each group in `objects/`, and `objects.json`, which lists them.

    What an earlier export into the folder left is replaced as a whole: files of groups that are no more, or have
    another name now, are removed. Until all is written, nothing changes.

    Args:
        folder: where to; made if need be.
        splats: N Gaussians.
        groups: int [N]; 0 means none, and gets no file of its own.
        form: file format.
        min_gaussians: smaller groups get no file of their own.
        names: what some groups are called; it becomes part of the names of their files.
        about: further entries of `objects.json`, e.g. the frame of the coordinates.
        track: wraps the list of groups while it is worked through, for a progress bar.

    Returns:
        What `objects.json` says of each object: group, name where it has one, file, gaussians, color, min and max
        corner of the centres.

    Raises:
        GsegError: no Gaussian, or as `write_splats`.
    """
    with atomic_folder(folder, lambda: _listed_files(folder), index=_INDEX) as staging:
        listed = _write_all(staging, splats, groups, form, min_gaussians, names or {}, track)
        content = json.dumps({**(about or {}), "objects": listed}, indent=1)
        (staging / _INDEX).write_text(content, encoding="utf-8")
    return listed


def _write_all(
    folder: Path,
    splats: Splats,
    groups: Tensor,
    form: SplatFormat,
    min_gaussians: int,
    names: Mapping[int, str],
    track: Callable[[list[int]], Iterable[int]],
) -> list[dict[str, Any]]:
    groups = groups.to("cpu", torch.int64)
    splats = splats.to("cpu")
    write_splats(folder / f"scene.{form}", splats, groups)
    # One sort instead of one search a group: there may be thousands.
    order = torch.argsort(groups, stable=True)
    ids, counts = torch.unique_consecutive(groups[order], return_counts=True)
    rows = dict(zip(ids.tolist(), torch.split(order, counts.tolist()), strict=True))
    kept = [group for group in rows if group > 0 and len(rows[group]) >= max(min_gaussians, 1)]
    listed = []
    for group in track(kept):
        part = splats.subset(rows[group])
        called = names.get(group, "")
        name = f"objects/{'_'.join(filter(None, [f'group_{group:04d}', slug(called)]))}.{form}"
        write_splats(folder / name, part)
        listed.append(
            {
                "group": group,
                **({"name": called} if called else {}),
                "file": name,
                "gaussians": len(part),
                "color": colors(torch.tensor(group)).tolist(),
                "min": part.means.amin(dim=0).tolist(),
                "max": part.means.amax(dim=0).tolist(),
            }
        )
    return listed


def _listed_files(folder: Path) -> set[Path]:
    """The files that an earlier `write_objects` left in a folder, if it did."""
    try:
        objects = read_json(folder / _INDEX, "a list of objects")["objects"]
        names = [Path(file_path(entry["file"])) for entry in objects]
    except (GsegError, ValueError, KeyError, TypeError):
        return set()
    files = {folder / "objects" / name.name for name in names if name.suffix[1:] in get_args(SplatFormat)}
    files |= {folder / _INDEX, *(folder / f"scene.{form}" for form in get_args(SplatFormat))}
    return {path for path in files if path.is_file()}
