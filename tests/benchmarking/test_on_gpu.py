"""`benchmarks/on_gpu.py` measures on a GPU, or shows on the phantom that it would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark_script import benchmark

pytestmark = pytest.mark.cuda


def test_a_run_is_measured_at_its_own_size(
    constructed_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with benchmark("on_gpu") as module:
        monkeypatch.setattr(module, "timed", lambda action, repeats=1: (float(action() is None), 0.0))
        monkeypatch.setattr(module, "frames", lambda *asked: {})  # wide pictures: seconds each on the phantom
        module.Frame(constructed_run, counts=(0,)).main()
    said = capsys.readouterr().out
    assert "label image          the same in 100.000 % of the pixels" in said
    assert "click to selection" in said


def test_random_scenes_agree(capsys: pytest.CaptureFixture[str]) -> None:
    with benchmark("on_gpu") as module:
        module.Fuzz(count=3).main()
        assert capsys.readouterr().out.endswith("3 scenes, 0 faults\n")
        zeros = torch.zeros(100)
        off = zeros.clone()
        off[:3] = 1.0
        assert module.alike(zeros, zeros.clone())
        assert not module.alike(zeros, off)
        assert not module.alike(zeros, zeros[:50])
        assert not module.alike(zeros, zeros * torch.nan)
