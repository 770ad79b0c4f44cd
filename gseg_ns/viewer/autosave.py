"""A session is on disk as soon as the next thing is done to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Autosave:
    """Saves after every change, beside what goes on; what is done next waits until what was done before is saved.

    A kill then loses at most the last action.
    """

    def __init__(self, save: Callable[[], object], failed: Callable[[str], object]) -> None:
        """Save with `save`, which is called from a thread of its own; tell `failed` why it could not."""
        self._save = save
        self._failed = failed
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="gseg-save")
        self._pending: Future[None] | None = None
        self._lock = threading.Lock()

    def changed(self) -> None:
        """Begin to save what there is now."""
        with self._lock:
            self._pending = self._worker.submit(self._run)

    def wait(self) -> None:
        """Wait until what was last begun is on disk, or cannot be."""
        with self._lock:
            pending = self._pending
        if pending is not None:
            pending.result()

    def _run(self) -> None:
        try:
            self._save()
        except Exception as error:  # the viewer goes on without
            self._failed(str(error))
