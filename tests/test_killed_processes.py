"""`ns-train` and `gseg bench` as a user starts them, killed at seeded moments, and started again.

With `--kills 10`, for some minutes: starting ns-train takes longer than all else here.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gseg_ns.models.checkpoints import checkpoints, read_checkpoint

if sys.platform != "linux":
    pytest.skip("looks for processes in /proc", allow_module_level=True)

from forked import same

FEW = 1
STEPS = 60
OPTIONS = (
    "--pipeline.model.max-gaussians 3000 --pipeline.model.num-downscales 0 --pipeline.model.refine-every 5 "
    "--pipeline.model.warmup-length 4"
)
TRAIN = (
    f"gaga --max-num-iterations {STEPS} --steps-per-save 2 {OPTIONS} --vis tensorboard "
    "--viewer.quit-on-train-completion True --experiment-name e --timestamp run --steps-per-eval-batch 1000000000 "
    "--steps-per-eval-image 1000000000 --steps-per-eval-all-images 1000000000"
)


class Started:
    """A command of this environment in a process of its own, whose messages go to a file."""

    def __init__(self, log: Path, command: str, *arguments: str | Path) -> None:
        self.log = log
        self.began = time.perf_counter()
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / command), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "dumb"},
            )

    def kill(self, after: float) -> None:
        """SIGKILL after so many seconds, if it has not ended by then."""
        try:
            self.process.wait(after)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def finish(self) -> float:
        """Wait until it ends well. Returns how many seconds it took."""
        assert self.process.wait(300) == 0, self.log.read_text()[-3000:]
        return time.perf_counter() - self.began


def train(scene: Path, output: Path) -> Started:
    """Start a training, or go on with what is there."""
    folder = output / "e/gaga/run/nerfstudio_models"
    load = ("--load-dir", folder) if checkpoints(folder) else ()
    output.mkdir(exist_ok=True)
    return Started(output / "log", "ns-train", *TRAIN.split(), "--data", scene, "--output-dir", output, *load)


def newest_step(folder: Path) -> int:
    """Of the checkpoints in a folder, each of which can be read; -1 where there is none."""
    for path in checkpoints(folder):
        read_checkpoint(path)
    return max((int(path.stem[5:]) for path in checkpoints(folder)), default=-1)


@pytest.mark.timeout(0)
def test_a_killed_ns_train_goes_on_bit_for_bit(
    small_scene: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = request.config.getoption("--kills")
    folder = tmp_path / "killed/e/gaga/run/nerfstudio_models"
    if kills <= FEW:
        pytest.skip("killed with --kills 10")
    whole = train(small_scene, tmp_path / "undisturbed").finish()
    (last,) = checkpoints(tmp_path / "undisturbed/e/gaga/run/nerfstudio_models")
    expected = read_checkpoint(last)
    chance, reached, finished = random.Random(kills), -1, 0
    for number in range(kills):
        train(small_scene, tmp_path / "killed").kill(after=chance.uniform(0.3, 1.0) * whole)
        now = newest_step(folder)
        assert now >= reached, f"kill {number}: step {now} after {reached}"
        reached = now
        if reached == STEPS - 1:
            assert same(read_checkpoint(checkpoints(folder)[0]), expected), f"kill {number}"
            for path in checkpoints(folder):
                path.unlink()
            reached, finished = -1, finished + 1
    train(small_scene, tmp_path / "killed").finish()
    (path,) = checkpoints(folder)
    assert same(read_checkpoint(path), expected)
    assert not list(folder.parent.rglob(".*"))


def processes_about(text: str) -> list[str]:
    """The command lines of processes that name something."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if text in words:
            found.append(words)
    return found


@pytest.mark.timeout(0)
def test_a_killed_bench_leaves_no_training_and_keeps_its_cells(
    small_scene: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = request.config.getoption("--kills")
    if kills <= FEW:
        pytest.skip("killed with --kills 10")

    def bench(output: Path) -> Started:
        output.mkdir(exist_ok=True)
        arguments = (
            f"bench quality --methods gaga --seeds 0 1 --iterations 30 --ground-truth gt/object --output {output}"
        )
        options = f"--train-options={OPTIONS}"
        return Started(output / "log", "gseg", *arguments.split(), options, "--scenes", small_scene)

    whole = bench(tmp_path / "undisturbed").finish()
    names = {path.name for path in (tmp_path / "undisturbed/cells").iterdir()}
    chance, kept, trainings = random.Random(kills), dict[str, bytes](), 0
    output = tmp_path / "killed"
    for number in range(kills):
        started = bench(output)
        after = whole * chance.uniform(0.15, 0.9)
        time.sleep(max(0.0, after - 0.05))
        trainings += any("ns-train" in words for words in processes_about(str(output / "runs")))
        started.kill(after=0.05)
        deadline = time.monotonic() + 5
        while processes_about(str(output)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not processes_about(str(output)), f"kill {number}"
        now = {path.name: path.read_bytes() for path in (output / "cells").glob("*.json")}
        assert now.keys() <= names
        assert kept.items() <= now.items(), f"kill {number}"
        kept = now
        if now.keys() == names:
            for path in (output / "cells").iterdir():
                path.unlink()
            kept = {}
    assert trainings, "no kill met a training"
    bench(output).finish()
    assert {path.name for path in (output / "cells").glob("*")} == names
    assert "cannot be used" not in (output / "log").read_text()
    assert kept.items() <= {path.name: path.read_bytes() for path in (output / "cells").iterdir()}.items()
