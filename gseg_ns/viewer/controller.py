"""What the viewer's buttons do, without any button: a session on a model, under the viewer's lock.

All browsers share one session. Every public method may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Edited, Operation
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.lifting.likeness import ONE_THING
from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.isolated import write_run
from gseg_ns.models.prompting import select_by_marks
from gseg_ns.palette import colours
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection import prompts
from gseg_ns.selection.neighbourhood import Neighbourhood, largest_component, middle_extents
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.picking import Pick, pick
from gseg_ns.selection.postprocess import statistical_filter
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.selection import Mode, Selection
from gseg_ns.selection.shapes import rectangle
from gseg_ns.selection.store import check_name
from gseg_ns.splats.ply import write_ply
from gseg_ns.viewer.drawing import Drawing, looked_at

Change = Literal["none", "all", "invert", "grow", "shrink", "clean"]


@dataclass(frozen=True)
class Point:
    """One click."""

    feature: Tensor | None  # [D] of the pixel, for methods that are prompted by features
    group: int
    piece: int
    """Which appended copy was hit; 0 = the scene itself."""
    positive: bool


@dataclass(frozen=True)
class Marked:
    """Clicks on one view that a mask answers, and that mask."""

    camera: Cameras
    picture: Tensor  # [H, W, 3] uint8
    points: Prompt
    mask: Tensor  # [H, W] bool
    mode: Mode
    before: PackedMask
    """What was selected before the first of the clicks."""


@dataclass(frozen=True)
class Group:
    """A line of the list of groups."""

    id: int
    name: str
    count: int
    colour: tuple[int, int, int]
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
        self.threshold = ONE_THING
        self._lock: AbstractContextManager[Any] = lock if lock is not None else threading.Lock()
        self._session = Session(model.splats())
        self._seen = self._version()
        self._points: list[Point] = []
        self._before_prompt: PackedMask | None = None
        self._marked: Marked | None = None
        self._marking = threading.Lock()
        self._groups: tuple[Any, Tensor] | None = None
        self._neighbourhood: tuple[Any, Neighbourhood] | None = None
        self._drawing = Drawing(model)
        self.notice = ""

    # ------------------------------------------------------------------------------------------------ state

    @contextmanager
    def _held(self) -> Iterator[Session]:
        """Hold the lock, with the session on the model's present Gaussians."""
        with self._lock:
            yield self._current()

    def _version(self) -> tuple[int, int, int]:
        """Changes whenever training may have changed the Gaussians."""
        means = self.model.gauss_params["means"]
        return self.model.num_points, id(means), means._version

    def _current(self) -> Session:
        version = self._version()
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
            point = self._point(scene, pick(scene.splats, camera, x, y, scene.drawn), positive)
            self._marked = None
            if self._before_prompt is None:
                self._points, self._before_prompt = [], session.state.selection
            self._points.append(point)
            before = session.selection.count
            count = self._resolve(session)
        what = "object" if self.model.prompts_by_feature else f"group {point.group}"
        label = session.labels(self._group_scale).get(point.group)
        if label and not self.model.prompts_by_feature:
            what += f" ({label})"
        return (
            f"**{'+' if positive else '−'}** {what}: {count - before:+,} → {count:,} Gaussians "
            f"({1000 * (time.perf_counter() - started):.0f} ms)"
        )

    def _point(self, scene: Edited, found: Pick, positive: bool) -> Point:
        source = scene.source[found.rows].clamp_min(0)
        piece = int(scene.piece[found.top])
        if self.model.prompts_by_feature:
            features = self.model.gauss_params[self.model.main_feature].detach()
            return Point(found.weights @ features[source], 0, piece, positive)
        groups = self._row_groups(scene)
        group = found.label(groups)
        if group == 0:
            raise GsegError("That spot belongs to no group. Click elsewhere, or draw a rectangle.")
        return Point(None, group, piece, positive)

    def _resolve(self, session: Session) -> int:
        """Select what the points so far mean, beside what was selected before the first of them."""
        scene = session.scene
        assert self._before_prompt is not None
        chosen = self._before_prompt.resized(len(scene)).unpack(scene.splats.device)
        if not self.model.prompts_by_feature:
            groups = self._row_groups(scene)
            for point in self._points:  # in their order: what was taken away can be added again
                meant = (groups == point.group) & (scene.piece == point.piece) & scene.drawn
                chosen = chosen | meant if point.positive else chosen & ~meant
            return session.select(chosen)
        return session.select(chosen & ~self._alike(scene, False) | self._alike(scene, True))

    def _alike(self, scene: Edited, positive: bool) -> Tensor:
        """The rows that are like the positive (or the negative) points and less like the others, bool [M]."""
        points = [point for point in self._points if point.positive == positive]
        others = [p.feature for p in self._points if p.positive != positive and p.feature is not None]
        features, gate = self.model.gauss_params[self.model.main_feature].detach(), self.model.gate(self.scale)
        if not points:
            return torch.zeros_like(scene.drawn)
        alike, _ = prompts.select(
            features,
            torch.stack([point.feature for point in points if point.feature is not None]),
            torch.stack(others) if others else None,
            gate,
            self.threshold,
        )
        pieces = torch.tensor(sorted({point.piece for point in points}), device=features.device)
        return alike[scene.source.clamp_min(0)] & scene.drawn & torch.isin(scene.piece, pieces)

    def reprompt(self, scale: float | None = None, threshold: float | None = None) -> str:
        """Change the scale or the threshold; the present prompt is answered anew."""
        self.scale = self.scale if scale is None else scale
        self.threshold = self.threshold if threshold is None else threshold
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            if not self.model.prompts_by_feature or not (self._points or self._marked):
                return ""
            count = self._resolve(session) if self._marked is None else self._select_marked(session, self._marked)
        return f"Scale {self.scale:.2f}: {count:,} Gaussians ({1000 * (time.perf_counter() - started):.0f} ms)"

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
                if marked is None or not _same_view(marked.camera, camera):
                    if not positive:
                        raise GsegError("Begin with a “Click +” on this view: a “Click -” alone tells SAM nothing.")
                    marked = None
                    picture = (self.model.picture(camera) * 255).round().to(torch.uint8)
                else:
                    picture = marked.picture
            added = torch.tensor([[x, y]])
            if marked is None:
                points = Prompt(positive=added)
            elif positive:
                points = replace(marked.points, positive=torch.cat([marked.points.positive, added]))
            else:
                points = replace(marked.points, negative=torch.cat([marked.points.negative, added]))
            mask = answer(picture, points)
            if not bool(mask.any()):
                raise GsegError("SAM finds nothing there. Click elsewhere.")
            with self._held() as session, torch.no_grad():
                if len(session.splats) != count:
                    raise GsegError("Training changed the number of Gaussians meanwhile. Click again.")
                # Meanwhile the prompt may have ended, by an undo for one.
                before = marked.before if marked and self._marked is marked else session.state.selection
                after = Marked(camera, picture, points, mask, mode, before)
                selected = self._select_marked(session, after)
                self._end_prompt()
                self._marked = after
        number = len(points.positive) + len(points.negative)
        return (
            f"**{'+' if positive else '−'}** SAM, {number} point{'' if number == 1 else 's'}: {selected:,} Gaussians "
            f"selected ({time.perf_counter() - started:.1f} s)"
        )

    def _select_marked(self, session: Session, marked: Marked) -> int:
        """Select what a mask means, beside what was selected before it."""
        prompt = Prompt(mask=marked.mask)
        found = select_by_marks(self.model, marked.camera, prompt, self._group_scale, self.threshold, mask_by_sam=True)
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
                if what == "clean":
                    kept = largest_component(scene.splats.means, mask, middle_extents(scene.splats.scales))
                    count = session.select(statistical_filter(scene.splats.means, kept, deviations=3.0))
                else:
                    graph = self._graph(session)
                    changed = graph.grow(mask) if what == "grow" else graph.shrink(mask)
                    count = session.select(changed & scene.drawn)
        return f"{what.capitalize()}: {count:,} Gaussians selected ({1000 * (time.perf_counter() - started):.0f} ms)"

    def _graph(self, session: Session) -> Neighbourhood:
        key = (self._seen, session.state.operations)
        if self._neighbourhood is None or self._neighbourhood[0] != key:
            self._neighbourhood = key, Neighbourhood(session.scene.splats.means)
        return self._neighbourhood[1]

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

    def _model_groups(self) -> Tensor:
        """The group of each of the model's Gaussians, int64 [N], at the present scale."""
        key = (self._seen, self._group_scale, self.model.step)
        if self._groups is None or self._groups[0] != key:
            self._groups = key, self.model.gaussian_groups(self._group_scale)
        return self._groups[1]

    def _row_groups(self, scene: Edited) -> Tensor:
        """The group of each row of the edited scene; 0 for what came from elsewhere."""
        groups = self._model_groups()
        return torch.where(scene.source >= 0, groups[scene.source.clamp_min(0)], 0)

    def groups(self) -> list[Group]:
        """All groups, the largest first."""
        with self._held() as session, torch.no_grad():
            scene = session.scene
            groups = self._row_groups(scene)
            present = ~scene.removed
            ids, counts = groups[present & (groups > 0)].unique(return_counts=True)
            visible = set(groups[scene.drawn].unique().tolist())
            paint = colours(ids).tolist()
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
        mask = self.group_mask(group)
        with self._held() as session:
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
            chosen = session.selection.mask if mask is None else mask
            if not bool(chosen.any()):
                raise GsegError("Nothing is selected. Click on an object first.")
            return PackedMask.pack(chosen)

    def named_mask(self, name: str) -> PackedMask:
        """A named selection.

        Raises:
            GsegError: there is none of that name.
        """
        with self._held() as session:
            if name not in session.named:
                raise GsegError(f"There is no selection {name!r}. Name one first, under “Selection”.")
            return session.named[name]

    def edit(self, operation: Operation) -> str:
        """Do something to Gaussians."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
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
        if path.exists() and not overwrite:
            raise GsegError(f"{path} is there already. Tick “Overwrite”, or choose another name.")
        with self._held() as session, torch.no_grad():
            splats = session.scene.splats.subset(_selected(session)).to("cpu")
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
        if self.model.has_scales and self._groups is not None and looked_at("groups", wanted):
            groups = self._row_groups(session.scene)
        return self._drawing.outputs(session, self._seen, groups, camera, crop, wanted)


def _drawn_rows(scene: Edited, found: Tensor) -> Tensor:
    """What is drawn of some of the model's Gaussians (bool [N]) and of their copies, bool [M]."""
    return found[scene.source.clamp_min(0)] & (scene.source >= 0) & scene.drawn


def _same_view(a: Cameras, b: Cameras) -> bool:
    """Whether two cameras [1] show the same."""
    one, other = to_camera(a), to_camera(b)
    return (
        (one.width, one.height) == (other.width, other.height)
        and torch.allclose(one.viewmat, other.viewmat, atol=1e-6)
        and torch.allclose(one.K, other.K)
    )


def _selected(session: Session) -> Tensor:
    """The selected rows that have not been removed, bool [M]; a GsegError when there are none."""
    mask = session.selection.mask & ~session.scene.removed
    if not bool(mask.any()):
        raise GsegError("Nothing is selected, so nothing was written. Click on an object first.")
    return mask
