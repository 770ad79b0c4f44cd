"""unified-lift and gradiseg measured: quality, ablations, speed, many objects.

    python benchmarks/joint.py quality --scene SCENE
    python benchmarks/joint.py ablation --scene SCENE --method unified-lift      # the paper's Table 4
    python benchmarks/joint.py ablation --scene SCENE --method gradiseg          # the paper's Table 4
    python benchmarks/joint.py speed --scene SCENE
    python benchmarks/joint.py scaling --steps 600

A scene has `transforms.json`, masks, and `gt/instance` label maps. Every row is a whole training run by Nerfstudio's
trainer; IoU (Gaga's Algorithm 1), boundary IoU (2 % of the diagonal) and PSNR are of the test views. The ceiling is the
IoU of the ground-truth labels of the training views voted onto the same Gaussians.
"""

from __future__ import annotations

import copy
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import torch
import tyro
from torch import Tensor

from gseg_ns.evaluation.boundary import mean_boundary_iou
from gseg_ns.evaluation.folders import id_files, read_ids
from gseg_ns.evaluation.matching import evaluate_instances
from gseg_ns.evaluation.overlap import resize_nearest
from gseg_ns.lifting.votes import accumulate_votes, labels_from_votes
from gseg_ns.masks import read_label_map
from gseg_ns.models.base import SegmentationModel

UNIFIED_LIFT_TABLE_4: dict[str, dict[str, Any]] = {
    "codebook baseline": {"concentration": False, "area_aware": False, "filter_noise": False},
    "+ concentration": {"area_aware": False, "filter_noise": False},
    "+ area-aware mapping": {"filter_noise": False},
    "+ noise filter (full)": {},
}
GRADISEG_TABLE_4: dict[str, dict[str, Any]] = {
    "w/o IGD and LA-KNN": {"igd": False, "la_knn": False},
    "w/o IGD": {"igd": False},
    "w/o LA-KNN": {"la_knn": False},
    "full": {},
}
BASELINES: dict[str, dict[str, dict[str, Any]]] = {
    "unified-lift": {"full": {}, "paper's weights": {"weights": "paper"}, "HDBSCAN": {"grouping": "hdbscan"}},
    "gradiseg": {"full": {}, "Gaussian Grouping": {"igd": False, "la_knn": False}},
}
DATAMANAGER_OPTIONS = ("masks_are_consistent", "masks_dir")


@dataclass
class Run:
    """A finished training run."""

    model: SegmentationModel
    datamanager: Any
    seconds_step: float
    """Mean over all steps, without setting up."""
    cpu_seconds_step: float
    """Mean processor time of all threads over all steps: what to compare where the machine does other work too."""


def method_config(method: str) -> Any:
    """The config that `ns-train` offers under this name."""
    from importlib import import_module

    name = method.replace("-", "_")
    return copy.deepcopy(getattr(import_module(f"gseg_ns.method_configs.{name}"), name).config)


def train(method: str, scene: Path, masks: str, steps: int, seed: int, options: dict[str, Any]) -> Run:
    """Train as `ns-train` does, without viewer, evaluation or logs.

    Args:
        method: unified-lift or gradiseg.
        scene: folder with transforms.json.
        masks: mask folder within it.
        steps: length of the run.
        seed: of the whole run.
        options: fields of the model's config, or of the datamanager's (`DATAMANAGER_OPTIONS`).
    """
    config = method_config(method)
    config.data = scene
    config.output_dir = Path(tempfile.mkdtemp())
    config.set_timestamp()
    config.max_num_iterations = steps
    config.machine.seed = seed
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    for name in ("save", "eval_batch", "eval_image", "eval_all_images"):
        setattr(config, f"steps_per_{name}", 10**9)
    config.pipeline.datamanager.data = scene
    config.pipeline.datamanager.masks_dir = Path(masks)
    for name, value in options.items():
        setattr(config.pipeline.datamanager if name in DATAMANAGER_OPTIONS else config.pipeline.model, name, value)

    from nerfstudio.scripts.train import _set_random_seed

    _set_random_seed(seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trace: list[tuple[float, float]] = []
    step = trainer.train_iteration

    def timed(number: int) -> Any:
        started = time.perf_counter(), time.process_time()
        result = step(number)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        trace.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        return result

    trainer.train_iteration = timed
    trainer.train()
    shutil.rmtree(config.output_dir, ignore_errors=True)  # a checkpoint is some hundred megabytes
    model = trainer.pipeline.model.eval()
    wall, cpu = (sum(column) / len(trace) for column in zip(*trace, strict=True))
    return Run(model, trainer.pipeline.datamanager, wall, cpu)


@torch.no_grad()
def score(run: Run, scene: Path, level: str = "instance") -> dict[str, float]:
    """Scores of the test views, and the ceiling."""
    model, datamanager = run.model, run.datamanager
    files = id_files(scene / "gt" / level)
    predicted, truth, squared = [], [], []
    dataset = datamanager.eval_dataset
    for index, path in enumerate(dataset.image_filenames):
        camera = dataset.cameras[index : index + 1]
        gt = read_ids(files[path.stem])
        predicted.append(resize_nearest(model.label_image(camera).cpu(), *gt.shape))
        truth.append(gt)
        rgb = model.get_outputs_for_camera(camera)["rgb"].cpu()
        squared.append((rgb - dataset.get_image_float32(index)[..., :3]).square().mean().item())
    scores = evaluate_instances(predicted, truth)
    return {
        "IoU": scores.iou,
        "mBIoU": mean_boundary_iou(predicted, truth, {gt: pred for gt, pred, _ in scores.pairs}),
        "precision": scores.precision,
        "recall": scores.recall,
        "predicted": scores.num_pred,
        "PSNR": sum(-10 * math.log10(value) for value in squared) / len(squared),
        "ceiling": ceiling(run, scene, level, truth),
        "Gaussians": model.num_points,
        "ms/step": 1000 * run.seconds_step,
        "CPU ms": 1000 * run.cpu_seconds_step,
    }


@torch.no_grad()
def ceiling(run: Run, scene: Path, level: str, truth: list[Tensor]) -> float:
    """IoU of the ground-truth labels voted onto the Gaussians from the training views."""
    model, datamanager = run.model, run.datamanager
    files = id_files(scene / "gt" / level)
    maps = [read_label_map(files[path.stem]) for path in datamanager.train_dataset.image_filenames]
    count = int(max(int(labels.max()) for labels in [*maps, *truth])) + 1
    views = ((model.project_view(view), labels.to(model.device)) for view, labels in enumerate(maps))
    labels = labels_from_votes(accumulate_votes(views, model.num_points, count, model.device))
    one_hot = torch.nn.functional.one_hot(labels, count).float()
    images = []
    for index in range(len(truth)):
        camera = datamanager.eval_dataset.cameras[index : index + 1]
        model.render(camera.to(model.device))
        image = model.composite(one_hot)
        images.append(torch.where(image.sum(-1) > 0, image[..., 1:].argmax(-1) + 1, 0).cpu())
    return evaluate_instances(images, truth).iou


def print_table(rows: dict[str, dict[str, float]]) -> None:
    """One line a row, one column a figure."""
    columns = list(next(iter(rows.values())))
    width = max(len(name) for name in rows)
    print(" " * width, *(f"{column:>9}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<{width}}", *(f"{row[column]:9.2f}" for column in columns), flush=True)


def mean_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over seeds, and how far apart the seeds' IoU lie."""
    result = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return result | {"IoU range": max(row["IoU"] for row in rows) - min(row["IoU"] for row in rows)}


@dataclass
class Settings:
    """What every command takes."""

    scene: Path = Path("scene")
    """Scene folder with gt/instance"""
    masks: str = "sam_mild/labels/object"
    """Mask folder within the scene"""
    steps: int = 3000
    """Length of each run"""
    seeds: tuple[int, ...] = (0,)
    """Seeds; rows are means over them"""
    method: Literal["unified-lift", "gradiseg"] = "unified-lift"
    """Which method (quality: both)"""

    def rows(self, method: str, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
        """Train and score every variant."""
        return {
            name: mean_rows(
                [
                    score(train(method, self.scene, self.masks, self.steps, seed, options), self.scene)
                    for seed in self.seeds
                ]
            )
            for name, options in variants.items()
        }


@dataclass
class Quality(Settings):
    """Both methods with their published baselines."""

    def main(self) -> None:
        """Measure."""
        for method, variants in BASELINES.items():
            print(method)
            print_table(self.rows(method, variants))


@dataclass
class Ablation(Settings):
    """The paper's ablation of one method (Table 4 in both papers)."""

    def main(self) -> None:
        """Measure."""
        table = UNIFIED_LIFT_TABLE_4 if self.method == "unified-lift" else GRADISEG_TABLE_4
        print_table(self.rows(self.method, table))


@dataclass
class Speed(Settings):
    """Steps a second against Splatfacto alone on the same scene: the same trainer with the masks' losses left out."""

    steps: int = 300

    def main(self) -> None:
        """Measure."""
        plain = {"feature_start": 2.0}
        rows = {}
        seconds: dict[str, float] = {}
        cpu: dict[str, float] = {}
        for name, method, options in (
            ("splatfacto", "unified-lift", plain),
            ("unified-lift", "unified-lift", {}),
            ("gradiseg", "gradiseg", {}),
        ):
            run = train(method, self.scene, self.masks, self.steps, self.seeds[0], options)
            seconds[name], cpu[name] = run.seconds_step, run.cpu_seconds_step
            rows[name] = {
                "ms/step": 1000 * run.seconds_step,
                "ratio": seconds["splatfacto"] / run.seconds_step,
                "CPU ms": 1000 * run.cpu_seconds_step,
                "CPU ratio": cpu["splatfacto"] / run.cpu_seconds_step,
                "Gaussians": float(run.model.num_points),
            }
        print_table(rows)


@dataclass
class Scaling(Settings):
    """unified-lift on demo rooms of more and more objects, with 1024 codes."""

    masks: str = "masks"
    steps: int = 3000
    objects: tuple[int, ...] = (25, 100, 500)
    """Objects in the rooms"""

    def main(self) -> None:
        """Make the rooms, train, score."""
        from gseg_ns.demo import write_demo_scene

        rows = {}
        for count in self.objects:
            folder = Path(tempfile.mkdtemp()) / f"room{count}"
            write_demo_scene(folder, num_objects=count)
            run = train("unified-lift", folder, self.masks, self.steps, self.seeds[0], {"num_codes": 1024})
            rows[f"{count} objects"] = score(run, folder)
        print_table(rows)


if __name__ == "__main__":
    Command = Union[  # noqa: UP007  tyro reads the annotations
        Annotated[Quality, tyro.conf.subcommand("quality")],
        Annotated[Ablation, tyro.conf.subcommand("ablation")],
        Annotated[Speed, tyro.conf.subcommand("speed")],
        Annotated[Scaling, tyro.conf.subcommand("scaling")],
    ]
    tyro.cli(Command).main()  # type: ignore[arg-type]
