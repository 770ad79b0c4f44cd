"""What leaves the viewer: splat files, runs, and the session beside the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.files import slug
from gseg_ns.selection.store import check_name
from gseg_ns.splats.placement import Axis, Placement
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.ply_header import PlyHeader
from gseg_ns.viewer.floating import Floating

if TYPE_CHECKING:
    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.page import View
    from gseg_ns.runs.fringes import Cleaned


Clean = Callable[[Sequence[int], float | None], "Cleaned"]
"""The model's Gaussians with the borders of some groups, at a scale, cleaned, and those of the groups that views show,
which were (`gseg_ns.runs.fringes.clean_groups`); takes long, and is called without the lock."""


class Exporting(Floating):
    """Writing.

    What is written is what there is when it is asked for. Writing it may be left for later, beside what goes on: what
    ends in `_later` gives what does it, which may be called from any thread.
    """

    up: Axis = "z"
    """Which way is up in the scene."""

    def __init__(self, model: SegmentationModel, lock: AbstractContextManager[Any] | None = None) -> None:
        super().__init__(model, lock)
        self._writing = threading.Lock()
        self._saving = threading.Lock()

    def save(self, folder: Path) -> str:
        """Write selections, edits and names of groups beside a run's `config.yml`."""
        with self._saving:
            with self._held() as session:
                unsaved = session.unsaved()
            kept = unsaved.write(folder)  # waiting for the disk, without the lock
        said = f"Saved selections, edits and names of groups in {folder}."
        if kept:
            said += f" What was there and had not been loaded is kept as {', '.join(path.name for path in kept)}."
        return said

    def load(self, folder: Path) -> str:
        """Read what `save` wrote; the empty string when there is nothing."""
        with self._held() as session:
            self._end_prompt()
            loaded = session.load(folder)
        if loaded is None:
            return ""
        said = [f"Restored {', '.join(loaded.parts)} of {folder}."] if loaded.parts else []
        if loaded.left_out:
            names = ", ".join(loaded.left_out)
            said.append(f"**Left out:** {names}, made of copies that the list of edits does not make.")
        said.extend(f"**Not loaded:** {problem}" for problem in loaded.problems)
        return " ".join(said)

    def export_ply(self, path: Path, overwrite: bool = False) -> str:
        """Write the selected Gaussians, edits baked in, as a 3DGS PLY that every splat tool reads.

        Raises:
            GsegError: nothing is selected, the file is there already, or it cannot be written.
        """
        return self.export_ply_later(path, overwrite)()

    def export_ply_later(self, path: Path, overwrite: bool = False) -> Callable[[], str]:
        """See `export_ply`."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            splats, header = session.scene.splats.subset(_selected(session)).to("cpu"), self._header(session)

        def write() -> str:
            with self._writing:  # two that write one file: the second finds that of the first
                if path.exists() and not overwrite:
                    raise GsegError(f"{path} is there already. Tick “Overwrite”, or choose another name.")
                write_ply(path, splats, comments=header.comments())
            return f"Wrote {len(splats):,} Gaussians to {path} ({time.perf_counter() - started:.1f} s)."

        return write

    def isolate_run(self, config: Path, name: str, output_dir: Path | None = None) -> Path:
        """Write the selected Gaussians, edits baked in, as a run of its own; see `write_run`.

        Returns:
            the new run's `config.yml`.
        """
        from gseg_ns.runs.isolated import write_run

        check_name(name)
        model = self.model.whole()
        with self._held() as session, torch.no_grad():
            keep = _selected(session)
            splats, source = session.scene.splats.subset(keep), session.scene.source[keep]
            return write_run(config, model, splats, source, name, output_dir)

    def export_page(self, path: Path, overwrite: bool = False, title: str = "", view: View | None = None) -> str:
        """Write all that is there, edits baked in, and its objects as a page that can be sent; see `write_page`.

        Args:
            path: the file.
            overwrite: whether one that is there is replaced.
            title: of the page.
            view: where it opens.

        Raises:
            GsegError: the file is there already, or it cannot be written.
        """
        return self.export_page_later(path, overwrite, title, view)()

    def export_page_later(
        self, path: Path, overwrite: bool = False, title: str = "", view: View | None = None
    ) -> Callable[[], str]:
        """See `export_page`."""
        from gseg_ns.page import Words, write_page

        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene = session.scene
            there, metres = ~scene.removed, session.state.metres
            splats = scene.splats.subset(there).to("cpu")
            known = self._knows_groups
            groups = self._row_groups(scene)[there].cpu() if known else torch.zeros(len(splats), dtype=torch.int64)
            names = {**self.model.group_names(self._group_scale), **session.labels(self._group_scale)} if known else {}

        def write() -> str:
            with self._writing:
                if path.exists() and not overwrite:
                    raise GsegError(f"{path} is there already. Tick “Overwrite”, or choose another name.")
                path.parent.mkdir(parents=True, exist_ok=True)
                report = write_page(
                    path,
                    splats,
                    groups,
                    names,
                    words=Words(title or Words.title),
                    placement=Placement(up=self.up, meters_per_unit=metres).in_meters(),
                    view=view,
                    units="scene" if metres is None else "m",
                    exact=find_spec("gsply") is None,
                )
            return (
                f"Wrote {report.splats:,} Gaussians and {report.objects} objects to {path}, {report.size / 1e6:.1f} MB "
                f"({time.perf_counter() - started:.1f} s). Open it in a browser, or send it."
            )

        return write

    def export_objects(self, folder: Path, clean: Clean | None = None) -> str:
        """Write a PLY an object that is selected, edits baked in, under names that nothing has yet.

        A selection that is no objects, or whose objects are not known, becomes one file; a few Gaussians of others
        beside objects are left out, and floaters of objects where they are known.

        Args:
            folder: made if need be.
            clean: lets each object end where the training views show that it does; None: they are as the scene has
                them.

        Raises:
            GsegError: nothing is selected, or, where borders are to be cleaned, no whole objects are or no view shows
                them, views cannot be asked, or a file cannot be written.
        """
        return self.export_objects_later(folder, clean)()

    def export_objects_later(self, folder: Path, clean: Clean | None = None) -> Callable[[], str]:
        """See `export_objects`."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene = session.scene
            keep = _selected(session)
            pieces, are_whole = self._pieces(session) if self._knows_groups else ((), False)
            floating = self._floating_rows(scene) if pieces else None
            floaters = 0
            if floating is not None and bool((keep & ~floating).any()):  # else it is floaters that are asked for
                floaters = int((keep & floating).sum())
                keep = keep & ~floating
            of = self._row_groups(scene) if pieces else None
            rows = {piece: keep & (of == piece) for piece in pieces}
            rows = {piece: own for piece, own in rows.items() if bool(own.any())}
            if clean is not None and not (rows and are_whole):
                raise GsegError("Borders are of whole objects: select one, and not a part of it or Gaussians of many.")
            names = [self._name(session, piece) for piece in rows] or ["selection"]
            parts = [scene.splats.subset(own) for own in rows.values()] or [scene.splats.subset(keep)]
            strays = int(keep.sum()) - sum(map(len, parts))
            header, plain, scale = self._header(session), session.splats, self._group_scale
            operations = session.state.operations

        def write() -> str:
            written, found, borders = [], parts, ""
            if clean is not None:
                fitted, shown = clean(list(rows), scale)
                if not shown:
                    raise GsegError(
                        "No training view shows what is selected, so no border was cleaned or file written."
                    )
                from gseg_ns.runs.fringes import after_edits

                cleaned = after_edits(fitted, operations, plain)
                found = [cleaned.subset(own).splats for own in rows.values()]
                borders = f" Borders cleaned: {len(shown)} of {len(rows)}."
            with self._writing:  # two that export at once: the second finds the names of the first
                for name, splats in zip(names, found, strict=True):
                    path = _free(folder, slug(name) or "object")
                    write_ply(path, splats.to("cpu"), comments=header.comments())
                    written.append(path.name)
            files = f"{len(written)} file{'' if len(written) == 1 else 's'}"
            left = f" Left out: {strays:,} selected Gaussians of others." if strays else ""
            left += f" Left out: {floaters:,} floater{'' if floaters == 1 else 's'}." if floaters else ""
            took = f"({time.perf_counter() - started:.1f} s)"
            return f"Wrote {files} to {folder}: {', '.join(written)} {took}.{borders}{left}"

        return write

    def _header(self, session: Session) -> PlyHeader:
        """What files say of Gaussians that lie where the scene has them."""
        return PlyHeader(Placement(up=self.up, meters_per_unit=session.state.metres), session.fingerprint.digest)


def _free(folder: Path, stem: str) -> Path:
    """A name for a PLY that nothing has."""
    path, number = folder / f"{stem}.ply", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.ply"
    return path


def _selected(session: Session) -> Tensor:
    """The selected rows that have not been removed, bool [M]; a GsegError when there are none."""
    mask = session.selection.mask & ~session.scene.removed
    if not bool(mask.any()):
        raise GsegError("Nothing is selected, so nothing was written. Click on an object first.")
    return mask
