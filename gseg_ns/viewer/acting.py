"""What front ends do to a session, by name, and what they show of it: one answer for the tab and for the page.

Neither a widget nor Nerfstudio is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import torch

from gseg_ns.editing.operations import Hide, Isolate, Operation, Remove, ShowAll
from gseg_ns.errors import GsegError
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.outlines import Outline, Stroke, drawn_over
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.selection import Mode
from gseg_ns.viewer.commands import value
from gseg_ns.viewer.editing import Editing
from gseg_ns.viewer.exporting import Exporting
from gseg_ns.viewer.listing import Listing
from gseg_ns.viewer.reach import Reach
from gseg_ns.viewer.selecting import Change, Selecting
from gseg_ns.viewer.shaping import Shaping

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.runs.prompting import MarkedView
    from gseg_ns.runs.tracking import TrackedClicks
    from gseg_ns.selection.prompts import Prompt
    from gseg_ns.selection.prompts_sam import SamPrompts
    from gseg_ns.splats import Splats
    from gseg_ns.splats.placement import Axis


@dataclass(frozen=True)
class Shown:
    """The rows of the edited scene, all of them."""

    splats: Splats
    """[M], those that are removed or hidden as well."""
    groups: Tensor | None
    """int64 [M], 0 = none; None: not known yet."""
    selected: Tensor
    """bool [M]"""
    drawn: Tensor
    """bool [M]"""


class Controller(Selecting, Shaping, Editing, Listing, Exporting):
    """Selection and edits on a model, for any front end."""

    def __init__(
        self, model: SegmentationModel, lock: AbstractContextManager[Any] | None = None, up: Axis = "z"
    ) -> None:
        """Start with nothing selected; see `Held`.

        Args:
            model: the model that is shown, possibly in training.
            lock: see `Held`.
            up: which way is up in it, as what is exported says.
        """
        super().__init__(model, lock)
        self.up = up

    def take_notice(self) -> str:
        """What happened by itself since this was asked last, or the empty string."""
        with self._held():
            notice, self.notice = self.notice, ""
        return notice

    def shown(self) -> Shown:
        """What there is to draw, and what of it is selected."""
        with self._held() as session, torch.no_grad():
            scene = session.scene
            groups = self._row_groups(scene) if self._knows_groups else None
            return Shown(scene.splats, groups, session.selection.mask & ~scene.removed, scene.drawn)

    def select_drawn_over(
        self, camera: Camera, drawn: Sequence[Outline | Stroke], mode: Mode = "set", visible_only: bool = True
    ) -> str:
        """Select what lies under lassos, polygons and strokes on a view; see `drawn_over`.

        Raises:
            GsegError: the view cannot be one.
        """
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            scene = session.scene
            there = scene.drawn
            mask = torch.zeros_like(there)
            mask[there] = drawn_over(scene.splats.subset(there), camera, drawn, visible_only)
            brush = all(isinstance(one, Stroke) for one in drawn)
            count = self._select(session, mask, mode, f"select by {'a brush' if brush else 'an outline'}")
        took = 1000 * (time.perf_counter() - started)
        return f"{'Brush' if brush else 'Outline'}: {count:,} Gaussians selected ({took:.0f} ms)"


def mode_in(values: list[Any], index: int, usual: Mode) -> Mode:
    """How something meets the selection, as a command says it, or what is usual."""
    found = values[index] if index < len(values) else None
    return cast(Mode, found) if found in get_args(Mode) else usual


class Acting:
    """What is asked for by name."""

    def __init__(
        self, controller: Controller, config: Path, reach: Callable[[], Reach], say: Callable[[str], None]
    ) -> None:
        """Act on a session.

        Args:
            controller: of it.
            config: `config.yml` of the run, or where one would be.
            reach: gives the files that what is typed may reach.
            say: shows what goes on meanwhile.
        """
        self._controller = controller
        self._config = config
        self._reach = reach
        self._say = say
        self._seeks = False  # objects at another scale, for the list

    def act(self, name: str, values: list[Any], means: Mode) -> str:
        """Do something to the session; what it did, in words.

        Args:
            name: of what is asked for.
            values: see `gseg_ns.viewer.commands`.
            means: how what is selected meets the selection, unless the values say it.

        Raises:
            GsegError: it cannot be done, or nothing is called so.
        """
        controller = self._controller
        if name in ("pick", "picks", "eye", "name"):
            controller.require_list()
        if name == "pick":
            how = "toggle" if values[1:] == ["toggle"] else mode_in(values, 1, means)
            return controller.select_group(value(values, 0, int), how)
        if name == "picks":
            groups = [value(values, index, int) for index in range(1, len(values))]
            return controller.select_groups(groups, mode_in(values, 0, means))
        if name == "walk":
            return controller.walk(value(values, 0, int))
        if name == "eye":
            return controller.toggle(value(values, 0, int))
        if name == "name":
            return controller.label(value(values, 0, int), value(values, 1, str))
        if name == "change" and values and values[0] in get_args(Change):
            return controller.change(values[0])
        edits: dict[str, Callable[[PackedMask], Operation]] = {"hide": Hide, "isolate": Isolate, "remove": Remove}
        if name in edits:
            return controller.edit_selection(edits[name])
        if name == "show all":
            return controller.edit(ShowAll())
        if name in ("undo", "redo"):
            return controller.undo() if name == "undo" else controller.redo()
        if name == "export":
            return controller.export_objects(self.exports())
        raise GsegError("The page asked for something that the viewer does not know. Reload it.")

    def click(self, camera: Camera, x: float, y: float, mode: Mode) -> str:
        """Answer a click on a view; see `Selecting.click`."""
        return self._controller.click(camera, x, y, mode != "remove", mode == "set", mode == "intersect")

    def list_objects(self) -> str:
        """Find the objects; with methods of features that takes long."""
        count = len(self._controller.groups())
        return f"{count} objects." if count else self._controller.why_no_groups()

    def rescale(
        self, scale: float, beside: Callable[[Callable[[], None]], object], refresh: Callable[[], object]
    ) -> str:
        """Change the scale; the list of objects follows, where there was one.

        Args:
            scale: 0 the finest, 1 the coarsest.
            beside: does something in the thread of what takes long.
            refresh: shows what is new.
        """
        controller = self._controller
        is_wanted = controller.lists or self._seeks
        said = controller.reprompt(scale=scale)

        def relist() -> None:
            if controller.scale == scale:  # else another one has come meanwhile
                self._seeks = False
                controller.groups()
                refresh()

        self._seeks = is_wanted and not controller.lists
        if self._seeks:
            beside(relist)
        return said or f"Scale {scale:.2f}."

    def exports(self) -> Path:
        """The folder that objects are exported into.

        Raises:
            GsegError: it leads out of what can be reached.
        """
        reach = self._reach()
        return reach.check(reach.run / "exports")

    def swap(self, source: str) -> str:
        """Put another object in the place of the selection.

        Args:
            source: name of a saved selection, a PLY, or an object of another run.

        Raises:
            GsegError: there is none, it lies outside of what can be reached, or nothing is selected.
        """
        from gseg_ns.runs.edited_run import SWAPPED, is_run, take_object

        controller = self._controller
        if not source:
            raise GsegError("Name a saved selection, a PLY, or …/config.yml#3 for group 3 of another run.")
        controller.packed()  # before a run is loaded for nothing
        if source in controller.names:
            return controller.swap(source)
        if not is_run(source):
            return controller.swap(self._reach().path(source, ".ply"))
        config, _, name = source.partition("#")
        run = self._reach().path(config)
        self._reach().check(self._config.parent / SWAPPED)
        self._say(f"Loading {source} …")
        taken = take_object(f"{run}#{name}", self._config.parent)
        # What is selected after the seconds that loading takes: meanwhile others may have edited, or trained on.
        return controller.swap(taken)

    def isolate_run(self, name: str) -> tuple[Path, str]:
        """Write what is selected as a run of its own.

        Returns:
            its `config.yml`, and the command of plain Nerfstudio that exports it.

        Raises:
            GsegError: see `Exporting.isolate_run`.
        """
        from gseg_ns.runs.isolated import export_command

        config = self._controller.isolate_run(self._config, name, self._reach().home_of_runs)
        return config, export_command(config)

    # ------------------------------------------------------------------------------------------------------- masks

    @cached_property
    def _sam(self) -> SamPrompts:
        from gseg_ns.selection.prompts_sam import SamPrompts

        return SamPrompts(self._controller.model.device)

    @cached_property
    def _tracked(self) -> TrackedClicks:
        from gseg_ns.runs.tracking import TrackedClicks

        return TrackedClicks(self._controller.model)

    def mark(self, sam: str, track: str, view: Cameras, x: float, y: float, mode: Mode) -> str:
        """Answer a click by masks, and these by what they mean.

        Args:
            sam: checkpoint, folder or name of a model that answers points; empty: the tracker does.
            track: name or folder of a video model that carries the mask around the object; empty: the method answers.
            view: that was clicked on.
            x: pixel column.
            y: pixel row.
            mode: how it meets the selection.

        Raises:
            GsegError: see `Selecting.mark`.
        """
        path = self._reach().sam(sam) if sam else None
        tracker = self._reach().model(track) if track else None

        def answer(picture: Tensor, prompt: Prompt) -> Tensor:
            self._say(f"Asking {f'SAM ({path})' if path else tracker} …")
            if path is not None:
                return self._sam.mask(path, picture, prompt)
            assert tracker is not None
            return self._tracked.mask(tracker, picture, prompt)

        def look(number: int) -> None:
            self._say(f"Looking at it from all around{'' if number == 1 else f', farther away: round {number}'} …")

        def carry(marked: MarkedView, splats: Splats) -> Tensor:
            assert tracker is not None
            assert marked.mask is not None
            return self._tracked.carry(tracker, marked.camera, marked.mask, splats, look).selected

        def embed() -> Tensor | None:
            return None if path is None else self._sam.embedding

        carried = None if tracker is None else carry
        return self._controller.mark(view, x, y, mode != "remove", answer, mode, carried, embed)


def told(controller: Controller) -> dict[str, Any]:
    """All that pages are told of a session: its objects, what is selected, and what can be done.

    Where objects are to be found first, as those at another scale, the list is empty meanwhile: the numbers of another
    one would mean other objects.
    """
    is_listed = controller.lists
    objects = _listed(controller) if is_listed else {"objects": [], "why": ""}
    return {**objects, **_standing(controller), "listed": is_listed}


def _listed(controller: Controller) -> dict[str, Any]:
    """The objects; with methods of features, the first time takes long."""
    groups = controller.groups()
    objects = [
        {
            "id": group.id,
            "name": group.name,
            "count": group.count,
            "color": "#{:02x}{:02x}{:02x}".format(*group.color),
            "hidden": group.hidden,
        }
        for group in groups
    ]
    return {"objects": objects, "why": "" if groups else controller.why_no_groups()}


def _standing(controller: Controller) -> dict[str, Any]:
    """What is selected, and what can be done."""
    picked = controller.picked()
    return {
        "selected": list(picked.groups),
        "called": picked.called,
        "gaussians": picked.gaussians,
        "steps": list(controller.steps()),
        "hides": controller.hides(),
        "walks": controller.walks(),
    }
