"""What a step of training costs on the CPU, part by part, of a real run with Nerfstudio's own loop around it.

    python benchmarks/step.py --load-config outputs/.../config.yml

The run's Gaussians go on training their geometry in a run of twice its length, which is thrown away: a step of the
second half of the geometry phase, in full resolution and with all harmonics, and one of the first half, which gathers
what the densification asks for. Wall time and processor time of all threads, medians over steps; parts are timed where
they are called, by the trainer's thread.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from gpu_memory import one_step  # type: ignore[import-not-found]

from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.trainer import SegmentationTrainer
from gseg_ns.rendering import cpu, projection, threads
from gseg_ns.rendering import ssim as similarity
from gseg_ns.runs.run import read_config

Times = dict[str, tuple[float, float]]
"""Name -> seconds of wall time and of the processor."""


class Parts:
    """Seconds of the parts of a step."""

    def __init__(self) -> None:
        self.now: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.steps: list[Times] = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time noted; parts do not lie within each other."""

        def run(*args: Any, **options: Any) -> Any:
            wall, processor = time.perf_counter(), time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.now[name][0] += time.perf_counter() - wall
                self.now[name][1] += time.process_time() - processor

        return run

    def watch(self, holder: Any, name: str, part: str) -> None:
        """Time a function by the name under which it is called."""
        function = getattr(holder, name)
        watched = self.timed(part, function)
        setattr(holder, name, staticmethod(watched) if isinstance(holder, type) else watched)

    def end_step(self, wall: float, processor: float) -> None:
        """Note a step."""
        found = {name: (both[0], both[1]) for name, both in self.now.items()}
        rest = (wall - sum(t[0] for t in found.values()), processor - sum(t[1] for t in found.values()))
        self.steps.append({**found, "torch, Nerfstudio, Python": rest, "step": (wall, processor)})
        self.now.clear()

    def medians(self) -> Times:
        """Milliseconds."""
        names = {name: None for step in self.steps for name in step}
        return {
            name: (
                1e3 * median(step.get(name, (0.0, 0.0))[0] for step in self.steps),
                1e3 * median(step.get(name, (0.0, 0.0))[1] for step in self.steps),
            )
            for name in names
        }


def trainer_of(load_config: Path, folder: Path) -> SegmentationTrainer:
    """A trainer that goes on with a run as one of twice its length."""
    config = read_config(load_config)
    config.load_dir = load_config.parent / "nerfstudio_models"
    config.output_dir, config.timestamp, config.vis = folder, "run", "tensorboard"
    config.max_num_iterations *= 2
    config.logging.local_writer.enable = False
    for what in ("eval_batch", "eval_image", "eval_all_images", "save"):
        setattr(config, f"steps_per_{what}", 10**9)
    trainer = config.setup(local_rank=0, world_size=1)
    assert isinstance(trainer, SegmentationTrainer)
    config.save_config()
    trainer.setup()
    return trainer


@dataclass
class Step:
    """Print what a step costs."""

    load_config: Path
    """config.yml of a trained run of gaga"""
    steps: int = 60
    """Of each kind"""
    profile: bool = False
    """Also print where Python's and torch's time goes"""

    def main(self) -> None:
        """Measure."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(self.load_config, Path(folder))
            model = trainer.pipeline.model
            assert isinstance(model, SegmentationModel)
            parts = Parts()
            parts.watch(cpu._Composite, "forward", "compositing, forward")
            parts.watch(cpu._Composite, "backward", "compositing, backward")
            for name in ("forward", "backward"):
                parts.watch(similarity._Likeness, name, "losses of the picture")
                parts.watch(projection._Pinhole, name, "projection")
                parts.watch(projection._Harmonics, name, "harmonics")
            import gseg_ns.rendering.api as api

            parts.watch(api, "tile_lists", "tiles")
            parts.watch(trainer.optimizers, "optimizer_scaler_step_some", "Adam")
            stop = model.config.stop_split_at
            # Away from the steps that make and remove Gaussians.
            late, early = (
                (trainer._start_step, "after densification"),
                (stop - model.config.refine_every, "while it lasts"),
            )
            for first, when in (late, early):
                self._time(trainer, parts, first + 1, when)
            if self.profile:
                self._profile(trainer, late[0] + 1)

    def _time(self, trainer: SegmentationTrainer, parts: Parts, first: int, when: str) -> None:
        model = trainer.pipeline.model
        every = model.config.refine_every
        numbers = [n for n in range(first, first + 2 * self.steps) if n % every]
        for number in numbers[:5]:
            one_step(trainer, number)
        parts.now.clear()
        parts.steps.clear()
        for number in numbers[5 : 5 + self.steps]:
            wall, processor = time.perf_counter(), time.process_time()
            one_step(trainer, number)
            parts.end_step(time.perf_counter() - wall, time.process_time() - processor)
        found = parts.medians()
        height, width = model.last_size
        print(f"a step {when}: {model.num_points} Gaussians, {width} x {height}, ms")
        print(f"{'':32}{'wall':>8}{'processor':>12}")
        for name, (wall, processor) in sorted(found.items(), key=lambda item: item[1]):
            print(f"{name:32}{wall:8.1f}{processor:12.1f}")
        both = [sum(found[f"compositing, {way}"][clock] for way in ("forward", "backward")) for clock in (0, 1)]
        wall, processor = found["step"]
        print(f"{'step / compositing':32}{wall / both[0]:8.2f}{processor / both[1]:12.2f}", flush=True)

    def _profile(self, trainer: SegmentationTrainer, first: int) -> None:
        import cProfile
        import pstats

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            for number in range(first, first + 20):
                one_step(trainer, number)
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=45, max_name_column_width=60))
        with cProfile.Profile() as profiler:
            for number in range(first, first + 20):
                one_step(trainer, number)
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(50)


if __name__ == "__main__":
    threads.configure()
    tyro.cli(Step).main()
