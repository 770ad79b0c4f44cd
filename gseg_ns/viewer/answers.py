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

from gseg_ns.viewer.acting import Acting, told
from gseg_ns.viewer.keeping import Keeping, Refusal
from gseg_ns.viewer.reach import Reach

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

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
        self._pictured: Any = None
        self._pictured_scale = controller.scale
        self._keeping = Keeping(controller, lambda: controller.save(self.folder), lambda why: self.say(_not_done(why)))

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
        self.say(self._keeping.begin(self.folder))
        self.refresh()

    def saved(self) -> bool:
        """Wait for the disk, and answer whether all that was done is on it."""
        return self._keeping.is_kept()

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
            if isinstance(found := self._keeping.attempt(act), Refusal):
                self.say(_not_done(found.why))

        thread.submit(run)

    def do(self, action: Callable[[], str], client: int | None = None) -> None:
        """Run an action; say what came of it, to the browser that asked and to all; save and draw.

        Called from the thread of answers: see `ask`.
        """
        self._end(self._outcome(action), client)

    def _outcome(self, action: Callable[[], str]) -> str:
        found = self._keeping.attempt(action)
        return _not_done(found.why) if isinstance(found, Refusal) else found

    def _end(self, said: str, client: int | None) -> None:
        self.say(said, client)
        self._keeping.keep(self._front.is_final())
        self._front.draw()
        self.refresh()
        self._front.follow()

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
        state = told(controller)
        if not state["listed"] or self.controller.scale != self._pictured_scale:
            self._pictured = None  # pictures are those of other objects under the same numbers
            state["pictures"] = {}
        self._front.show(**state)
        if state["listed"]:
            self._picture()

    def _picture(self) -> None:
        """Make pictures for the list, where there are none yet and nothing trains."""
        cameras, wanted = self._front.photographs(), self.controller.pictured()
        if cameras is not None and wanted != self._pictured:
            self._pictured, self._pictured_scale = wanted, self.controller.scale
            self._beside.submit(self._show_pictures, cameras, wanted)

    def _show_pictures(self, cameras: Cameras, wanted: Any) -> None:
        made: dict[int, str] = {}
        try:
            if self._pictured != wanted:
                return
            for group, picture in self.controller.pictures(cameras):
                if self._pictured != wanted:
                    return
                made[group] = picture
                if len(made) % 16 == 0:
                    self._front.show(pictures=dict(made))
            if self._pictured == wanted:
                self._front.show(pictures=made)
        except Exception:
            _LOG.exception("The list of objects has no pictures")

    # ------------------------------------------------------------------------------------- what browsers ask for

    def list_objects(self, client: int | None = None) -> None:
        """Find the objects; with methods of features that takes long."""
        self.later(self.acting.list_objects, client)

    def rescale(self, scale: float) -> str:
        """Change the scale; the list of objects follows, where there was one."""
        return self.acting.rescale(
            scale, lambda relist: self._submit(self._slow, relist), lambda: self.queue(self.refresh)
        )


def _not_done(why: str) -> str:
    """As it is said in Markdown, of which the tab's script makes a mark."""
    return f"**Not done:** {why}"
