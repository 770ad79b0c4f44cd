from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark_script import benchmark


@pytest.fixture(scope="module")
def gpu_memory() -> Iterator[Any]:
    """`benchmarks/gpu_memory.py`."""
    with benchmark("gpu_memory") as module:
        yield module


def test_the_ledger_knows_the_peak_of_each_phase(gpu_memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.UntypedStorage, "phantom", None, raising=False)  # is taken away again
    ledger = gpu_memory.PhantomLedger()
    ledger.watch()

    def on_card(count: int) -> torch.Tensor:
        made = torch.zeros(count)
        made.untyped_storage().phantom = True
        made.view(-1).untyped_storage().phantom = True  # one memory is counted once
        return made

    kept = on_card(100)
    ledger.phase("first")
    passing = on_card(1000)
    del passing
    ledger.phase("second")
    other = on_card(10)
    ledger.end()
    assert ledger.peaks == {"first": (4400, 400), "second": (440, 440)}
    assert ledger.now == 440
    assert len(kept) + len(other) == 110


def test_labels_of_the_shell_agree_between_views(gpu_memory: Any, tmp_path: Path) -> None:
    from gseg_ns.masks import read_label_map

    gpu_memory.write_shell(tmp_path / "shell", 300, 1200, 3, 40)
    meta = json.loads((tmp_path / "shell/transforms.json").read_text())
    assert abs(meta["w"] * meta["h"] - 1200) < 60
    labels = [read_label_map(tmp_path / f"shell/masks/{view:05d}.png") for view in range(3)]
    assert all(1 <= int(part.min()) and int(part.max()) <= 40 for part in labels)


def test_a_method_on_the_phantom_says_what_each_phase_holds(gpu_memory: Any) -> None:
    size = gpu_memory.Size(gaussians=1_500_000, pixels=1_500_000, views=8, objects=12)
    peaks = gpu_memory.Estimate(("gradiseg",), size, part=0.002, views=4)._run("gradiseg", 4)
    assert list(peaks) == ["geometry", "joint, with association", "joint, borders split", "label image and groups"]
    assert all(peak >= kept > 0 for peak, kept in peaks.values())
    # Parameters, gradients and two moments of 59 and 16 numbers, and images.
    assert 4 * 75 * 4 < peaks["joint, borders split"][0] / 3000 < 16 * 75 * 4
