"""What the viewer's buttons do, without any button: a session on a model, under the viewer's lock.

All browsers share one session. Every public method may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from gseg_ns.editing.operations import Edited, Operation, Swap
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.lifting.thresholds import SAME_THING
from gseg_ns.models.base import SegmentationModel
from gseg_ns.palette import colors
from gseg_ns.rendering.camera import Camera
from gseg_ns.runs.isolated import write_run
from gseg_ns.runs.prompting import MarkedView, Point, Prompter
from gseg_ns.selection.neighbourhood import Neighbourhood, largest_component, middle_extents
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.postprocess import clean_up
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.selection import Mode, Selection
from gseg_ns.selection.shapes import rectangle
from gseg_ns.selection.store import check_name
from gseg_ns.splats.ply import write_ply
from gseg_ns.viewer.drawing import Drawing, looked_at

Change = Literal["none", "all", "invert", "grow", "shrink", "clean", "largest"]


@dataclass(frozen=True)
class Marked:
    """Clicks on one view that a mask answers, and how that meets the selection."""

    view: MarkedView
    mode: Mode
    before: PackedMask
    """What was selected before the first of the clicks."""


@dataclass(frozen=True)
class Group:
    """A line of the list of groups."""

    id: int
    name: str
    count: int
    color: tuple[int, int, int]
    hidden: bool


class SegmentController:
    """Selection and edits on a model in the viewer."""

    def __init__(self, model: SegmentationModel, lock: AbstractContextManager[Any] | None = None) -> None:
        """Start with nothing selected.

        Args:
            model: the model that is shown, possibly in training.
            lock: held while the model is read and while the session changes; the viewer's `train_lock`.
        """
        self.model = model
        self.scale = model.default_scale
        self.threshold = SAME_THING
        self._lock: AbstractContextManager[Any] = lock if lock is not None else threading.Lock()
        self._session = Session(model.splats())
        self._seen = model.geometry_version()
        self._prompter = Prompter(model)
        self._points: list[Point] = []
        self._before_prompt: PackedMask | None = None
        self._marked: Marked | None = None
        self._marking = threading.Lock()
        self._writing = threading.Lock()
        self._neighbourhood: tuple[Any, Neighbourhood] | None = None
        self._edited_neighbourhood: tuple[Any, Neighbourhood] | None = None
        self._drawing = Drawing(model)
        self.notice = ""

    # ------------------------------------------------------------------------------------------------ state

    @contextmanager
    def _held(self) -> Iterator[Session]:
        """Hold the lock, with the session on the model's present Gaussians."""
        with self._lock:
            yield self._current()

    def _current(self) -> Session:
        version = self.model.geometry_version()
        if version != self._seen:
            self._seen = version
            had = self._session.state
            if not self._session.rebase(self.model.splats()):
                self._end_prompt()
                if had.operations or had.selection != PackedMask.empty(had.selection.length):
                    self.notice = "Training changed the number of Gaussians: selection and edits start anew."
        return self._session

    def summary(self) -> str:
        """What is selected and done, in one line."""
        with self._held() as session:
            edits = len(session.state.operations)
            return (
                f"{session.selection.count:,} of {len(session.scene):,} Gaussians selected, "
                f"{edits} edit{'' if edits == 1 else 's'}"
            )

    def take_notice(self) -> str:
        """What happened by itself since this was asked last, or the empty string."""
        with self._held():
            notice, self.notice = self.notice, ""
        return notice

    @property
    def selected(self) -> Tensor:
        """The selected rows of the edited scene, bool [M]."""
        with self._held() as session:
            return session.selection.mask

    @property
    def names(self) -> list[str]:
        """Named selections."""
        with self._held() as session:
            return list(session.named)

    # ---------------------------------------------------------------------------------------------- prompts

    def click(self, camera: Camera, x: float, y: float, positive: bool) -> str:
        """Add a point to the prompt, and select what it means.

        Args:
            camera: the view that was clicked on.
            x: pixel column.
            y: pixel row.
            positive: whether it is what is wanted, or what is not.

        Returns:
            what was picked, for the user.

        Raises:
            GsegError: there is nothing, or nothing that belongs to a group.
        """
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene = session.scene
            point = self._prompter.point(camera, x, y, positive, self._group_scale, scene)
            self._marked = None
            if self._before_prompt is None:
                self._points, self._before_prompt = [], session.state.selection
            self._points.append(point)
            before = session.selection.count
            count = self._resolve(session)
            label = session.labels(self._group_scale).get(point.group)
        what = "object" if self.model.prompts_by_feature else f"group {point.group}"
        if label and not self.model.prompts_by_feature:
            what += f" ({label})"
        return (
            f"**{'+' if positive else '−'}** {what}: {count - before:+,} → {count:,} Gaussians "
            f"({1000 * (time.perf_counter() - started):.0f} ms)"
        )

    def _resolve(self, session: Session) -> int:
        """Select what the points so far mean, beside what was selected before the first of them."""
        scene, points = session.scene, self._points
        assert self._before_prompt is not None
        chosen = self._before_prompt.resized(len(scene)).unpack(scene.splats.device)
        if self.model.prompts_by_feature:
            inverse = [replace(point, positive=not point.positive) for point in points]
            return session.select(chosen & ~self._meant(scene, inverse) | self._meant(scene, points))
        for point in points:  # in their order: what was taken away can be added again
            meant = self._meant(scene, [replace(point, positive=True)])
            chosen = chosen | meant if point.positive else chosen & ~meant
        return session.select(chosen)

    def _meant(self, scene: Edited, points: Sequence[Point]) -> Tensor:
        """What is drawn of what points mean, in the pieces that the positive ones are on: bool [M]."""
        found = self._prompter.select_points(points, self._group_scale, self.threshold)
        pieces = scene.appended_by[[point.row for point in points if point.positive]]
        return _drawn_rows(scene, found) & torch.isin(scene.appended_by, pieces)

    def reprompt(self, scale: float | None = None, threshold: float | None = None) -> str:
        """Change the scale or the threshold; the present prompt is answered anew."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            self.scale = self.scale if scale is None else scale
            self.threshold = self.threshold if threshold is None else threshold
            if not self.model.prompts_by_feature or not (self._points or self._marked):
                return ""
            count = self._resolve(session) if self._marked is None else self._select_marked(session, self._marked)
            at = self.scale
        return f"Scale {at:.2f}: {count:,} Gaussians ({1000 * (time.perf_counter() - started):.0f} ms)"

    def mark(
        self,
        camera: Cameras,
        x: float,
        y: float,
        positive: bool,
        answer: Callable[[Tensor, Prompt], Tensor],
        mode: Mode = "set",
    ) -> str:
        """Add a point to what is marked on a view, and select what a mask of all its points means.

        A click on another view begins anew.

        Args:
            camera: the view [1] that was clicked on.
            x: pixel column.
            y: pixel row.
            positive: whether it is what is wanted, or what is not.
            answer: picture uint8 [H, W, 3] of the view, with the model's Gaussians as they are without edits, and
                points on it, to a mask bool [H, W]; called without the lock, for it may take seconds, and with the same
                tensor for the same view.
            mode: how what it means meets what was selected before the first of the points.

        Raises:
            GsegError: the first point on a view is what is not wanted, there is no answer, or training changed the
                number of Gaussians meanwhile.
        """
        started = time.perf_counter()
        with self._marking:  # the second of two quick clicks waits for the first: they belong together
            with self._held() as session:
                marked, count = self._marked, len(session.splats)
                if marked is not None and marked.view.shows(camera):
                    after = marked.view.adding(x, y, positive)
                elif positive:
                    marked, after = None, MarkedView.begin(self.model, camera, x, y)
                else:
                    raise GsegError("Begin with a “Click +” on this view: a “Click -” alone tells SAM nothing.")
            after = replace(after, mask=answer(after.picture, after.points))
            if after.mask is None or not bool(after.mask.any()):
                raise GsegError("SAM finds nothing there. Click elsewhere.")
            with self._held() as session, torch.no_grad():
                if len(session.splats) != count:
                    raise GsegError("Training changed the number of Gaussians meanwhile. Click again.")
                # Meanwhile the prompt may have ended, by an undo for one.
                before = marked.before if marked and self._marked is marked else session.state.selection
                answered = Marked(after, mode, before)
                selected = self._select_marked(session, answered)
                self._end_prompt()
                self._marked = answered
        points = after.points
        number = len(points.positive) + len(points.negative)
        return (
            f"**{'+' if positive else '−'}** SAM, {number} point{'' if number == 1 else 's'}: {selected:,} Gaussians "
            f"selected ({time.perf_counter() - started:.1f} s)"
        )

    def _select_marked(self, session: Session, marked: Marked) -> int:
        """Select what a mask means, beside what was selected before it."""
        prompt = Prompt(mask=marked.view.mask)
        found = self._prompter.select(marked.view.camera, prompt, self._group_scale, self.threshold, mask_by_sam=True)
        scene = session.scene
        before = Selection(marked.before.resized(len(scene)).unpack(scene.splats.device))
        return session.select(before.combine(_drawn_rows(scene, found), marked.mode).mask)

    def drag(
        self,
        camera: Camera,
        corner: tuple[float, float],
        opposite: tuple[float, float],
        mode: Mode = "set",
        visible_only: bool = True,
    ) -> str:
        """Select with a rectangle on the screen; see `gseg_ns.selection.shapes.rectangle`."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene = session.scene
            drawn = scene.drawn
            mask = torch.zeros_like(drawn)
            mask[drawn] = rectangle(scene.splats.subset(drawn), camera, corner, opposite, visible_only)
            count = self._select(session, mask, mode)
        return f"Rectangle: {count:,} Gaussians selected ({1000 * (time.perf_counter() - started):.0f} ms)"

    def find(self, text: str, search: Callable[[str], Tensor], mode: Mode = "set") -> str:
        """Select what a text means.

        Args:
            text: in words.
            search: answers bool [N] over the model's Gaussians; called without the lock, for it may take minutes.
            mode: how the answer meets the selection.

        Raises:
            GsegError: the search fails, or training changed the number of Gaussians meanwhile.
        """
        started = time.perf_counter()
        found = search(text)
        with self._held() as session, torch.no_grad():
            scene = session.scene
            if len(found) != len(session.splats):
                raise GsegError("Training changed the number of Gaussians meanwhile. Ask again.")
            count = self._select(session, _drawn_rows(scene, found), mode)
        return f"“{text}”: {count:,} Gaussians selected ({time.perf_counter() - started:.1f} s)"

    # ------------------------------------------------------------------------------------------- set algebra

    def _select(self, session: Session, mask: Tensor, mode: Mode = "set") -> int:
        """Select outside of a prompt, which ends with it."""
        self._end_prompt()
        return session.select(mask, mode)

    def _end_prompt(self) -> None:
        self._points, self._before_prompt, self._marked = [], None, None

    def change(self, what: Change) -> str:
        """Change the selection as a whole."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene, mask = session.scene, session.selection.mask
            self._end_prompt()
            if what == "none":
                count = session.select(torch.zeros_like(mask))
            elif what == "all":
                count = session.select(scene.drawn)
            elif what == "invert":
                count = session.invert()
            else:
                if not bool(mask.any()):
                    raise GsegError("Nothing is selected. Click on an object first.")
                splats = scene.splats
                if what == "clean":
                    count = session.select(clean_up(splats.means, mask & scene.drawn) & scene.drawn)
                elif what == "largest":
                    count = session.select(largest_component(splats.means, mask, middle_extents(splats.scales)))
                else:
                    graph = self._graph(session)
                    changed = graph.grow(mask) if what == "grow" else graph.shrink(mask)
                    count = session.select(changed & scene.drawn)
        return f"{what.capitalize()}: {count:,} Gaussians selected ({1000 * (time.perf_counter() - started):.0f} ms)"

    def _graph(self, session: Session) -> Neighbourhood:
        if self._neighbourhood is None or self._neighbourhood[0] != self._seen:
            self._neighbourhood = self._seen, Neighbourhood(session.splats.means)
        key = (self._seen, session.state.operations)
        if self._edited_neighbourhood is None or self._edited_neighbourhood[0] != key:
            self._edited_neighbourhood = key, self._neighbourhood[1].edited(session.scene.splats.means)
        return self._edited_neighbourhood[1]

    def undo(self) -> str:
        """Take the last change back."""
        with self._held() as session:
            self._end_prompt()
            return "Undone." if session.undo() else "There is nothing to undo."

    def redo(self) -> str:
        """Repeat what was undone."""
        with self._held() as session:
            self._end_prompt()
            return "Redone." if session.redo() else "There is nothing to redo."

    def keep(self, name: str) -> str:
        """Name the selection."""
        with self._held() as session:
            return f"Kept {session.selection.count:,} Gaussians as “{session.keep(name)}”."

    def recall(self, name: str, mode: Mode = "set") -> str:
        """Bring a named selection back."""
        with self._held() as session:
            self._end_prompt()
            return f"“{name}”: {session.recall(name, mode):,} Gaussians selected."

    # ------------------------------------------------------------------------------------------------ groups

    @property
    def _group_scale(self) -> float | None:
        """The scale that groups are meant at; None where the method has none."""
        return round(self.scale, 4) if self.model.has_scales else None

    def _row_groups(self, scene: Edited) -> Tensor:
        """The group of each row of the edited scene; 0 for what came from elsewhere."""
        groups = self._prompter.groups(self._group_scale)
        return torch.where(scene.source >= 0, groups[scene.source.clamp_min(0)], 0)

    def groups(self) -> list[Group]:
        """All groups, the largest first."""
        with self._held() as session, torch.no_grad():
            scene = session.scene
            groups = self._row_groups(scene)
            present = ~scene.removed
            ids, counts = groups[present & (groups > 0)].unique(return_counts=True)
            visible = set(groups[scene.drawn].unique().tolist())
            paint = colors(ids).tolist()
            labels = session.labels(self._group_scale)
        rows = [
            Group(i, labels.get(i, ""), n, (c[0], c[1], c[2]), i not in visible)
            for i, n, c in zip(ids.tolist(), counts.tolist(), paint, strict=True)
        ]
        return sorted(rows, key=lambda group: -group.count)

    def group_mask(self, group: int) -> Tensor:
        """The rows of a group, bool [M]."""
        with self._held() as session, torch.no_grad():
            return self._row_groups(session.scene) == group

    def select_group(self, group: int, mode: Mode = "set") -> str:
        """Select the Gaussians of a group."""
        with self._held() as session, torch.no_grad():
            mask = self._row_groups(session.scene) == group
            return f"Group {group}: {self._select(session, mask, mode):,} Gaussians selected."

    def label(self, group: int, name: str) -> str:
        """Name a group."""
        with self._held() as session:
            session.label(group, name, self._group_scale)
        return f"Group {group} is now “{name.strip()}”." if name.strip() else f"Group {group} has no name now."

    # ------------------------------------------------------------------------------------------------- edits

    def packed(self, mask: Tensor | None = None) -> PackedMask:
        """A mask, or the selection, for an operation.

        Raises:
            GsegError: nothing is in it.
        """
        with self._held() as session:
            return _packed(session.selection.mask if mask is None else mask)

    def named_mask(self, name: str) -> PackedMask:
        """A named selection.

        Raises:
            GsegError: there is none of that name.
        """
        with self._held() as session:
            return _named(session, name)

    def edit(self, operation: Operation) -> str:
        """Do something to Gaussians."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            return self._edit(session, operation, started)

    def edit_selection(self, make: Callable[[PackedMask], Operation], group: int | None = None) -> str:
        """Do something to the selection, or to a group.

        Args:
            make: gives the operation on a mask. Called with the lock held, so that what it is made for is what is
                selected when it is done: it must not ask the controller anything.
            group: in place of the selection.

        Raises:
            GsegError: nothing is selected, or the operation cannot be applied.
        """
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            mask = session.selection.mask if group is None else self._row_groups(session.scene) == group
            return self._edit(session, make(_packed(mask)), started)

    def swap(self, newcomer: str | Path) -> str:
        """Put another object in the place of the selection.

        Args:
            newcomer: the name of a saved selection, or a PLY.

        Raises:
            GsegError: nothing is selected, there is no selection of that name, or the PLY cannot be read.
        """
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            mask = _packed(session.selection.mask)
            other = _named(session, newcomer) if isinstance(newcomer, str) else str(newcomer)
            return self._edit(session, Swap(mask, other), started)

    def _edit(self, session: Session, operation: Operation, started: float) -> str:
        self._end_prompt()
        session.edit(operation)
        return f"{type(operation).__name__} done ({1000 * (time.perf_counter() - started):.0f} ms)"

    # ------------------------------------------------------------------------------------------------ output

    def save(self, folder: Path) -> str:
        """Write selections, edits and names of groups beside a run's `config.yml`."""
        with self._held() as session:
            kept = session.save(folder)
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
        said = [f"Loaded {', '.join(loaded.parts)} of {folder}."] if loaded.parts else []
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
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            splats = session.scene.splats.subset(_selected(session)).to("cpu")
        with self._writing:  # two that write one file: the second finds that of the first
            if path.exists() and not overwrite:
                raise GsegError(f"{path} is there already. Tick “Overwrite”, or choose another name.")
            write_ply(path, splats)
        return f"Wrote {len(splats):,} Gaussians to {path} ({time.perf_counter() - started:.1f} s)."

    def isolate_run(self, config: Path, name: str, output_dir: Path | None = None) -> Path:
        """Write the selected Gaussians, edits baked in, as a run of its own; see `write_run`.

        Returns:
            the new run's `config.yml`.
        """
        check_name(name)
        with self._held() as session, torch.no_grad():
            keep = _selected(session)
            splats, source = session.scene.splats.subset(keep), session.scene.source[keep]
            return write_run(config, self.model, splats, source, name, output_dir)

    @torch.no_grad()
    def outputs(
        self, camera: Cameras, crop: OrientedBox | None, wanted: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Render a view with edits and highlight, see `Drawing`. Called with the lock held, by the render threads."""
        session = self._current()
        # The picture of groups follows the slider once groups have been asked for; before, that would cost clusters.
        groups = None
        if self.model.has_scales and self._prompter.has_groups and looked_at("groups", wanted):
            groups = self._row_groups(session.scene)
        return self._drawing.outputs(session, self._seen, groups, camera, crop, wanted)


def _drawn_rows(scene: Edited, found: Tensor) -> Tensor:
    """What is drawn of some of the model's Gaussians (bool [N]) and of their copies, bool [M]."""
    return found[scene.source.clamp_min(0)] & (scene.source >= 0) & scene.drawn


def _packed(mask: Tensor) -> PackedMask:
    """A mask for an operation; a GsegError when nothing is in it."""
    if not bool(mask.any()):
        raise GsegError("Nothing is selected. Click on an object first.")
    return PackedMask.pack(mask)


def _named(session: Session, name: str) -> PackedMask:
    """A named selection; a GsegError when there is none of that name."""
    if name not in session.named:
        raise GsegError(f"There is no selection {name!r}. Name one first, under “Selection”.")
    return session.named[name]


def _selected(session: Session) -> Tensor:
    """The selected rows that have not been removed, bool [M]; a GsegError when there are none."""
    mask = session.selection.mask & ~session.scene.removed
    if not bool(mask.any()):
        raise GsegError("Nothing is selected, so nothing was written. Click on an object first.")
    return mask
