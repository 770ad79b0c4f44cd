"""The tests marked `cuda` on a GPU that is not there: a misplaced tensor, or a wait too many, fails them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import device_branches

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_everything_on_the_phantom(tmp_path: Path) -> None:
    files = [
        str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.cuda" in path.read_text("utf-8")
    ]
    files.remove(str(Path(__file__)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/support"), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PHANTOM_CUDA", None)
    outputs = {name: tmp_path / name for name in ("branches", "report")}
    options = [f"--phantom-{name}={path}" for name, path in outputs.items()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "phantom_cuda", "-m", "cuda", *options, *files],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
    seen = {place for place, gpu in json.loads(outputs["branches"].read_text("utf-8")) if gpu}
    asked = sorted(set(device_branches.questions(ROOT, ("gseg_ns", "method_configs", "dataparsers"))))
    covered = [place for place in asked if place in seen]
    sys.stdout.write(f"{len(covered)} of {len(asked)} questions for the device were answered by the phantom GPU\n")
    assert covered == asked, f"no test of the GPU's side: {sorted(set(asked) - seen)}"
