"""What browsers select: clicks, marks, rectangles, texts, and the algebra on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from gseg_ns.editing.operations import Edited
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.rendering.camera import Camera
from gseg_ns.runs.prompting import MarkedView, Point
from gseg_ns.selection.neighbourhood import Neighbourhood, largest_component, middle_extents
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.postprocess import clean_up
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.selection import Mode, Selection
from gseg_ns.selection.shapes import rectangle
from gseg_ns.splats import Splats
from gseg_ns.viewer.held import Held, drawn_rows

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from gseg_ns.models.base import SegmentationModel

Change = Literal["none", "all", "invert", "grow", "shrink", "clean", "largest"]


@dataclass(frozen=True)
class Walk:
    """Where the last click is in the tree of parts, objects and groups."""

    path: tuple[int, ...]
    """Nodes from the part that was hit up to the group that it is in."""
    at: int
    """Which of these is selected."""
    mode: Mode
    before: PackedMask
    """What was selected before the click."""


@dataclass(frozen=True)
class Marked:
    """Clicks on one view that a mask answers, and how that meets the selection."""

    view: MarkedView
    mode: Mode
    before: PackedMask
    """What was selected before the first of the clicks."""
    carried: PackedMask | None = None
    """Of the model's Gaussians, what the mask means by a tracker; None: it is for the method to say."""
    embedding: Tensor | None = None
    """What SAM's encoder says of the view [h, w, C], where SAM was asked."""


class Selecting(Held):
    """Selecting."""

    def __init__(self, model: SegmentationModel, lock: AbstractContextManager[Any] | None = None) -> None:
        super().__init__(model, lock)
        self._points: list[Point] = []
        self._before_prompt: PackedMask | None = None
        self._marked: Marked | None = None
        self._walk: Walk | None = None
        self._marking = threading.Lock()
        self._neighbourhood: tuple[Any, Neighbourhood] | None = None
        self._edited_neighbourhood: tuple[Any, Neighbourhood] | None = None

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

    def summary(self) -> str:
        """What is selected and done, in one line."""
        with self._held() as session:
            edits = len(session.state.operations)
            return (
                f"{session.selection.count:,} of {len(session.scene):,} Gaussians selected, "
                f"{edits} edit{'' if edits == 1 else 's'}"
            )

    def _end_prompt(self) -> None:
        self._points, self._before_prompt, self._marked, self._walk = [], None, None, None

    def click(
        self, camera: Camera, x: float, y: float, positive: bool = True, anew: bool = False, within: bool = False
    ) -> str:
        """Add a point to the prompt, and select what it means.

        Args:
            camera: the view that was clicked on.
            x: pixel column.
            y: pixel row.
            positive: whether it is what is wanted, or what is not.
            anew: begin a prompt with it, and forget what was selected.
            within: keep of what was selected what the point means, and nothing else.

        Returns:
            what was hit, for the user.

        Raises:
            GsegError: there is nothing, or nothing that belongs to a group.
        """
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene = session.scene
            point = self._prompter.point(camera, x, y, positive, self._group_scale, scene)
            self._marked = None
            before, state = session.selection.count, session.state
            if anew:
                self._points, self._before_prompt = [], PackedMask.empty(len(scene))
            elif self._before_prompt is None:
                self._points, self._before_prompt = [], session.state.selection
            self._points.append(point)
            hit = "the object" if self.model.prompts_by_feature else self._name(session, point.group)
            did = f"{'select' if anew else 'add' if positive else 'take away'} {hit}"
            if within:
                self._points = [point]
                meant = self._meant(scene, [point])
                count = self._select(session, meant, "intersect", f"keep {hit} of the selection")
            else:
                count = self._resolve(session, did)
            mode: Mode = "intersect" if within else "set" if anew else "add" if positive else "remove"
            self._walk = Walk(point.path, point.path.index(point.group), mode, state.selection) if point.path else None
        if not self.model.prompts_by_feature and hit != f"group {point.group}":
            hit += f" (group {point.group})"
        took = f"({1000 * (time.perf_counter() - started):.0f} ms)"
        if within:
            return f"Kept of the selection what is {hit}: {count:,} Gaussians {took}"
        if anew:
            return f"Selected {hit}: {count:,} Gaussians {took}"
        return f"{'Added' if positive else 'Took away'} {hit}: {count - before:+,}, {count:,} Gaussians now {took}"

    def walk(self, step: int) -> str:
        """Mean with the last click what is above it in the tree of parts, objects and groups (1), or below (-1).

        Raises:
            GsegError: there is no tree, no click, or nothing more.
        """
        with self._held() as session, torch.no_grad():
            walk, tree = self._walk, self.model.tree()
            if tree is None:
                raise GsegError("This run knows no parts of objects: its masks are in no tree (docs/tree.md).")
            if walk is None:
                raise GsegError("Click on an object first.")
            at = walk.at + (1 if step > 0 else -1)
            if not 0 <= at < len(walk.path):
                raise GsegError("There is nothing wider." if step > 0 else "There is nothing narrower here.")
            scene = session.scene
            before = Selection(walk.before.resized(len(scene)).unpack(scene.splats.device))
            meant = drawn_rows(scene, tree.contains(walk.path[at]))
            did = f"select {'wider' if step > 0 else 'narrower'}"
            self._end_prompt()
            count = session.select(before.combine(meant, walk.mode).mask, did=did)
            self._walk = replace(walk, at=at)
        return f"{'Wider' if step > 0 else 'Narrower'}: {int(meant.sum()):,} Gaussians, {count:,} selected now."

    def walks(self) -> tuple[bool, bool] | None:
        """Whether there is something narrower and something wider than the last click; None: there is no tree."""
        with self._held():
            if self.model.tree() is None:
                return None
            walk = self._walk
            return (False, False) if walk is None else (walk.at > 0, walk.at + 1 < len(walk.path))

    def _resolve(self, session: Session, did: str) -> int:
        """Select what the points so far mean, beside what was selected before the first of them."""
        scene, points = session.scene, self._points
        assert self._before_prompt is not None
        chosen = self._before_prompt.resized(len(scene)).unpack(scene.splats.device)
        if self.model.prompts_by_feature or any(point.path for point in points):  # they say together what is meant
            inverse = [replace(point, positive=not point.positive) for point in points]
            return session.select(chosen & ~self._meant(scene, inverse) | self._meant(scene, points), did=did)
        for point in points:  # in their order: what was taken away can be added again
            meant = self._meant(scene, [replace(point, positive=True)])
            chosen = chosen | meant if point.positive else chosen & ~meant
        return session.select(chosen, did=did)

    def _meant(self, scene: Edited, points: Sequence[Point]) -> Tensor:
        """What is drawn of what points mean, in the pieces that the positive ones are on: bool [M]."""
        found = self._prompter.select_points(points, self._group_scale, self._least)
        pieces = scene.appended_by[[point.row for point in points if point.positive]]
        return drawn_rows(scene, found) & torch.isin(scene.appended_by, pieces)

    def reprompt(self, scale: float | None = None, threshold: float | None = None, adaptive: bool | None = None) -> str:
        """Change the scale or the threshold; methods that answer by features answer the present prompt anew."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            before, self.scale = self._group_scale, self.scale if scale is None else scale
            self.threshold = self.threshold if threshold is None else threshold
            self.adaptive = self.adaptive if adaptive is None else adaptive
            if not self.model.prompts_by_feature and self._group_scale != before:
                # Points have the group of the scale that they were clicked at: what they mean stays selected.
                self._points, self._before_prompt = [], None
            if not self.model.prompts_by_feature or not (self._points or self._marked):
                return ""
            did = "select again at another scale or threshold"
            count = self._resolve(session, did) if self._marked is None else self._select_marked(session, self._marked)
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
        carry: Callable[[MarkedView, Splats], Tensor] | None = None,
        embed: Callable[[], Tensor | None] = lambda: None,
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
            mode: how what it means meets what was selected before the first of the points, as the last of those on what
                is wanted says.
            carry: the view with its mask, and the model's Gaussians as they were at the click, which training does
                not change any more, to those that it means, bool [N]; called without the lock. None: the method answers
                by groups or features.
            embed: gives what SAM's encoder says of the picture of the last `answer`, see `Prompter.select`.

        Raises:
            GsegError: the first point on a view is what is not wanted, there is no answer, or training changed the
                number of Gaussians meanwhile.
        """
        started = time.perf_counter()
        with self._marking:  # the second of two quick clicks waits for the first: they belong together
            if positive:
                self.model.whole()  # a method that is loaded only now would be under the lock
            with self._held() as session:
                marked, count = self._marked, len(session.splats)
                if marked is not None and marked.view.shows(camera):
                    after, mode = marked.view.adding(x, y, positive), mode if positive else marked.mode
                elif positive:
                    marked, after = None, MarkedView.begin(self.model, camera, x, y)
                else:
                    raise GsegError("Begin with a click on what is wanted: one on what is not tells SAM nothing alone.")
                splats = None if carry is None else session.splats.clone()
            after = replace(after, mask=answer(after.picture, after.points))
            embedding = embed()
            if after.mask is None or not bool(after.mask.any()):
                raise GsegError("SAM finds nothing there. Click elsewhere.")
            carried = None
            if carry is not None and splats is not None:
                carried = PackedMask.pack(carry(after, splats).to(self.model.device))
            with self._held() as session, torch.no_grad():
                if len(session.splats) != count:
                    raise GsegError("Training changed the number of Gaussians meanwhile. Click again.")
                # Meanwhile the prompt may have ended, by an undo for one.
                before = marked.before if marked and self._marked is marked else session.state.selection
                answered = Marked(after, mode, before, carried, embedding)
                selected = self._select_marked(session, answered)
                self._end_prompt()
                self._marked = answered
        points = after.points
        number = len(points.positive) + len(points.negative)
        return (
            f"{'SAM' if carry is None else 'Tracked'}, {number} point{'' if number == 1 else 's'}: "
            f"{selected:,} Gaussians selected "
            f" ({time.perf_counter() - started:.1f} s)"
        )

    def _select_marked(self, session: Session, marked: Marked) -> int:
        """Select what a mask means, beside what was selected before it."""
        prompt = Prompt(mask=marked.view.mask)
        scene = session.scene
        if marked.carried is not None:
            found = marked.carried.unpack(self.model.device)
        else:
            found = self._prompter.select(
                marked.view.camera, prompt, self._group_scale, self._least, mask_by_sam=True, embedding=marked.embedding
            )
        before = Selection(marked.before.resized(len(scene)).unpack(scene.splats.device))
        did = "select what SAM answers"
        return session.select(before.combine(drawn_rows(scene, found), marked.mode).mask, did=did)

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
            count = self._select(session, mask, mode, "select by a rectangle")
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
            count = self._select(session, drawn_rows(scene, found), mode, f"find “{text}”")
        return f"“{text}”: {count:,} Gaussians selected ({time.perf_counter() - started:.1f} s)"

    def change(self, what: Change) -> str:
        """Change the selection as a whole."""
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene, mask = session.scene, session.selection.mask
            self._end_prompt()
            if what == "none":
                count = session.select(torch.zeros_like(mask), did="select nothing")
            elif what == "all":
                count = session.select(scene.drawn, did="select all")
            elif what == "invert":
                count = session.invert()
            else:
                if not bool(mask.any()):
                    raise GsegError("Nothing is selected. Click on an object first.")
                splats = scene.splats
                # Each object that is selected by itself, where objects are known.
                groups = self._row_groups(scene) if self._knows_groups else None
                if what == "clean":
                    kept = clean_up(splats.means, mask & scene.drawn, groups=groups) & scene.drawn
                elif what == "largest":
                    kept = largest_component(splats.means, mask, middle_extents(splats.scales), groups=groups)
                else:
                    graph = self._graph(session)
                    kept = (graph.grow(mask) if what == "grow" else graph.shrink(mask)) & scene.drawn
                count = session.select(kept, did=f"{what} the selection")
        return f"{what.capitalize()}: {count:,} Gaussians selected ({1000 * (time.perf_counter() - started):.0f} ms)"

    def _graph(self, session: Session) -> Neighbourhood:
        if self._neighbourhood is None or self._neighbourhood[0] != self._seen:
            self._neighbourhood = self._seen, Neighbourhood(session.splats.means)
        key = (self._seen, session.state.operations)
        if self._edited_neighbourhood is None or self._edited_neighbourhood[0] != key:
            self._edited_neighbourhood = key, self._neighbourhood[1].edited(session.scene.splats.means)
        return self._edited_neighbourhood[1]

    def keep(self, name: str) -> str:
        """Name the selection."""
        with self._held() as session:
            return f"Kept {session.selection.count:,} Gaussians as “{session.keep(name)}”."

    def recall(self, name: str, mode: Mode = "set") -> str:
        """Bring a named selection back."""
        with self._held() as session:
            self._end_prompt()
            return f"“{name}”: {session.recall(name, mode):,} Gaussians selected."
