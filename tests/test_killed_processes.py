"""`ns-train` and `gseg bench` as a user starts them, killed at seeded moments, and started again.

With `--kills 10`, for a quarter of an hour: starting ns-train takes longer than all else here. What a run may take is
measured by an undisturbed one before.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gseg_ns.models.checkpoints import checkpoints, read_checkpoint

if sys.platform != "linux":
    pytest.skip("looks for processes in /proc", allow_module_level=True)

from forked import same

FEW = 1
STEPS = 60
SMALL = (
    "--pipeline.model.max-gaussians 2000 --pipeline.model.num-downscales 0 --pipeline.model.refine-every 5 "
    "--pipeline.model.warmup-length 4"
)
TRAIN = (
    f"--max-num-iterations {STEPS} --steps-per-save 2 {SMALL} --vis tensorboard "
    "--viewer.quit-on-train-completion True --experiment-name e --timestamp run --steps-per-eval-batch 1000000000 "
    "--steps-per-eval-image 1000000000 --steps-per-eval-all-images 1000000000"
)
LONGEST = 3600.0
"""Seconds that the first, undisturbed run of a command may take, on a machine with much else to do."""


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

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.perf_counter() - self.began

    def kill(self, when: Callable[[Started], bool]) -> bool:
        """SIGKILL as soon as something is so. Returns False where it had ended by then."""
        while self.process.poll() is None:
            if when(self):
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait()
                return True
            time.sleep(0.001)
        assert self.process.returncode == 0, self.log.read_text()[-3000:]
        return False

    def finish(self, limit: float = LONGEST) -> float:
        """Wait until it ends well. Returns how many seconds it took."""
        assert self.process.wait(limit) == 0, self.log.read_text()[-3000:]
        return self.seconds


def later(seconds: float) -> Callable[[Started], bool]:
    """After a time."""
    return lambda started: started.seconds > seconds


def train(method: str, scene: Path, output: Path) -> Started:
    """Start a training, or go on with what is there."""
    folder = output / f"e/{method}/run/nerfstudio_models"
    load = ("--load-dir", folder) if checkpoints(folder) else ()
    output.mkdir(exist_ok=True)
    return Started(output / "log", "ns-train", method, *TRAIN.split(), "--data", scene, "--output-dir", output, *load)


def step_in(folder: Path) -> int:
    """Of the newest checkpoint by its name; -1 where there is none."""
    return max((int(path.stem[5:]) for path in checkpoints(folder)), default=-1)


def saved(folder: Path, step: int, pause: float) -> Callable[[Started], bool]:
    """Some time after the checkpoint of a step, or a later one, is there."""
    since: list[float] = []

    def is_so(started: Started) -> bool:
        if not since and step_in(folder) >= step:
            since.append(started.seconds)
        return bool(since) and started.seconds >= since[0] + pause

    return is_so


def saving(folder: Path, step: int) -> Callable[[Started], bool]:
    """While one after it is written."""
    return lambda _: step_in(folder) >= step and any(folder.parent.glob(".checkpoint.*"))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("method", ["gaga", "saga"])
def test_a_killed_ns_train_goes_on_bit_for_bit(
    method: str,
    ball_room: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    kills = request.config.getoption("--kills")
    run = tmp_path / f"killed/e/{method}/run"
    folder = run / "nerfstudio_models"
    if kills <= FEW:
        pytest.skip("killed with --kills 10")
    whole = train(method, ball_room, tmp_path / "undisturbed").finish()
    (last,) = checkpoints(tmp_path / f"undisturbed/e/{method}/run/nerfstudio_models")
    expected = read_checkpoint(last)
    chance, reached, met = random.Random(kills), -1, Counter[str]()
    for number in range(kills):
        # Every tenth of the steps is met; one kill in three is before the first of them, one while a step is saved.
        step = min(STEPS - 3, round(STEPS * (number + chance.random()) / kills))
        moment = ("starting", "saving", "training")[number % 3]
        seconds, pause = chance.uniform(0.05, 0.6) * whole, chance.uniform(0.0, 0.1)
        started = train(method, ball_room, tmp_path / "killed")
        moments = {
            "starting": later(seconds),
            "saving": saving(folder, step),
            "training": saved(folder, step, pause),
        }
        killed = started.kill(moments[moment])
        met[moment if killed else "ended"] += 1
        met["half saved"] += any(run.glob(".checkpoint.*"))
        for path in checkpoints(folder):
            read_checkpoint(path)
        assert step_in(folder) >= reached, f"kill {number}: step {step_in(folder)} after {reached}"
        reached = step_in(folder)
        if reached == STEPS - 1:
            assert same(read_checkpoint(checkpoints(folder)[0]), expected), f"kill {number}"
            for path in checkpoints(folder):
                path.unlink()
            reached = -1
    train(method, ball_room, tmp_path / "killed").finish(10 * whole + 60)
    (path,) = checkpoints(folder)
    assert same(read_checkpoint(path), expected)
    assert not list(folder.parent.rglob(".*"))
    record_property("met", dict(met))
    assert met["half saved"], met


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


def trains(output: Path) -> Callable[[Started], bool]:
    """While a benchmark trains."""
    return lambda _: any("ns-train" in words for words in processes_about(str(output / "runs")))


def cells(output: Path) -> Counter[str]:
    """How many cells a benchmark has kept of each kind; their full names have a digest of where its runs are."""
    return Counter(path.name.rpartition("-")[0] for path in (output / "cells").glob("[!.]*.json"))


def keeps(output: Path, former: int) -> Callable[[Started], bool]:
    """As soon as it has one more cell."""
    return lambda _: len(list((output / "cells").glob("[!.]*.json"))) > former


@pytest.mark.timeout(0)
def test_a_killed_bench_leaves_no_training_and_keeps_its_cells(
    ball_room: Path, tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    kills = request.config.getoption("--kills")
    if kills <= FEW:
        pytest.skip("killed with --kills 10")

    def bench(output: Path) -> Started:
        output.mkdir(exist_ok=True)
        arguments = (
            f"bench quality --methods gaga --seeds 0 1 --iterations 10 --ground-truth gt/object --output {output}"
        )
        options = f"--train-options={SMALL}"
        return Started(output / "log", "gseg", *arguments.split(), options, "--scenes", ball_room)

    whole = bench(tmp_path / "undisturbed").finish()
    names = cells(tmp_path / "undisturbed")
    chance, kept, met = random.Random(kills), dict[str, bytes](), Counter[str]()
    output = tmp_path / "killed"
    number = 0
    while number < kills:
        started = bench(output)
        # Cells that are kept are not computed again: each kill is to meet what is left.
        seconds = whole * chance.uniform(0.1, 0.5)
        moment = ("anywhere", "training", "cell")[number % 3]
        moments = {"anywhere": later(seconds), "training": trains(output), "cell": keeps(output, len(kept))}
        killed = started.kill(moments[moment])
        number += killed
        met[moment if killed else "ended"] += 1
        deadline = time.monotonic() + 30
        while processes_about(str(output)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not processes_about(str(output)), f"kill {number}"
        now = {path.name: path.read_bytes() for path in (output / "cells").glob("[!.]*.json")}
        assert cells(output) <= names
        assert kept.items() <= now.items(), f"kill {number}"
        kept = now
        for path in output.glob("quality.json"):
            json.loads(path.read_bytes())
        for path in output.glob("quality.png"):
            Image.open(path).verify()
        if cells(output) == names:
            for path in (output / "cells").iterdir():
                path.unlink()
            kept = {}
    record_property("met", dict(met))
    assert met["training"], "no kill met a training"
    bench(output).finish(10 * whole + 60)
    assert cells(output) == names
    assert {path.suffix for path in (output / "cells").iterdir()} == {".json"}
    assert "cannot be used" not in (output / "log").read_text()
    assert kept.items() <= {path.name: path.read_bytes() for path in (output / "cells").iterdir()}.items()
