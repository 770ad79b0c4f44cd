"""Work sharing for the CPU kernels, and the thread settings that keep a CPU training step usable.

The kernels are compiled without the GIL and without Numba's own parallel layers; this module splits their work over
plain Python threads. Numba's layers were left out for three reasons: `workqueue` aborts the process when two Python
threads (trainer and viewer) enter it at once, `omp` waits by spinning, and `tbb` is often not installed. Threads that
block while they wait cost nothing when another process is busy, and any number of callers may enter at once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_CHUNKS_PER_THREAD = 4
_pool: ThreadPoolExecutor | None = None
_num_threads: int | None = None


def available_cores() -> int:
    """Cores that this process may run on (its affinity mask where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_threads() -> int:
    """Threads that the kernels use: what `configure` was given, else every core that this process may run on."""
    return _num_threads or available_cores()


def configure(kernel_threads: int | None = None, torch_threads: int | None = None) -> None:
    """Set the thread counts for CPU training; call once, before the first step.

    torch's OpenMP workers wait by spinning. With another busy process on the machine a spinning team waits for its
    descheduled member at every operation, and a step slows by several times. The setting that avoids it at run time
    is one torch thread: the kernels here, which block instead, carry the work that is worth sharing. Where
    `OMP_WAIT_POLICY=PASSIVE` was set before start, torch's workers block as well and are left as they are.

    Args:
        kernel_threads: threads for the kernels of this package; None means every core of the process.
        torch_threads: threads for torch; None means 1, or no change where OMP_WAIT_POLICY is PASSIVE.
    """
    global _num_threads
    _num_threads = kernel_threads
    _reset_pool()
    if torch_threads is not None:
        torch.set_num_threads(torch_threads)
    elif os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        torch.set_num_threads(1)


def _reset_pool() -> None:
    """Forget the worker threads: after a change of their number, and in a forked child, which has none of them."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_pool)


def share(kernel: Callable[..., Any], count: int, *args: Any, grain: int = 1) -> None:
    """Run `kernel(start, stop, *args)` over all of `range(count)`, in chunks, on all threads.

    Chunks are taken in turn, so that a thread which the system holds up takes fewer. The kernel must write nothing
    that depends on how the range is cut.

    Args:
        kernel: a function compiled with `nogil=True`, or any Python function.
        count: number of work items.
        args: passed on unchanged.
        grain: smallest chunk worth handing to a thread, in items.
    """
    workers = num_threads()
    chunks = max(1, min(workers * _CHUNKS_PER_THREAD, count // max(grain, 1)))
    if workers == 1 or chunks == 1:
        if count:
            kernel(0, count, *args)
        return
    turns = itertools.count()

    def work() -> None:
        while (turn := next(turns)) < chunks:
            kernel(turn * count // chunks, (turn + 1) * count // chunks, *args)

    global _pool
    pool = _pool
    if pool is None:
        pool = _pool = ThreadPoolExecutor(max(workers - 1, 1), thread_name_prefix="gseg-kernel")
    helpers = [pool.submit(work) for _ in range(min(workers, chunks) - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            helper.result()
