"""Label maps of mask files, painted once: on disk by what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from gseg_ns.disk_cache import DiskCache, file_digest, key_of
from gseg_ns.errors import GsegError
from gseg_ns.masks.label_runs import LabelRuns
from gseg_ns.masks.load import load_label_runs
from gseg_ns.masks.mask_file import MaskFile
from gseg_ns.masks.paint import PaintOrder

_VERSION = 2
"""Of what is kept: other numbers are not found again."""


def cached_label_runs(
    files: Sequence[Path | MaskFile],
    order: PaintOrder = "confidence",
    min_score: float = 0.5,
    min_visible: float = 0.1,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> list[LabelRuns]:
    """The label maps of photographs' masks, each painted unless that was done before (see `gseg_ns.disk_cache`).

    Args:
        files: where the masks are, see `load_labels`.
        order: see `paint`, as the next two.
        min_score: see `paint`.
        min_visible: see `paint`.
        threads: how many files are read at once; most of the work lets other threads run.
        progress: called after each file.

    Raises:
        GsegError: a file is missing or damaged: the first of those.
    """
    cache = DiskCache("labels")

    def one(named: Path | MaskFile) -> tuple[LabelRuns, bool]:
        file = named if isinstance(named, MaskFile) else MaskFile.of(named)
        key = None
        with suppress(OSError):  # what is wrong with the file is said by its reader
            sources = [(path.suffix.lower(), file_digest(path)) for path in file.sources]
            key = key_of(_VERSION, sources, bool(file.parts), file.entry, order, min_score, min_visible)
        known = None if key is None else cache.get(key)
        if known is not None:
            with suppress(GsegError):
                return LabelRuns.from_bytes(known), False
        runs = load_label_runs(file, order, min_score, min_visible)
        if key is not None:
            cache.put(key, runs.to_bytes())
        return runs, True

    found, made = [], False
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="gseg-masks") as pool:
        waiting = [pool.submit(one, file) for file in files]
        try:
            for future in waiting:
                runs, new = future.result()
                found.append(runs)
                made |= new
                progress()
        finally:
            for future in waiting:
                future.cancel()
    if made:
        cache.trim()
    return found
