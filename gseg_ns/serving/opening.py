"""Opening what a user names as a session for pages: a run, a result or a PLY."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from gseg_ns.data.cameras import to_camera
from gseg_ns.page.placing import View, first_view
from gseg_ns.runs.labelled import Labelled, cameras_of_result, open_labelled
from gseg_ns.runs.opening import Opening, opening_among, opening_at, opening_view
from gseg_ns.runs.result_folder import is_result
from gseg_ns.serving.desk import Clean, Desk, Search
from gseg_ns.splats.placement import Axis
from gseg_ns.splats.ply_header import read_header

if TYPE_CHECKING:
    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.runs.run import Run


def open_desk(path: Path, data: Path | None = None, up: Axis | None = None) -> tuple[Desk, dict[str, Any]]:
    """Open a run, a result or a PLY.

    A PLY, and a result whose labels answer, are opened without Nerfstudio.

    Args:
        path: see `load_run`; a PLY need not have labels.
        data: see `load_run`.
        up: which way is up; None: as a PLY says, else z, as Nerfstudio has it.

    Returns:
        the session, and what its page is told of the scene, see `web/src/meta.js`.

    Raises:
        GsegError: there is no such thing, or it is damaged.
    """
    found = open_labelled(path, data)
    if found is not None:
        up = _up_of(found) if up is None else up
        # A scene is only needed for borders, and Nerfstudio with it.
        has_views = data is not None or (is_result(found.path) and found.cameras is not None)
        clean = None if not has_views else _clean(cache(lambda: _run(path, data)))
        model = cast("SegmentationModel", found.model)
        desk = Desk(model, found.folder, title=found.name, up=up, clean=clean)
        return desk, _meta(desk, _opening_of_cameras(found))
    run = _run(path, data)
    title = run.config.experiment_name or run.folder.stem
    clean = None if run.alone and run.datamanager.absent is not None else _clean(lambda: run)
    desk = Desk(run.model, run.folder, _search(run), title, up or "z", clean)
    splats = run.model.splats()
    if run.model.prompts_by_feature:  # groups are clusters, which take long
        groups = torch.zeros(len(splats), dtype=torch.int64)
    else:
        groups = run.model.gaussian_groups()
    return desk, _meta(desk, opening_view(run, splats, groups) or _first_camera(run))


def _run(path: Path, data: Path | None) -> Run:
    from gseg_ns.runs.run import load_run

    return load_run(path, data, allow_unfinished=True)


def _up_of(found: Labelled) -> Axis:
    """Which way is up, as far as the header lines of a PLY say it."""
    placement = None if is_result(found.path) else read_header(found.path).placement
    return "z" if placement is None else placement.up


def _first_camera(run: Run) -> Opening | None:
    """A training view, where there is one: no better one is known without groups."""
    if run.datamanager.absent is not None:
        return None
    return opening_at(to_camera(run.datamanager.camera(0)), run.model.splats())


def _meta(desk: Desk, opening: Opening | None) -> dict[str, Any]:
    splats, where = desk.controller.model.splats().to("cpu"), desk.picture.space.placement
    fit = splats.subset(splats.exportable())
    view = first_view(where.of(fit.with_sh_degree(0)), [], where, None if opening is None else View(*opening))
    return {
        "title": desk.title,
        "description": "",
        "attribution": "",
        "format": "ply",
        "mode": splats.rasterize_mode,
        "units": "scene",
        "view": view,
        "splats": len(splats),
        "all": len(splats),
        "objects": [],
    }


def _opening_of_cameras(found: Labelled) -> Opening | None:
    """From where a result's views show most, where it has any."""
    if found.cameras is None:
        return None
    if is_result(found.path):
        cameras = cameras_of_result(found.cameras)
    else:
        from gseg_ns.views.given import pinhole, read_cameras

        cameras = [pinhole(frame) for frame in read_cameras(found.cameras, lambda text: None)[0]]
    splats = found.model.splats()
    best = opening_among(cameras, splats, found.model.gaussian_groups())
    return opening_at(cameras[0], splats) if best is None and cameras else best


def _clean(run: Callable[[], Run]) -> Clean:
    """Cleans the borders of groups of a run, which is opened when it is asked for."""
    from gseg_ns.runs.fringes import clean_groups, saying

    return lambda groups, scale, say, is_over: clean_groups(run(), scale, groups, saying(say, is_over))


def _search(run: Run) -> Search | None:
    """Texts, where there are masks to compare them with."""
    from gseg_ns.runs.text_search import TextSearch, can_search

    if run.alone or not can_search(run.model):
        return None
    search = TextSearch(run.model, run.datamanager, run.folder)

    return search.find
