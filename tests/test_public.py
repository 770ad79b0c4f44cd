"""The names that others may use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

PACKAGES = """
benchmarking data editing evaluation lifting masks models objects
rendering runs selection splats viewer demo
""".split()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package: str) -> None:
    module = import_module(f"gseg_ns.{package}")
    assert module.__all__
    for name in module.__all__:
        # A function named as its module is hidden by that as soon as somebody imports it.
        assert not isinstance(getattr(module, name), ModuleType), name
    assert set(module.__all__) <= set(dir(module))


def test_names_cost_nothing_until_they_are_used() -> None:
    code = "import sys, gseg_ns.runs, gseg_ns.models, gseg_ns.selection; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
