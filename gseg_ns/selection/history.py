"""Undo and redo."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class History(Generic[T]):
    """The present value, what it was before, and what was undone. Values are immutable and kept by reference.

    Memory is bounded: when the values behind the present one take more than `max_bytes`, or are more than
    `max_steps`, the oldest are forgotten. The present value is never forgotten.
    """

    def __init__(
        self, initial: T, nbytes: Callable[[T], int], max_steps: int = 2000, max_bytes: int = 256 * 2**20
    ) -> None:
        """Start a history.

        Args:
            initial: the first value.
            nbytes: memory that a value takes, in bytes.
            max_steps: undo steps to keep.
            max_bytes: memory that the kept steps may take.
        """
        self._present = initial
        self._past: deque[T] = deque()
        self._future: list[T] = []
        self._nbytes = nbytes
        self._max_steps = max_steps
        self._max_bytes = max_bytes
        self._bytes = 0

    @property
    def present(self) -> T:
        """The value now."""
        return self._present

    @property
    def undo_steps(self) -> int:
        """How many times `undo` changes something."""
        return len(self._past)

    @property
    def redo_steps(self) -> int:
        """How many times `redo` changes something."""
        return len(self._future)

    @property
    def upcoming(self) -> T | None:
        """What `redo` would make the present value; None: nothing was undone."""
        return self._future[-1] if self._future else None

    def push(self, value: T) -> None:
        """Make `value` the present one. What was undone can no longer be redone."""
        self._remember(self._present)
        self._future.clear()
        self._present = value

    def undo(self) -> bool:
        """Go one step back. Returns whether there was one."""
        if not self._past:
            return False
        self._future.append(self._present)
        self._present = self._past.pop()
        self._bytes -= self._nbytes(self._present)
        return True

    def redo(self) -> bool:
        """Take back the last undo. Returns whether there was one."""
        if not self._future:
            return False
        self._remember(self._present)
        self._present = self._future.pop()
        return True

    def reset(self, value: T) -> None:
        """Start anew with `value`."""
        self._past.clear()
        self._future.clear()
        self._bytes = 0
        self._present = value

    def _remember(self, value: T) -> None:
        self._past.append(value)
        self._bytes += self._nbytes(value)
        while len(self._past) > self._max_steps or (self._bytes > self._max_bytes and len(self._past) > 1):
            self._bytes -= self._nbytes(self._past.popleft())
