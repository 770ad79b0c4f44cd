"""What the C library does with freed memory, for steps and frames that want the same amounts again and again."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_ON_THE_HEAP = 32 << 20  # the most that glibc takes
_KEPT = 256 << 20


def keep_freed_memory() -> bool:
    """Let freed memory of up to 256 MB stay with the process. May be called again.

    Else glibc gives every large tensor back to the system when it is freed, and the system hands it out anew page by
    page, each cleared first: 3000 faults in a training step of 60 000 Gaussians, a tenth of its time. Variables of
    glibc's own (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`) have precedence.

    Returns:
        whether it took effect: there is glibc, and nobody has decided otherwise.
    """
    if not sys.platform.startswith("linux") or any(
        name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_THE_HEAP) and library.mallopt(_M_TRIM_THRESHOLD, _KEPT))
