"""How the tab answers: one thing after the other, and what came of it is said, saved and shown.

Nothing here knows how browsers are reached: that is the `Front`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gseg_ns.errors import GsegError
from gseg_ns.selection.selection import Mode
from gseg_ns.viewer.acting import Acting, listed, standing
from gseg_ns.viewer.autosave import Autosave
from gseg_ns.viewer.reach import Reach

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from gseg_ns.rendering.camera import Camera
    from gseg_ns.viewer.controller import SegmentController

_MARKS = re.compile(r"\*\*(Not done:|Left out:|Not loaded:)\*\*")
"""What is said in bold in a text that knows it."""
_LOG = logging.getLogger(__name__)


class Front(Protocol):
    """What browsers see. May be called from any thread, but for `follow`."""

    def show(self, **state: Any) -> None:
        """Tell all browsers, those that come later too, what to show under these names; see `Answers.refresh`."""

    def notify(self, client: int, text: str, well: bool) -> None:
        """Tell one browser what came of what it asked for."""

    def draw(self) -> None:
        """Draw the picture anew."""

    def follow(self) -> None:
        """Bring up to date what is shown beside. Called from the thread of answers, after everything that was done."""

    def is_final(self) -> bool:
        """Whether the Gaussians are those of a checkpoint, so that what is done to them is worth saving."""

    def photographs(self) -> Cameras | None:
        """From where objects are looked at for the list; None while something else needs the processor."""


@dataclass
class Said:
    """What was said last."""

    content: str = ""
    well: bool = True


class Answers:
    """One session for all browsers."""

    def __init__(self, controller: SegmentController, config: Path, front: Front) -> None:
        """Work on what a controller holds.

        Args:
            controller: with its session.
            config: `config.yml` of the run; beside it the session is saved, and what is there is what browsers reach.
            front: what browsers see.
        """
        self.controller = controller
        self.folder = config.parent
        self.acting = Acting(controller, config, lambda: self.reach, self.say)
        self.said = Said()
        self._front = front
        # One thing after the other, in the order in which browsers ask; what takes long has a thread of its own.
        self._acts = ThreadPoolExecutor(1, thread_name_prefix="gseg-tab")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="gseg-slow")
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="gseg-pictures")
        self._seen = controller.state()
        self._pictured: Any = None
        self._listed = False
        self._autosave: Autosave | None = None

    @cached_property
    def reach(self) -> Reach:
        """What the fields for paths reach."""
        return Reach(self.folder)

    @property
    def trains(self) -> bool:
        """Whether something else needs the processor, and changes what there is."""
        return self._front.photographs() is None

    def begin(self) -> None:
        """Restore what was saved, say so, and save what is done from now on."""
        self.say(self.controller.load(self.folder))
        self._autosave = Autosave(
            lambda: self.controller.save(self.folder),
            lambda why: self.say(f"**Not done:** what was done last is not on disk: {why}"),
        )
        self._seen = self.controller.state()
        self.refresh()

    def saved(self) -> bool:
        """Wait for the disk, and answer whether all that was done is on it."""
        seen = self._seen
        if self._autosave is not None:
            self._autosave.wait()
        return seen is self.controller.state()

    # -------------------------------------------------------------------------------------------------- threads

    def queue(self, act: Callable[[], object]) -> None:
        """Do something after all that browsers asked for before."""
        self._submit(self._acts, act)

    def ask(self, action: Callable[[], str], client: int | None = None) -> None:
        """As `do`, from any thread: after all that browsers asked for before."""
        self.queue(lambda: self.do(action, client))

    def later(self, action: Callable[[], str], client: int | None = None) -> None:
        """As `do`, for what takes seconds: in a thread of its own, one after the other; others need not wait."""

        def run() -> None:
            said = self._outcome(action)
            self.queue(lambda: self._end(said, client))

        self._submit(self._slow, run)

    def _submit(self, thread: ThreadPoolExecutor, act: Callable[[], object]) -> None:
        """Do something in a thread; what goes wrong is told, for nobody asks what became of it."""

        def run() -> None:
            try:
                act()
            except Exception:
                self.say(_failed())

        thread.submit(run)

    def do(self, action: Callable[[], str], client: int | None = None) -> None:
        """Run an action; say what came of it, to the browser that asked and to all; save and draw.

        Called from the thread of answers: see `ask`.
        """
        self._end(self._outcome(action), client)

    def _outcome(self, action: Callable[[], str]) -> str:
        if self._autosave is not None:
            self._autosave.wait()
        try:
            return action()
        except GsegError as error:
            return f"**Not done:** {error}"
        except Exception:
            return _failed()

    def _end(self, said: str, client: int | None) -> None:
        self.say(said, client)
        self._keep()
        self._front.draw()
        self.refresh()
        self._front.follow()

    def _keep(self) -> None:
        """Save what has changed."""
        state = self.controller.state()
        if self._autosave is None or state is self._seen:
            return
        self._seen = state
        if self._front.is_final():
            self._autosave.changed()

    # -------------------------------------------------------------------------------------------- what is said

    def say(self, text: str, client: int | None = None) -> None:
        """Say a text as it is, to all and, where one asked, to that browser."""
        if not text:
            return
        well = "**Not" not in text
        text = _MARKS.sub(r"\1", text)
        self.said.content, self.said.well = text, well
        self._front.show(said=text, well=well)
        if client is not None:
            self._front.notify(client, text, well)

    def refresh(self) -> None:
        """Show what there is: objects, what is selected, and what can be done."""
        controller = self.controller
        self.say(controller.take_notice())
        is_listed = controller.lists
        if is_listed:
            self._front.show(**listed(controller))
            self._picture()
        elif not self._listed:
            self._front.show(objects=[], why="")
        self._listed = True
        self._front.show(listed=is_listed, **standing(controller))

    def _picture(self) -> None:
        """Make pictures for the list, where there are none yet and nothing trains."""
        cameras, wanted = self._front.photographs(), self.controller.pictured()
        if cameras is not None and wanted != self._pictured:
            self._pictured = wanted
            self._beside.submit(self._show_pictures, cameras)

    def _show_pictures(self, cameras: Cameras) -> None:
        made: dict[int, str] = {}
        try:
            for group, picture in self.controller.pictures(cameras):
                made[group] = picture
                if len(made) % 16 == 0:
                    self._front.show(pictures=dict(made))
            self._front.show(pictures=made)
        except Exception:
            _LOG.exception("The list of objects has no pictures")

    # ------------------------------------------------------------------------------------- what browsers ask for

    def click(self, camera: Camera, x: float, y: float, mode: Mode) -> str:
        """Answer a click on a view; see `SegmentController.click`."""
        return self.controller.click(camera, x, y, mode != "remove", mode == "set", mode == "intersect")

    def list_objects(self, client: int | None = None) -> None:
        """Find the objects; with methods of features that takes long."""
        self.later(self._list, client)

    def _list(self) -> str:
        count = len(self.controller.groups())
        return f"{count} objects." if count else self.controller.why_no_groups()

    def rescale(self, scale: float) -> str:
        """Change the scale; the list of objects follows, where there was one."""
        listed = self.controller.lists
        said = self.controller.reprompt(scale=scale)
        if listed:
            self._submit(self._slow, lambda: self._relist(scale))
        return said

    def _relist(self, scale: float) -> None:
        if self.controller.scale == scale:  # else another one has come meanwhile
            self.controller.groups()
            self.queue(self.refresh)


def _failed() -> str:
    """What to say of an exception that nobody foresaw; the terminal has it whole."""
    _LOG.exception("What a browser asked for could not be done")
    return "**Not done:** something went wrong; the terminal says what."
