"""Opening what a user names as a session for pages: a run, a result or a PLY."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gseg_ns.page.placing import View, first_view
from gseg_ns.runs.labelled import Labelled, cameras_of_result, open_labelled
from gseg_ns.runs.opening import Opening, opening_among, opening_view
from gseg_ns.runs.result_folder import is_result
from gseg_ns.serving.desk import Desk, Search

if TYPE_CHECKING:
    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.runs.run import Run


def open_desk(path: Path, data: Path | None = None) -> tuple[Desk, dict[str, Any]]:
    """Open a run, a result or a PLY.

    A PLY, and a result whose labels answer, are opened without Nerfstudio.

    Args:
        path: see `load_run`; a PLY need not have labels.
        data: see `load_run`.

    Returns:
        the session, and what its page is told of the scene, see `web/src/meta.js`.

    Raises:
        GsegError: there is no such thing, or it is damaged.
    """
    found = open_labelled(path, data)
    if found is not None:
        desk = Desk(cast("SegmentationModel", found.model), found.folder)
        return desk, _meta(desk, found.name, _opening_of_cameras(found))
    from gseg_ns.runs.run import load_run

    run = load_run(path, data, allow_unfinished=True)
    desk = Desk(run.model, run.folder, _search(run))
    opening = None
    if not run.model.prompts_by_feature:
        opening = opening_view(run, run.model.splats(), run.model.gaussian_groups())
    return desk, _meta(desk, run.config.experiment_name or run.folder.stem, opening)


def _meta(desk: Desk, title: str, opening: Opening | None) -> dict[str, Any]:
    splats, where = desk.controller.model.splats().to("cpu"), desk.picture.space.placement
    fit = splats.subset(splats.exportable())
    view = first_view(where.of(fit.with_sh_degree(0)), [], where, None if opening is None else View(*opening))
    return {
        "title": title,
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
    return opening_among(cameras, found.model.splats(), found.model.gaussian_groups())


def _search(run: Run) -> Search | None:
    """Texts, where there are masks to compare them with."""
    from gseg_ns.runs.text_search import TextSearch, can_search

    if run.alone or not can_search(run.model):
        return None
    search = TextSearch(run.model, run.datamanager, run.folder)

    return search.find
