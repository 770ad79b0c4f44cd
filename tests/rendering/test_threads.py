"""Work sharing: coverage, errors, concurrent callers, forks, and no state changed by an import."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gseg_ns.rendering import project, rasterization, threads
from thread_counts import kernel_threads


@pytest.fixture
def three_threads():
    with kernel_threads(3):
        yield


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
@pytest.mark.parametrize("grain", [1, 64])
def test_every_item_is_visited_once(three_threads, count, grain):
    visits = np.zeros(count, int)

    def kernel(start, stop, out):
        out[start:stop] += 1

    threads.share(kernel, count, visits, grain=grain)
    assert (visits == 1).all()


def test_an_error_in_a_worker_reaches_the_caller(three_threads):
    def kernel(start, stop):
        if start > 0:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        threads.share(kernel, 100)


def test_work_really_is_shared(three_threads):
    met = threading.Barrier(3, timeout=20)
    threads.share(lambda start, stop: met.wait() if start < 75 else None, 100)


def test_concurrent_callers_get_their_own_results(make_scene, three_threads):
    scenes = [make_scene(count=150, seed=s) for s in range(6)]
    colors = torch.rand(150, 3)

    def render(scene):
        return rasterization(*scene[:4], colors, *scene[4:], packed=False)[0]

    alone = [render(s) for s in scenes]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(render, scenes * 3))
    assert all(torch.equal(a, b) for a, b in zip(alone * 3, together, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_render(make_scene, three_threads):
    scene = make_scene()
    project(*scene)
    child = os.fork()
    if child == 0:
        try:
            project(*scene)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_configure_limits_torch_unless_its_workers_block(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        torch.set_num_threads(2)
        threads.configure()
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_WAIT_POLICY")
        threads.configure()
        assert torch.get_num_threads() == 1
        threads.configure(torch_threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads.num_threads() == threads.available_cores()


def test_import_changes_no_global_state():
    code = """
import os, sys, torch, numba
state = lambda: (
    torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), numba.config.THREADING_LAYER,
    dict(os.environ),
)
before = state()
import gseg_ns.rendering
sys.exit(before != state() or "nerfstudio" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
