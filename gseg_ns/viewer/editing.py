"""What browsers do to the scene: edits, undo and redo."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gseg_ns.editing.operations import (
    Duplicate,
    Hide,
    Isolate,
    Operation,
    Recolor,
    Remove,
    SetOpacity,
    Show,
    ShowAll,
    Swap,
    Transform,
)
from gseg_ns.editing.session import Session
from gseg_ns.selection.packed import PackedMask
from gseg_ns.viewer.held import Held, named_mask, packed


class Editing(Held):
    """Editing."""

    def packed(self, mask: Tensor | None = None) -> PackedMask:
        """A mask, or the selection, for an operation.

        Raises:
            GsegError: nothing is in it.
        """
        with self._held() as session:
            return packed(session.selection.mask if mask is None else mask)

    def named_mask(self, name: str) -> PackedMask:
        """A named selection.

        Raises:
            GsegError: there is none of that name.
        """
        with self._held() as session:
            return named_mask(session, name)

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
            called = self._called(session) if group is None else self._name(session, group)
            return self._edit(session, make(packed(mask)), started, called)

    def swap(self, newcomer: str | Path) -> str:
        """Put another object in the place of the selection.

        Args:
            newcomer: the name of a saved selection, or a PLY.

        Raises:
            GsegError: nothing is selected, there is no selection of that name, or the PLY cannot be read.
        """
        started = time.perf_counter()
        with self._held() as session, torch.no_grad():
            mask = packed(session.selection.mask)
            other = named_mask(session, newcomer) if isinstance(newcomer, str) else str(newcomer)
            return self._edit(session, Swap(mask, other), started)

    def _edit(self, session: Session, operation: Operation, started: float, called: str | None = None) -> str:
        self._end_prompt()
        did = _VERBS.get(type(operation), type(operation).__name__.lower())
        if called is not None:
            did += f" {called}"
        session.edit(operation, did)
        return f"{did[:1].upper()}{did[1:]}: done ({1000 * (time.perf_counter() - started):.0f} ms)"

    def undo(self) -> str:
        """Take the last change back, and say what it was."""
        with self._held() as session:
            self._end_prompt()
            did = session.undoes
            return f"Undone: {did}." if session.undo() else "There is nothing to undo."

    def redo(self) -> str:
        """Repeat what was undone, and say what it is."""
        with self._held() as session:
            self._end_prompt()
            did = session.redoes
            return f"Done again: {did}." if session.redo() else "There is nothing to redo."

    def hides(self) -> bool:
        """Whether something is hidden."""
        with self._held() as session:
            return bool(session.scene.hidden.any())

    def steps(self) -> tuple[str | None, str | None]:
        """What `undo` and `redo` would do, in a few words; None for nothing."""
        with self._held() as session:
            return session.undoes, session.redoes


_VERBS: dict[type, str] = {
    Recolor: "recolor",
    SetOpacity: "set the opacity of",
    Transform: "move",
    Duplicate: "copy",
    Swap: "swap",
    Remove: "remove",
    Hide: "hide",
    Isolate: "isolate",
    Show: "show",
    ShowAll: "show all",
}
