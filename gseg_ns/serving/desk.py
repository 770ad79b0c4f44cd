"""What pages do to a session: the tab's controller behind messages, and what all pages are told of it.

All browsers share one session. Nothing is computed here that the controller does not answer.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import Tensor

from gseg_ns.editing.operations import Duplicate, Operation, Recolor, SetOpacity, Transform
from gseg_ns.errors import GsegError
from gseg_ns.page.placing import View
from gseg_ns.rendering import Camera
from gseg_ns.selection.outlines import Outline, Stroke
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.picking import warm_up
from gseg_ns.selection.shapes import Box
from gseg_ns.serving.messages import Asked
from gseg_ns.serving.picture import Picture, Quaternion
from gseg_ns.splats.placement import Axis
from gseg_ns.viewer.acting import Acting, Controller, Shown, told
from gseg_ns.viewer.commands import number, value
from gseg_ns.viewer.keeping import Keeping, Refusal
from gseg_ns.viewer.reach import Reach
from gseg_ns.viewer.shaping import Property, Vector

if TYPE_CHECKING:
    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.runs.fringes import Cleaned

Search = Callable[[str, str, Callable[[str], None]], Tensor]
"""A text, the name of a model of texts, and what is told of what goes on, to the Gaussians that are meant: bool [N]."""

Clean = Callable[[Sequence[int], float | None, Callable[[str], None], Callable[[], bool]], "Cleaned"]
"""Groups, their scale, what is told of what goes on, and what says that nobody waits any more, to the Gaussians with
cleaned borders and the groups of which they were."""

Found = str | dict[str, Any] | Callable[[], str]
"""What is answered: in words, in numbers, or by what writes files and then says so."""

_asker: ContextVar[Callable[[str], None] | None] = ContextVar("asker", default=None)
_LIMIT = 1e6  # of lengths, in units of the scene
_LOG = logging.getLogger(__name__)
_MOST_SIZED = 2000
"""Objects whose sizes are said; more would keep everybody waiting."""


class Desk:
    """A session, for the pages before it. May be called from any thread."""

    def __init__(
        self,
        model: SegmentationModel,
        folder: Path,
        search: Search | None = None,
        title: str = "",
        up: Axis = "z",
        clean: Clean | None = None,
    ) -> None:
        """Open the session, with what was saved of it.

        Args:
            model: what is shown.
            folder: where what people save lies; made when there is something.
            search: answers texts, where the method can.
            title: what is shown is called.
            up: which way is up in it.
            clean: cleans the borders of groups, where there are training views.

        Raises:
            GsegError: there is nothing to show.
        """
        self._session = threading.RLock()  # within which what is told is of one moment
        self.controller = Controller(model, self._session, up)
        splats = model.splats()
        fit = splats.exportable()
        if not bool(fit.any()):
            raise GsegError("There is no Gaussian that can be seen: there is nothing to view.")
        self.picture = Picture(splats.subset(fit), up)
        self.folder = folder
        self._search = search
        self._clean = clean
        self.title = title
        self._tell: Callable[[list[bytes | str]], None] = lambda frames: None
        self._beside: Callable[[Callable[[], object]], object] = lambda act: act()
        self._unsaved = ""
        self._over = threading.Event()
        self._lock = threading.RLock()
        self._acting = Acting(self.controller, folder / "config.yml", lambda: Reach(folder), self._say)
        self._state: dict[str, Any] = {}
        self._sized: tuple[Hashable, dict[int, list[float]]] | None = None
        self._keeping = Keeping(self.controller, self._save, self._set_unsaved)
        self._notice = self._keeping.begin(folder).replace("**", "")
        self._refresh()

    # ------------------------------------------------------------------------------------------------ what is told

    def listen(
        self,
        tell: Callable[[list[bytes | str]], None],
        beside: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        """From now on, tell this what happens.

        Args:
            tell: is given what all pages are to be sent, in the order in which it happens.
            beside: does something in the thread of what takes long; None: it is done at once.
        """
        self._tell = tell
        if beside is not None:
            self._beside = beside

    def greet(self, take: Callable[[list[bytes | str]], None]) -> None:
        """Give all there is to one that comes, before anything that happens later is told."""
        with self._lock:
            state = {**self._state, "said": self._notice} if self._notice else self._state
            take([*self.picture.everything(), json.dumps({"state": state})])

    def prepare(self) -> None:
        """Compile what the first click needs, beside what goes on."""
        warm_up(self.controller.model.device)

    def end(self) -> None:
        """Leave what takes long where it can be left: nobody waits for it."""
        self._over.set()

    def close(self) -> None:
        """Wait until what was done last is on disk."""
        self._keeping.wait()

    def _say(self, text: str) -> None:
        """Tell who asked what goes on for it."""
        say = _asker.get()
        if say is not None:
            say(text)

    def _set_unsaved(self, why: str) -> None:
        """Tell all pages why what was done is not on disk, until it is (the empty string)."""
        if why:
            _LOG.warning("%s", why)
        with self._lock:
            if why != self._unsaved:
                self._unsaved = self._state["unsaved"] = why
                self._tell([json.dumps({"state": {"unsaved": why}})])

    def _refresh(self) -> None:
        """Tell all pages what is new."""
        with self._lock:
            controller = self.controller
            with self._session:
                notice, shown = controller.take_notice(), controller.shown()
                state = {**told(controller), **self._method()}
                state |= {"names": controller.names, "metres": controller.metres, "splats": len(shown.splats)}
            objects = state["objects"]
            if state["listed"]:
                sizes = self._sizes(shown)
                for entry in objects:
                    entry["edges"] = sizes.get(entry["id"], [0.0, 0.0, 0.0])
            frames: list[bytes | str] = list(self.picture.update(shown, [entry["id"] for entry in objects]))
            state["unsaved"] = self._unsaved
            if notice:
                state["said"] = notice
            new = {name: found for name, found in state.items() if self._state.get(name, ...) != found}
            state.pop("said", None)
            self._state = state
            if new or frames:  # pages wait for the state before they make pictures of what is drawn
                self._tell([*frames, json.dumps({"state": new})])

    def _method(self) -> dict[str, Any]:
        """What only some methods have, and whether the browser may say what a click on an object means."""
        model, controller = self.controller.model, self.controller
        by_feature = model.prompts_by_feature
        return {
            "scale": controller.scale if model.has_scales else None,
            "threshold": controller.threshold if by_feature else None,
            "adaptive": controller.adaptive,
            "text": self._search is not None,
            "cleans": self._clean is not None,
            "local": not by_feature and model.tree() is None,
        }

    @torch.no_grad()
    def _sizes(self, shown: Shown) -> dict[int, list[float]]:
        """Edges of the box around each object along the page's axes, without its farthest fiftieth on each side."""
        groups = shown.groups
        assert groups is not None
        key = id(shown.splats), groups.sum().item(), len(groups)
        if self._sized is None or self._sized[0] != key:
            sizes: dict[int, list[float]] = {}
            order = groups.argsort(stable=True)
            ids, counts = groups[order].unique_consecutive(return_counts=True)
            pieces = shown.splats.means.detach()[order].split(counts.tolist())
            for group, means in list(zip(ids.tolist(), pieces, strict=True))[:_MOST_SIZED]:
                if group > 0:
                    means = means[:: max(len(means) // 10_000, 1)].nan_to_num().double()
                    low, high = torch.quantile(means, means.new_tensor([0.02, 0.98]), dim=0)
                    sizes[group] = [float(f"{edge:.3g}") for edge in self.picture.space.edges((high - low).tolist())]
            self._sized = key, sizes
        return self._sized[1]

    # ------------------------------------------------------------------------------------------------ what is asked

    SLOW = frozenset({"mark", "text", "list", "isolate run", "swap"})
    """What may take long and is done in a thread of its own.

    Models and texts are asked while other things go on. While clusters are found ("list", and the list at another
    scale) and while a run is written, the session is held: other things wait.
    """

    def do(self, asked: Asked) -> dict[str, Any]:
        """Do what a page asks for to the end; see `begin`."""
        answer = self.begin(asked)
        return answer() if callable(answer) else answer

    def begin(
        self, asked: Asked, say: Callable[[str], None] | None = None
    ) -> dict[str, Any] | Callable[[], dict[str, Any]]:
        """Do what a page asks for, tell all pages what has changed, and answer. Never raises.

        Args:
            asked: by the page.
            say: shows that page what goes on meanwhile.

        Returns:
            the answer, or what writes the files that were asked for and then answers: any thread may call it.
        """
        before = _asker.set(say)
        try:
            found = self._outcome(lambda: self._do(asked))
        finally:
            _asker.reset(before)
        if not callable(found):
            return self._answer(asked, found)
        return lambda: self._answer(asked, cast(dict[str, Any], self._outcome(found)))

    def _outcome(self, act: Callable[[], Found]) -> dict[str, Any] | Callable[[], str]:
        """What came of something, in words where it is none."""
        found = self._keeping.attempt(act)
        if isinstance(found, Refusal):
            return {"said": found.why, "well": False}
        return {"said": found} if isinstance(found, str) else found

    def _answer(self, asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
        def end() -> dict[str, Any]:
            with self._lock:  # what is slow ends beside what is quick
                self._notice = ""
                self._keeping.keep()
                self._refresh()
            return {}

        ended = cast(dict[str, Any], self._outcome(end))
        return {"answers": asked.number, "said": "", "well": True, **found, **ended}

    def _later(self, act: Callable[[], None]) -> None:
        """Do something that nobody waits for; where it cannot be done, all pages are told why."""
        found = self._keeping.attempt(act)
        if isinstance(found, Refusal):
            with self._lock:
                self._tell([json.dumps({"state": {"said": found.why, "well": False}})])

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.controller.save(self.folder)
        self._set_unsaved("")

    def _do(self, asked: Asked) -> Found:
        name, values, mode, controller = asked.name, asked.values, asked.mode, self.controller
        own: dict[str, Callable[[Asked], Found]] = {
            "click": self._click,
            "mark": self._mark,
            "rectangle": self._rectangle,
            "outline": self._outline,
            "brush": self._brush,
            "like": self._like,
            "sphere": self._sphere,
            "box": self._box,
            "range": self._range,
            "histogram": self._histogram,
            "point": self._point,
            "length": self._length,
            "extent": self._extent,
            "look": self._look,
            "move": self._move,
            "text": self._text,
            "recolor": self._recolor,
            "opacity": self._opacity,
            "export": self._export_objects,
            "export ply": self._export_ply,
            "isolate run": self._isolate_run,
            "export page": self._export_page,
        }
        if name in own:
            return own[name](asked)
        if name == "scale":
            return self._acting.rescale(
                number(values, 0, 0, 1), lambda relist: self._beside(lambda: self._later(relist)), self._refresh
            )
        if name == "threshold":
            return controller.reprompt(threshold=number(values, 0, 0, 1))
        if name == "adaptive":
            return controller.reprompt(adaptive=value(values, 0, bool))
        if name == "list":
            return self._acting.list_objects()
        if name == "keep":
            return controller.keep(value(values, 0, str))
        if name == "recall":
            return controller.recall(value(values, 0, str), mode)
        if name == "swap":
            return self._acting.swap(value(values, 0, str).strip())
        return self._acting.act(name, values, mode)

    def _camera(self, asked: Asked) -> tuple[Camera, float]:
        if asked.view is None:
            raise GsegError("The page asked for something that the viewer does not understand. Reload it.")
        return self.picture.space.camera(asked.view)

    def _spot(self, asked: Asked) -> tuple[Camera, float, float]:
        camera, zoom = self._camera(asked)
        if len(asked.points) != 1:
            raise GsegError("The page asked for something that the viewer does not understand. Reload it.")
        x, y = asked.points[0]
        return camera, min(max(x * zoom, 0.0), camera.width - 1e-3), min(max(y * zoom, 0.0), camera.height - 1e-3)

    def _drawn(self, asked: Asked) -> tuple[Camera, float, list[tuple[float, float]]]:
        camera, zoom = self._camera(asked)
        return camera, zoom, [(x * zoom, y * zoom) for x, y in asked.points]

    # ------------------------------------------------------------------------------------------------ selecting

    def _click(self, asked: Asked) -> str:
        return self._acting.click(*self._spot(asked), asked.mode)

    def _mark(self, asked: Asked) -> str:
        from gseg_ns.data.cameras import of_nerfstudio

        camera, x, y = self._spot(asked)
        sam, track = (value(asked.values, index, str).strip() for index in range(2))
        return self._acting.mark(sam, track, of_nerfstudio(camera), x, y, asked.mode)

    def _rectangle(self, asked: Asked) -> str:
        camera, _, points = self._drawn(asked)
        if len(points) != 2:
            raise GsegError("A rectangle has two corners.")
        corner, opposite = points
        return self.controller.drag(camera, corner, opposite, asked.mode, not value(asked.values, 0, bool))

    def _outline(self, asked: Asked) -> str:
        camera, _, points = self._drawn(asked)
        through = value(asked.values, 0, bool)
        return self.controller.select_drawn_over(camera, [Outline(points)], asked.mode, not through)

    def _brush(self, asked: Asked) -> str:
        camera, zoom, points = self._drawn(asked)
        through, radius = value(asked.values, 0, bool), number(asked.values, 1, 1, 1000) * zoom
        return self.controller.select_drawn_over(camera, [Stroke(points, radius)], asked.mode, not through)

    def _like(self, asked: Asked) -> str:
        camera, x, y = self._spot(asked)
        connected, tolerance = value(asked.values, 0, bool), number(asked.values, 1, 0, 100)
        through = value(asked.values, 2, bool)
        return self.controller.select_like(camera, x, y, connected, tolerance, asked.mode, through)

    def _looks(self, asked: Asked, through: int) -> Camera | None:
        """The view of a page whose tool takes what it shows alone, as one of the values says."""
        return None if value(asked.values, through, bool) else self._camera(asked)[0]

    def _sphere(self, asked: Asked) -> str:
        centre = self.picture.space.point(_vector(asked.values, 0))
        radius = number(asked.values, 3, 1e-6, _LIMIT)
        return self.controller.select_sphere(centre, radius, asked.mode, self._looks(asked, 4))

    def _box(self, asked: Asked) -> str:
        space, values = self.picture.space, asked.values
        x, y, z = (number(values, index, 1e-6, _LIMIT) for index in range(3, 6))
        box = Box(space.point(_vector(values, 0)), (x, y, z), space.axes(_quaternion(values, 6)))
        return self.controller.select_box(box, asked.mode, self._looks(asked, 10))

    def _range(self, asked: Asked) -> str:
        low, high = (number(asked.values, index, 0, _LIMIT) for index in (1, 2))
        return self.controller.select_range(_property(asked.values), low, high, asked.mode, self._looks(asked, 3))

    def _histogram(self, asked: Asked) -> dict[str, Any]:
        name = _property(asked.values)
        found = self.controller.histogram(name)
        return {"histogram": {"property": name, "low": found.low, "high": found.high, "counts": list(found.counts)}}

    def _text(self, asked: Asked) -> str:
        words, model = (value(asked.values, index, str).strip() for index in range(2))
        search = self._search
        if search is None:
            raise GsegError("This has no masks that texts could be compared with, or the extra `text` is missing.")
        clip = Reach(self.folder).model(model)
        return self.controller.find(words, lambda text: search(text, clip, self._say), asked.mode)

    # ------------------------------------------------------------------------------------------------ where things are

    def _point(self, asked: Asked) -> dict[str, Any]:
        return {"point": self.picture.space.shown(self.controller.point_at(*self._spot(asked)))}

    def _length(self, asked: Asked) -> str:
        length, metres = number(asked.values, 0, 0, _LIMIT), number(asked.values, 1, 1e-6, 1e6)
        return self.controller.set_length(length, metres)

    def _extent(self, asked: Asked) -> dict[str, Any]:
        found, space = self.controller.extent(), self.picture.space
        centre, pivot = space.shown(found.centre), space.shown(found.pivot)
        return {"extent": {"pivot": pivot, "centre": centre, "size": space.edges(found.size)}}

    def _look(self, asked: Asked) -> dict[str, Any]:
        group = None if asked.values[:1] == [None] else value(asked.values, 0, int)
        if group is not None:
            self.controller.require_list()
        centre, radius = self.controller.sphere_of(group)
        return {"look": {"centre": self.picture.space.shown(centre), "radius": radius}}

    # ------------------------------------------------------------------------------------------------ edits, exports

    def _move(self, asked: Asked) -> str:
        """Shift [3], rotation [4] about what it turns about, factor, and whether it is a copy that moves."""
        space, values = self.picture.space, asked.values
        shift, turn = space.vector(_vector(values, 0)), space.turn(_quaternion(values, 3))
        size, is_copy = number(values, 7, 0.01, 1000), value(values, 8, bool)
        kind = Duplicate if is_copy else Transform

        def make(mask: PackedMask) -> Operation:
            return kind(mask=mask, translation=shift, rotation=turn, scale=size)

        return self.controller.edit_selection(make)

    def _recolor(self, asked: Asked) -> str:
        red, green, blue = (number(asked.values, index, 0, 255) / 255 for index in range(3))
        return self.controller.edit_selection(lambda mask: Recolor(mask, (red, green, blue)))

    def _opacity(self, asked: Asked) -> str:
        factor = number(asked.values, 0, 0, 2)
        return self.controller.edit_selection(lambda mask: SetOpacity(mask, factor))

    def _export_objects(self, asked: Asked) -> Callable[[], str]:
        """Whether borders are cleaned, which is left out where not."""
        if not (asked.values and value(asked.values, 0, bool)):
            return self.controller.export_objects_later(self._acting.exports())
        clean, say = self._clean, _asker.get() or (lambda text: None)
        if clean is None:
            raise GsegError(
                "Borders are where training views show them: here is no scene. Start `gseg view` "
                "with --data SCENE, the folder of its photographs."
            )
        return self.controller.export_objects_later(
            self._acting.exports(), lambda groups, scale: clean(groups, scale, say, self._over.is_set)
        )

    def _export_ply(self, asked: Asked) -> Callable[[], str]:
        path = Reach(self.folder).path(value(asked.values, 0, str), ".ply")
        return self.controller.export_ply_later(path, value(asked.values, 1, bool))

    def _export_page(self, asked: Asked) -> Callable[[], str]:
        """Name, whether it is overwritten, and what the browser looks at [3]; it opens where the browser is.

        It has the title of a page, not of this one, which may be the name of a file.
        """
        path = Reach(self.folder).path(value(asked.values, 0, str), ".html")
        overwrite, space = value(asked.values, 1, bool), self.picture.space
        view = None
        if asked.view is not None:
            view = View(space.point(asked.view.pose[12:15]), space.point(_vector(asked.values, 2)), asked.view.fov)
        return self.controller.export_page_later(path, overwrite, view=view)

    def _isolate_run(self, asked: Asked) -> str:
        config, command = self._acting.isolate_run(value(asked.values, 0, str))
        return f"Wrote {config}. As PLY: {command}"


def _vector(values: list[Any], start: int) -> Vector:
    x, y, z = (number(values, start + axis, -_LIMIT, _LIMIT) for axis in range(3))
    return x, y, z


def _quaternion(values: list[Any], start: int) -> Quaternion:
    w, x, y, z = (number(values, start + part, -1, 1) for part in range(4))
    return w, x, y, z


def _property(values: list[Any]) -> Property:
    name = value(values, 0, str)
    if name not in get_args(Property):
        raise GsegError("The page asked for something that the viewer does not understand. Reload it.")
    return cast(Property, name)
