"""unified-lift and gradiseg measured: speed against Splatfacto alone, and more and more objects.

    python benchmarks/joint.py speed --scene SCENE
    python benchmarks/joint.py scaling

Quality and the papers' ablations are `gseg bench quality` and `gseg bench ablation`.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union

import torch
import tyro

from gseg_ns.benchmarking.closed_form import ClosedForm
from gseg_ns.benchmarking.scoring import score_labels
from gseg_ns.data.ground_truth import ground_truth as read_truth
from gseg_ns.models.base import SegmentationModel
from gseg_ns.splats.ply import write_ply

NEVER = 10**9

SPLATFACTO = ("unified-lift", {"feature_start": 0.9999})
"""Splatfacto alone: the same trainer, datamanager and model, with no step that has losses on masks."""


@dataclass
class Run:
    """A finished training run."""

    model: SegmentationModel
    datamanager: Any
    trace: list[tuple[float, float]]
    """Of each step: wall seconds, and processor seconds of all threads."""

    def seconds(self, since: float = 0.0) -> tuple[float, float]:
        """Mean seconds and processor seconds of a step, from that part of the run on."""
        rows = self.trace[int(since * len(self.trace)) :]
        wall, cpu = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        return wall, cpu


def train(method: str, scene: Path, masks: str, steps: int, seed: int, options: dict[str, Any]) -> Run:
    """Train as `ns-train` does, without viewer, evaluation or logs.

    Args:
        method: a method of `ns-train`.
        scene: folder with transforms.json.
        masks: mask folder within it.
        steps: length of the run.
        seed: of the whole run.
        options: fields of the model's config.
    """
    name = method.replace("-", "_")
    config = copy.deepcopy(getattr(import_module(f"gseg_ns.method_configs.{name}"), name).config)
    config.data = scene
    config.max_num_iterations = steps
    config.machine.seed = seed
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    for kind in ("save", "eval_batch", "eval_image", "eval_all_images"):
        setattr(config, f"steps_per_{kind}", NEVER)
    config.pipeline.datamanager.data = scene
    config.pipeline.datamanager.masks_dir = Path(masks)
    for field, value in options.items():
        setattr(config.pipeline.model, field, value)

    from nerfstudio.scripts.train import _set_random_seed
    from nerfstudio.utils import writer

    trace: list[tuple[float, float]] = []

    def timed(step: Callable[[int], Any], number: int) -> Any:
        started = time.perf_counter(), time.process_time()
        result = step(number)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        trace.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        return result

    _set_random_seed(seed)
    # A checkpoint is some hundred megabytes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        config.output_dir = Path(folder)
        config.set_timestamp()
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        trainer.train_iteration = partial(timed, trainer.train_iteration)
        trainer.train()
        writer.EVENT_WRITERS.clear()  # Nerfstudio keeps them: the next run would write to this one's folder as well
    return Run(trainer.pipeline.model.eval(), trainer.pipeline.datamanager, trace)


@torch.no_grad()
def score(run: Run, ground_truth: Path) -> dict[str, float]:
    """Scores of the test views (see `score_labels`) against a folder of label maps."""
    cameras = run.datamanager.eval_dataset.cameras
    truth = read_truth(run.datamanager, ground_truth, "test")
    predicted = [run.model.label_image(cameras[view : view + 1]).cpu() for view in truth]
    scores = score_labels(predicted, list(truth.values()))
    return {"IoU": scores["iou"], "precision": scores["precision"], "recall": scores["recall"]}


def ceiling(run: Run, room: Path, ply: Path) -> float:
    """IoU that ground truth gives on the run's Gaussians, which are written to `ply`."""
    write_ply(ply, run.model.splats().to("cpu"))
    prepared = ClosedForm.prepare(room, "masks", "gt/instance", ply)
    labels = prepared.ceiling()
    return math.nan if labels is None else float(prepared.score(labels)["iou"])


def print_row(name: str, row: dict[str, float], header: bool) -> None:
    """One line of a table, as soon as it is measured."""
    if header:
        print(f"{'':<16}", *(f"{column:>12}" for column in row))
    print(f"{name:<16}", *(f"{value:12.2f}" for value in row.values()), flush=True)


@dataclass
class Speed:
    """Steps a second against Splatfacto alone on the same scene.

    The second half of a run, where every loss of either method is at work and images have their full size, is given
    beside the whole run. Ratios are Splatfacto's time over the method's: wall time ("ratio"), and processor time
    ("CPU"), which is to be compared where other processes are busy.
    """

    scene: Path
    """Scene folder"""
    masks: str = "masks"
    """Mask folder within the scene"""
    steps: int = 600
    """Length of each run"""
    seed: int = 0
    """Of each run"""

    def main(self) -> None:
        """Measure."""
        plain: Run | None = None
        for name, (method, options) in {
            "splatfacto": SPLATFACTO,
            "unified-lift": ("unified-lift", {"codebook_start": 0.25}),  # by default it starts at nine tenths
            "gradiseg": ("gradiseg", {}),
        }.items():
            run = train(method, self.scene, self.masks, self.steps, self.seed, options)
            row: dict[str, float] = {"Gaussians": float(run.model.num_points)}
            plain = plain or run
            for part, since in (("", 0.0), (" 2nd half", 0.5)):
                wall, cpu = run.seconds(since)
                plain_wall, plain_cpu = plain.seconds(since)
                row |= {f"ms{part}": 1000 * wall, f"ratio{part}": plain_wall / wall, f"CPU{part}": plain_cpu / cpu}
            print_row(name, row, header=name == "splatfacto")


@dataclass
class Scaling:
    """unified-lift on demo rooms of more and more objects, with one number of codes."""

    steps: int = 1000
    """Length of each run"""
    objects: Sequence[int] = (25, 100, 500)
    """Objects in the rooms"""
    num_codes: int = 1024
    """Codes"""
    views: int = 44
    """Photographs of each room; every 8th is held out"""
    width: int = 256
    """Of the photographs, pixels; height is three quarters of it"""
    max_gaussians: int = -1
    """As in `ns-train`"""
    seed: int = 0
    """Of rooms and runs"""

    def main(self) -> None:
        """Make the rooms, train, score."""
        from gseg_ns.demo import write_demo_scene

        with tempfile.TemporaryDirectory() as folder:
            for count in self.objects:
                room = Path(folder) / f"room{count}"
                size = {"num_views": self.views, "width": self.width, "height": self.width * 3 // 4}
                scene = write_demo_scene(room, num_objects=count, seed=self.seed, **size)
                options = {"num_codes": self.num_codes, "max_gaussians": self.max_gaussians}
                run = train("unified-lift", room, "masks", self.steps, self.seed, options)
                wall, cpu = run.seconds(0.5)
                row = score(run, scene.ground_truth / "instance") | {
                    "ceiling": ceiling(run, room, Path(folder) / f"{count}.ply"),
                    "ms 2nd half": 1000 * wall,
                    "CPU ms": 1000 * cpu,
                    "Gaussians": float(run.model.num_points),
                }
                print_row(f"{count} objects", row, header=count == self.objects[0])


if __name__ == "__main__":
    Command = Union[  # noqa: UP007  tyro reads the annotations
        Annotated[Speed, tyro.conf.subcommand("speed")],
        Annotated[Scaling, tyro.conf.subcommand("scaling")],
    ]
    tyro.cli(Command).main()  # type: ignore[arg-type]
