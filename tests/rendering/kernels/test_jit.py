"""The shared exponential, and the cache that must notice an edited helper."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gseg_ns.rendering.kernels import composite, contribute, jit, project, tiles, weights


@jit.kernel
def exponentials(values, out):
    for i in range(values.shape[0]):
        out[i] = jit.exp_negative(values[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponential(dtype):
    values = -np.concatenate([np.linspace(0, 6, 20_001), np.linspace(6, 85, 5_001), [0.0]]).astype(dtype)
    out = np.empty_like(values)
    exponentials(values, out)
    exact = np.exp(values.astype(np.float64))
    assert (np.abs(out / exact - 1) <= np.finfo(dtype).eps * (2 - values)).all()
    assert out[-1] == 1


def test_exponential_of_huge_arguments_is_tiny_not_garbage():
    values = np.array([-1e3, -1e30, -np.inf], np.float32)
    out = np.empty_like(values)
    exponentials(values, out)
    assert (0 <= out).all()
    assert (out < 1e-37).all()


@pytest.mark.parametrize("kernel", [composite.forward, contribute.vote, project.backward, tiles.tile_spans])
def test_every_cache_is_stamped_with_all_kernel_sources(kernel):
    assert kernel._cache._cache_file._source_stamp == jit._sources_stamp(Path(jit.__file__))


def test_a_cache_is_stamped_with_its_own_file_elsewhere():
    stamp = exponentials._cache._cache_file._source_stamp
    assert stamp == jit._sources_stamp(Path(__file__)) != jit._sources_stamp(Path(jit.__file__))


def test_reach_never_loses_a_pixel_that_is_drawn():
    rng = np.random.default_rng(0)
    count = 300
    angle, long, short = rng.uniform(0, np.pi, count), rng.uniform(0.5, 400, count), rng.uniform(0.5, 3, count)
    cos, sin = np.cos(angle), np.sin(angle)
    xx, yy = (cos * long) ** 2 + (sin * short) ** 2, (sin * long) ** 2 + (cos * short) ** 2
    xy = cos * sin * (long**2 - short**2)
    det = xx * yy - xy**2
    conics = np.stack([yy / det, -xy / det, xx / det], axis=1).astype(np.float32)
    means = rng.uniform(-60, 80, (count, 2)).astype(np.float32)
    opacities = rng.uniform(0, 1, count).astype(np.float32)
    packed = np.zeros((count, weights.PACKED), np.float32)
    weights.pack(0, count, means, conics, opacities, packed)
    block = weights.new_block(0, np.float32)
    drawn = 0
    ids = np.arange(count, dtype=np.int32)
    firsts, lasts, found = weights.new_lookahead()
    for g in range(count):
        first, last = weights.reach(packed, g, 16, 32, weights.COLUMNS, weights.ROWS)
        # One at a time or several give the same.
        number = weights.reaching(packed, ids, g, g + 1, 16, 32, weights.COLUMNS, weights.ROWS, firsts, lasts, found)
        assert number == int(first < last)
        assert not number or (firsts[0], lasts[0]) == (first, last)
        block[weights.TRANS : weights.TRANS + weights.SIZE] = 1
        weights.blend(block, 0, weights.SIZE, packed, g, 16, 32)
        rows = np.flatnonzero(block[weights.WEIGHT : weights.WEIGHT + weights.SIZE].reshape(-1, weights.COLUMNS).any(1))
        drawn += len(rows)
        assert all(first <= row < last for row in rows)
    assert drawn > 50


@pytest.fixture
def said(tmp_path: Path) -> Callable[..., str]:
    """Runs Python beside a package `kernels` of its own, whose `a.step` adds 1 and whose `b.twice` does that twice."""
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jit.py").write_text(Path(jit.__file__).read_text())
    (package / "a.py").write_text("from kernels.jit import kernel\n\n@kernel\ndef step(x):\n    return x + 1\n")
    (package / "b.py").write_text(
        "from kernels.a import step\nfrom kernels.jit import kernel\n\n@kernel\ndef twice(x):\n"
        "    return step(step(x))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(code: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        return done.stdout.strip()

    return run


EDIT = "import pathlib; p = pathlib.Path('kernels/a.py'); p.write_text(p.read_text().replace('+ 1', '+ 10'))"


def test_what_was_loaded_before_an_edit_is_not_kept_as_what_came_after(said: Callable[..., str]) -> None:
    """A checkout is updated while a command runs: its kernels mix both, and would stay for the new ones."""
    ask = "from kernels.b import twice; print(twice(0))"
    assert said(f"import kernels.a; {EDIT}; {ask}") == "2"
    assert said(ask) == "20"


def test_a_kill_between_the_files_of_a_cache_leaves_no_former_kernel_for_the_new_one(said: Callable[..., str]) -> None:
    ask = "from kernels.a import step; print(step(0))"
    kill = "import os; from numba.core.caching import IndexDataCacheFile as I; I._save_data = lambda *_: os._exit(9)"
    assert said(ask) == "1"
    said(EDIT)
    said(f"{kill}; {ask}", status=9)
    assert said(ask) == "10"
    # What is mended is kept.
    assert said(f"import numba.core.caching as c; c.IndexDataCacheFile._save_data = None; {ask}") == "10"


LONGER = "import pathlib; p = pathlib.Path('kernels/a.py'); p.write_text('# Two lines\\n# more.\\n' + p.read_text())"


@pytest.mark.parametrize("moved", [False, True])
def test_kernels_of_former_sources_do_not_stay(said: Callable[..., str], tmp_path: Path, moved: bool) -> None:
    """Nor do their indices, which are called after the lines that kernels begin at."""
    source = tmp_path / "kernels" / "a.py"
    source.write_text(source.read_text() + "\n@kernel\ndef step_back(x):\n    return x - 1\n")
    ask = "from kernels.b import twice; from kernels.a import *; print(step_back(0), twice(0), step(1.0))"
    assert said(ask) == "-1 2 2.0"
    before = kept(tmp_path)
    assert len({name.split("-")[0] for name in before}) == 3
    said(EDIT)
    if moved:
        said(LONGER)
    assert said(ask) == "-1 20 11.0"
    after = kept(tmp_path)
    assert len(after) == len(before)
    assert not [name for name in after & before if name.endswith(".nbc")]
    unmoved = 1 if moved else 3
    assert len([name for name in after & before if name.endswith(".nbi")]) == unmoved
    # What is kept is what the next process takes.
    assert said(f"import numba.core.caching as c; c.IndexDataCacheFile._save_data = None; {ask}") == "-1 20 11.0"


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache").rglob("*.nb?")}
