"""Freed memory stays with the process, unless its user has decided otherwise."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from gseg_ns.rendering.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from gseg_ns.rendering.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for round in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        several = [np.ones(1_500_000) for _ in range(4)]
        del several
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")


@glibc
def test_the_same_amounts_are_not_asked_of_the_system_again() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "leave")
    ]
    assert 10 * faults[0] < faults[1]


def test_variables_of_the_user_have_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not keep_freed_memory()
