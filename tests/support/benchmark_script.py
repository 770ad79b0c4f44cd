"""Scripts of `benchmarks/`, which are no part of the package, as modules."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@contextmanager
def benchmark(name: str) -> Iterator[Any]:
    """The script of a name; what it imports of its neighbours is found, as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        module = importlib.import_module(name)
        assert module.__file__ == str(FOLDER / f"{name}.py"), f"another module is called {name}, too"
        yield module
