"""`gseg bench`: quality tables and the papers' ablations, rerun on your own scenes."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import tyro

from gseg_ns.benchmarking.settings import PromptableSettings
from gseg_ns.errors import GsegError
from gseg_ns.lifting.thresholds import SAME_THING

if TYPE_CHECKING:
    from gseg_ns.benchmarking.clicks import ClickedObject
    from gseg_ns.benchmarking.quality import Runner
    from gseg_ns.runs.run import Run


@dataclass
class Quality:
    """Train methods on scenes and score their test views: one table, a JSON file and a figure.

    Rows `ceiling` (ground truth of the training views, voted onto the same Gaussians, with strengths), `true votes`
    (without strengths) and `vote` (the masks, associated and voted) need no training and use the Gaussians of the first
    method. Finished cells are kept in --output, and a second call reuses those of the same settings, files and package
    version.
    """

    scenes: list[Path]
    """Scene folders, each with images, masks and ground truth"""
    output: Path = Path("outputs/bench")
    """Folder for cells, runs, quality.json and quality.png"""
    methods: list[str] = field(default_factory=lambda: ["gaga", "saga", "unified-lift", "gradiseg"])
    """Methods of ns-train, also with a recipe, as gaga:paper; the first gives the Gaussians of the rows without
    training"""
    masks: str = "masks"
    """Mask folder within each scene"""
    ground_truth: str = "gt/instance"
    """Folder of label maps within each scene, with ids that agree over the views"""
    iterations: int = 3000
    """Length of each run in steps"""
    seeds: list[int] = field(default_factory=lambda: [0])
    """One run of each method and scene a seed"""
    share_geometry: bool = False
    """gaga, saga, saga-v1: the later ones take the geometry of the first of them and train features only"""
    clicks: list[str] = field(default_factory=list)
    """Label map folders of each scene whose objects are clicked on once (click IoU); --ground-truth unless given"""
    scale: float | None = None
    """Granularity in [0, 1] at which methods with scales are scored; their default unless given"""
    train_options: str = ""
    """Further options of every ns-train, in one string: --train-options="--pipeline.model.max-gaussians 20000" """
    redo: bool = False
    """Compute all cells again"""

    def main(self) -> None:
        """Fill the table."""
        from gseg_ns.benchmarking.quality import SceneData, device_name, run_quality
        from gseg_ns.benchmarking.tables import quality_figure, quality_json, quality_table
        from gseg_ns.cli.console import CONSOLE

        _check_numbers(self.iterations, self.seeds)
        scenes = [SceneData(folder, self.masks, self.ground_truth, tuple(self.clicks)) for folder in self.scenes]
        names = [scene.name for scene in scenes]
        if len(set(names)) < len(names):
            raise GsegError(f"Two of the scenes have one name ({', '.join(names)}): rename a folder")
        runner = _runner(self.output, self.redo, self.scale)
        options = shlex.split(self.train_options)
        methods = list(dict.fromkeys(self.methods))
        cells = run_quality(runner, scenes, methods, self.iterations, self.seeds, options, self.share_geometry)
        settings = {
            "scenes": names,
            "methods": methods,
            "masks": self.masks,
            "ground_truth": self.ground_truth,
            "iterations": self.iterations,
            "seeds": self.seeds,
            "clicks": self.clicks or [self.ground_truth],
            "share_geometry": self.share_geometry,
            "scale": self.scale,
            "train_options": options,
            "device": device_name(),
        }
        _write_json(self.output / "quality.json", quality_json(cells, settings))
        quality_figure(cells, self.output / "quality.png")
        CONSOLE.print(quality_table(cells), soft_wrap=False)
        CONSOLE.print(f"{self.output / 'quality.json'}, {self.output / 'quality.png'}", markup=False)
        _report_failures(runner)


@dataclass
class Ablation:
    """Rerun a paper's ablation tables on a scene, beside the published numbers, with a verdict on the order of rows.

    Rows are of the paper's recipe (--pipeline.model.recipe paper) but for those that say so. gaga's are associations:
    they are voted in closed form on one geometry, in seconds each, also with the views in other orders. Rows of the
    other papers are trained; those of saga and saga-v1 share one geometry, and are scored by single clicks on objects.
    Where SAM's embeddings for saga-v1 are missing, stand-ins are made that say less.
    """

    method: Annotated[str, tyro.conf.Positional]
    """Method whose tables are rerun: gaga, saga, saga-v1, unified-lift or gradiseg"""
    scene: Path
    """Scene folder, with images, masks and ground truth"""
    output: Path = Path("outputs/bench")
    """Folder for cells, runs and ablation_METHOD_SCENE.json"""
    masks: str = "masks"
    """Mask folder within the scene"""
    ground_truth: str = "gt/instance"
    """Folder of label maps within the scene, with ids that agree over the views"""
    geometry: Path | None = None
    """Trained Gaussians of this scene, for gaga, saga and saga-v1: a 3DGS PLY or a run; trained first unless given"""
    geometry_frame: Literal["nerfstudio", "original"] = "nerfstudio"
    """Coordinates of a PLY: Nerfstudio's normalised frame of the scene, or that of the capture's own poses"""
    iterations: int = 3000
    """Length of a whole run in steps"""
    seeds: list[int] = field(default_factory=lambda: [0])
    """One run of each trained row a seed"""
    rows: list[str] = field(default_factory=list)
    """Names of the rows to run; all unless given"""
    trained: bool = False
    """gaga: train encodings on what each row associates, as the paper does, instead of voting; so each row takes
    minutes"""
    clicks: list[str] = field(default_factory=list)
    """Label map folders of the scene whose objects are clicked on (saga, saga-v1), a column each; --ground-truth unless
    given"""
    scale: float | None = None
    """Granularity in [0, 1] at which saga is scored; its default unless given"""
    train_options: str = ""
    """Further options of ns-train for every row, in one string; gaga's rows are not trained"""
    geometry_options: str = ""
    """Further options of the run of gaga that makes the geometry of gaga, saga and saga-v1 where none is given"""
    redo: bool = False
    """Compute all cells again"""

    def main(self) -> None:
        """Fill the tables."""
        from gseg_ns.benchmarking.ablation import run_ablation, run_orders
        from gseg_ns.benchmarking.clicks import ClickProtocol
        from gseg_ns.benchmarking.quality import SceneData
        from gseg_ns.benchmarking.tables import ablation_table, orders_table, verdict_lines
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.models.registry import takes_geometry

        _check_numbers(self.iterations, self.seeds)
        if self.geometry is not None and not takes_geometry(self.method):
            raise GsegError(f"{self.method} trains its geometry with its features: leave --geometry out")
        if self.geometry_options and (self.geometry is not None or not takes_geometry(self.method)):
            raise GsegError("No geometry is trained beforehand: leave --geometry-options out")
        if self.trained and self.method != "gaga":
            raise GsegError(f"--trained is of gaga: all rows of {self.method} are trained")
        if self.train_options and self.method == "gaga" and not self.trained:
            raise GsegError("No row of gaga is trained without --trained: its geometry has --geometry-options")
        scene = SceneData(self.scene, self.masks, self.ground_truth, tuple(self.clicks))
        runner = _runner(self.output, self.redo, self.scale)
        runner.protocol = ClickProtocol(clean=self.method in ("saga", "saga-v1"))
        outcomes, geometries = run_ablation(
            runner,
            self.method,
            scene,
            self.iterations,
            self.seeds,
            self.geometry,
            self.geometry_frame,
            shlex.split(self.train_options),
            shlex.split(self.geometry_options),
            self.rows,
            self.trained,
        )
        result: dict[str, Any] = {
            "method": self.method,
            "scene": scene.name,
            "masks": self.masks,
            "tables": [outcome.as_json() for outcome in outcomes],
        }
        for outcome in outcomes:
            CONSOLE.print(ablation_table(outcome), soft_wrap=False)
            for line in verdict_lines(outcome):
                CONSOLE.print(line, markup=False)
        if self.method == "gaga" and geometries:
            orders = run_orders(runner, scene, geometries[0], self.geometry_frame)
            CONSOLE.print(orders_table(orders), soft_wrap=False)
            result["orders"] = [{"association": name, "order": order, **r} for (name, order), r in orders.items()]
        masks = self.masks.replace("/", "_")
        path = self.output / f"ablation_{self.method}_{scene.name}_{masks}.json"
        _write_json(path, result)
        CONSOLE.print(str(path), markup=False)
        _report_failures(runner)


@dataclass
class Clicks:
    """Click once on each object of a trained run and score what is selected, on the test views."""

    load_config: Path
    """config.yml of the run"""
    ground_truth: list[Path]
    """Folders of label maps of training and test views, one a level: parts, objects, groups"""
    scales: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Granularities in [0, 1] that a click may choose from, for methods that have them; with a tree, from all nodes
    around it"""
    threshold: float = SAME_THING
    """Least cosine, for methods that answer by features"""
    clicks: int = 3
    """Clicks on each object, each a prompt of its own"""
    seed: int = 0
    """Seed of the places of the clicks"""
    clean: bool = False
    """Score the selections after post-processing too"""
    objects: bool = False
    """A row for each object too"""
    beside: tuple[Path, ...] = ()
    """config.yml of further runs, which are clicked on in the same places"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Print the table."""
        from gseg_ns.benchmarking.clicks import ClickProtocol, check_levels, score_clicks
        from gseg_ns.benchmarking.tables import clicks_table
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.runs.run import load_run

        if self.clicks < 1:
            raise GsegError(f"--clicks is {self.clicks}: give at least 1")
        check_levels(self.ground_truth)
        protocol = ClickProtocol(self.scales, self.threshold, self.clicks, self.seed, self.clean)
        scores: dict[str, list[ClickedObject]] = {}
        for number, config in enumerate((self.load_config, *self.beside), start=1):
            run = load_run(config, allow_unfinished=self.allow_unfinished)
            self._tell_unused(run)
            mark = f" ({number}: {run.config.method_name})" if self.beside else ""
            scores |= {f"{folder.name}{mark}": score_clicks(run, folder, protocol) for folder in self.ground_truth}
        if not any(scores.values()):
            raise GsegError("No object of the ground truth is shown by both training and test views: names must match")
        CONSOLE.print(clicks_table(scores, self.objects), soft_wrap=False)

    def _tell_unused(self, run: Run) -> None:
        """Say which options that are given change nothing on a run."""
        from gseg_ns import terminal

        model, method = run.model, run.config.method_name
        if self.scales != Clicks.scales and model.tree() is not None:
            terminal.warn(f"--scales changes nothing: {method} has a tree here, whose nodes a click chooses from.")
        elif self.scales != Clicks.scales and not model.has_scales:
            terminal.warn(f"--scales changes nothing: {method} has no scales.")
        if self.threshold != Clicks.threshold and not model.prompts_by_feature:
            terminal.warn(f"--threshold changes nothing: {method} answers by groups here.")


@dataclass(frozen=True)
class Promptable(PromptableSettings):
    """Segment one object of a real capture from one click and from one mask, and score it on the test views.

    Features are trained on masks of few views, by default the ground truth of three; the other training views train
    colors only. The ceiling lifts the ground truth of all training views.
    """

    output: Path = Path("outputs/bench")
    """Folder for cells, runs, masks, promptable_SCENE.json and its picture"""
    redo: bool = False
    """Train and score again"""

    def main(self) -> None:
        """Print the table."""
        from gseg_ns.benchmarking.promptable import promptable_table, run_promptable
        from gseg_ns.cli.console import CONSOLE

        _check_numbers(self.iterations, [self.seed])
        result = run_promptable(_runner(self.output, self.redo, self.scale), self)
        path = self.output / f"promptable_{self.scene.resolve().name}.json"
        _write_json(path, result)
        CONSOLE.print(promptable_table(result), soft_wrap=False)
        CONSOLE.print(f"{path}, {result['picture']}", markup=False)


@dataclass
class Bench:
    """Tables of quality, the papers' ablations, and prompts on objects, that anyone can rerun."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Union[  # noqa: UP007  tyro reads the members' annotations
            Annotated[Quality, tyro.conf.subcommand("quality")],
            Annotated[Ablation, tyro.conf.subcommand("ablation")],
            Annotated[Clicks, tyro.conf.subcommand("clicks")],
            Annotated[Promptable, tyro.conf.subcommand("promptable")],
        ]
    ]

    def main(self) -> None:
        """Run the one that was asked for."""
        self.command.main()


def _check_numbers(iterations: int, seeds: list[int]) -> None:
    if iterations < 1:
        raise GsegError(f"--iterations is {iterations}: give at least 1")
    if not seeds or len(set(seeds)) < len(seeds):
        raise GsegError(f"--seeds {' '.join(map(str, seeds))}: give one or more, all different")


def _runner(output: Path, redo: bool, scale: float | None) -> Runner:
    from gseg_ns.benchmarking.cells import CellStore
    from gseg_ns.benchmarking.quality import Runner
    from gseg_ns.benchmarking.training import ns_train
    from gseg_ns.cli.console import CONSOLE

    def say(text: str) -> None:
        CONSOLE.print(text, markup=False)

    return Runner(CellStore(output / "cells", redo, say), output / "runs", ns_train, scale, say)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    from gseg_ns.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _report_failures(runner: Runner) -> None:
    if runner.failures:
        raise GsegError("Some cells failed; the others are kept.\n" + "\n".join(runner.failures))
