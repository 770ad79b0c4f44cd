"""What every front end has of a session: something comes of all that is asked for, and what was done is saved."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gseg_ns.errors import GsegError
from gseg_ns.viewer.autosave import Autosave

if TYPE_CHECKING:
    from gseg_ns.viewer.acting import Controller

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_WENT_WRONG = "Something went wrong; the terminal says what."


@dataclass(frozen=True)
class Refusal:
    """Why nothing came of what was asked for."""

    why: str


class Keeping:
    """A session that lies beside a run, is restored from there, and saved to there after every change."""

    def __init__(self, controller: Controller, save: Callable[[], object], failed: Callable[[str], object]) -> None:
        """Nothing is restored or saved yet.

        Args:
            controller: with its session.
            save: writes it.
            failed: is told, in a sentence, that what was done last is not on disk, and why.
        """
        self._controller = controller
        self._save = save
        self._failed = failed
        self._autosave: Autosave | None = None
        self._seen = controller.state()

    def begin(self, folder: Path) -> str:
        """Restore what was saved in a folder, and save what is done from now on.

        Returns:
            what was restored, as `Controller.load` says it.
        """
        said = self._controller.load(folder)
        self._autosave = Autosave(self._save, lambda why: self._failed(f"What was done last is not on disk: {why}"))
        self._seen = self._controller.state()
        return said

    def attempt(self, act: Callable[[], T]) -> T | Refusal:
        """Do something when what was done before is saved. What goes wrong is an answer as well, for browsers wait."""
        try:
            self.wait()
            return act()
        except GsegError as error:
            return Refusal(str(error))
        except Exception:  # nobody foresaw it
            _LOG.exception("What a browser asked for could not be done")
            return Refusal(_WENT_WRONG)

    def keep(self, is_final: bool = True) -> None:
        """Begin to save what has changed.

        Args:
            is_final: whether it is worth it: the Gaussians that it was done to are those of a checkpoint.
        """
        state = self._controller.state()
        if self._autosave is None or state is self._seen:
            return
        self._seen = state
        if is_final:
            self._autosave.changed()

    def wait(self) -> None:
        """Wait until what was last begun is on disk, or cannot be."""
        if self._autosave is not None:
            self._autosave.wait()

    def is_kept(self) -> bool:
        """Wait for the disk, and answer whether all that was done is on it."""
        seen = self._seen
        self.wait()
        return seen is self._controller.state()
