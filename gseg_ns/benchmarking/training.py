"""Training runs as a user would start them: `ns-train` in a process of its own, timed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gseg_ns.children import dependent
from gseg_ns.errors import GsegError
from gseg_ns.folders import sole_use
from gseg_ns.models.base import SegmentationModelConfig
from gseg_ns.models.registry import model_class

NEVER = str(10**9)


@dataclass(frozen=True)
class TrainedRun:
    """A finished run."""

    config_path: Path
    seconds: float
    """Wall time of the process, starting up included."""
    peak_memory_gib: float
    """Largest resident memory of the process (of the host; a GPU's memory is not counted)."""


@dataclass(frozen=True)
class TrainSettings:
    """What decides a run."""

    method: str
    scene: Path
    masks: str
    """Mask folder within the scene"""
    iterations: int
    seed: int
    options: tuple[str, ...] = ()
    """Further options of `ns-train`, e.g. ("--pipeline.model.max-gaussians", "6000")"""

    def arguments(self, output: Path, experiment: str) -> list[str]:
        """The command line after `ns-train`."""
        return [
            self.method,
            *("--data", str(self.scene)),
            *("--pipeline.datamanager.masks-dir", self.masks),
            *("--max-num-iterations", str(self.iterations)),
            *("--machine.seed", str(self.seed)),
            *("--output-dir", str(output)),
            *("--experiment-name", experiment),
            *("--timestamp", "run"),
            *("--vis", "tensorboard"),
            *("--viewer.quit-on-train-completion", "True"),
            # Pictures and metrics in the middle of a run would be timed with it.
            *("--steps-per-eval-image", NEVER),
            *("--steps-per-eval-all-images", NEVER),
            *self.options,
        ]

    def config_path(self, output: Path, experiment: str) -> Path:
        """Where `ns-train` writes the run's config.yml."""
        return output / experiment / self.method / "run" / "config.yml"


def method_and_recipe(name: str) -> tuple[str, tuple[str, ...]]:
    """Split the name of a row, as gaga or gaga:paper: the method in `ns-train`, and the options of its recipe.

    Raises:
        GsegError: there is no such recipe, or no such method.
    """
    method, _, recipe = name.partition(":")
    known = typing.get_args(typing.get_type_hints(SegmentationModelConfig)["recipe"])
    if recipe and recipe not in known:
        raise GsegError(f"{name}: {recipe} is no recipe; give {method}:{f' or {method}:'.join(known)}")
    model_class(method)
    return method, ("--pipeline.model.recipe", recipe) if recipe else ()


def check_scale(methods: Sequence[str], scale: float | None) -> None:
    """Refuse a granularity that the scores of methods would not be of (None: not given).

    Raises:
        GsegError: it is outside [0, 1], or no method has scales.
    """
    if scale is None:
        return
    if not 0 <= scale <= 1:
        raise GsegError(f"--scale is {scale}: it lies between 0 (finest parts) and 1 (the whole)")
    if not any(model_class(method).has_scales for method in methods):
        raise GsegError(f"{', '.join(methods)}: no method with scales; leave out --scale")


Trainer = Callable[[TrainSettings, Path, str], TrainedRun]
"""(settings, output folder, experiment name) -> the finished run."""


def ns_train(settings: TrainSettings, output: Path, experiment: str) -> TrainedRun:
    """Run `ns-train` with its output in a log file beside the run. What an earlier, unfinished run left is removed.

    The training ends with this process, even where that is killed.

    Args:
        settings: of the run.
        output: folder of all runs.
        experiment: name of the run in it.

    Raises:
        GsegError: it fails, and the message names the log and gives its last lines; or another process trains into
            the folder of the run.
    """
    config_path = settings.config_path(output, experiment)
    with sole_use(config_path.parent, "trains into"):
        shutil.rmtree(config_path.parent, ignore_errors=True)
    log = output / f"{experiment}.log"
    beside = Path(sys.executable).parent / "ns-train"
    command = [str(beside) if beside.exists() else "ns-train", *settings.arguments(output, experiment)]
    started = time.perf_counter()
    try:
        with log.open("wb") as stream:
            status, peak = _run(command, stream.fileno())
    except OSError as error:
        raise GsegError(f"Cannot run {command[0]} with its messages in {log}: {error.strerror or error}.") from error
    seconds = time.perf_counter() - started
    if status != 0 or not config_path.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(line for line in lines[-12:] if line.strip())
        raise GsegError(f"ns-train {settings.method} on {settings.scene} failed (exit status {status}):\n{tail}\n{log}")
    return TrainedRun(config_path, seconds, peak)


def _run(command: Sequence[str], log: int) -> tuple[int, float]:
    """Run a command: its exit status and its largest resident memory in GiB (0 where the system does not tell)."""
    process = subprocess.Popen(dependent(list(command)), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        if not hasattr(os, "wait4"):
            return process.wait(), 0.0
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.kill()
        process.wait()
        raise
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return process.returncode, usage.ru_maxrss / unit
