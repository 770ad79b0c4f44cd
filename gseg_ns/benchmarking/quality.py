"""Every method on every scene with every seed, beside what masks and geometry allow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gseg_ns.benchmarking.cells import CellStore, digest_files
from gseg_ns.benchmarking.clicks import ClickProtocol, background_file, check_levels, click_scores
from gseg_ns.benchmarking.closed_form import Association, ClosedForm
from gseg_ns.benchmarking.scoring import score_labels
from gseg_ns.benchmarking.training import Trainer, TrainSettings, check_scale, method_and_recipe
from gseg_ns.errors import GsegError
from gseg_ns.models.registry import feature_steps, takes_geometry

CEILING = "ceiling"
"""Row of the ground truth of the training views, voted, with strengths fitted to it: what the Gaussians allow."""

TRUE_VOTES = "true votes"
"""Row of the same votes alone, every Gaussian equally loud."""

VOTE = {"vote (memory bank)": Association("memory-bank"), "vote (consensus)": Association("consensus")}
"""Rows without training, on the Gaussians of the first method named."""

AS_NAMED = "as named"
ORDERS = (AS_NAMED, "reversed", "shuffled 0", "shuffled 1")
"""Orders in which the views are visited."""


def view_order(name: str, count: int) -> list[int]:
    """The views in the order of that name (see `ORDERS`); a number after "shuffled" is a seed."""
    if name == AS_NAMED:
        return list(range(count))
    if name == "reversed":
        return list(reversed(range(count)))
    seed = int(name.split()[-1])
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


@dataclass(frozen=True)
class SceneData:
    """A scene, and which masks and ground truth of it."""

    folder: Path
    masks: str
    ground_truth: str
    clicks: tuple[str, ...] = ()
    """Folders of ground truth whose objects are clicked on; none: `ground_truth`."""

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.folder.resolve().name

    @property
    def clicked(self) -> list[Path]:
        """The folders whose objects are clicked on."""
        return [self.folder / name for name in self.clicks or (self.ground_truth,)]

    def check(self) -> None:
        """Tell what is missing before anything is trained.

        Raises:
            GsegError: cameras, masks or ground truth are missing, or folders to click on do not go together.
        """
        self.key  # noqa: B018  reads all files
        check_levels(self.clicked)

    @cached_property
    def key(self) -> dict[str, str]:
        """Where it is, and a digest of cameras, masks and ground truth.

        Raises:
            GsegError: one of them is missing.
        """
        for part in (self.masks, self.ground_truth):
            if not (self.folder / part).is_dir():
                raise GsegError(f"{self.folder / part} is not a folder: name masks and ground truth within each scene")
        transforms = self.folder / "transforms.json"
        parts = [self.folder / self.masks, self.folder / self.ground_truth]
        digest = digest_files(*([transforms] if transforms.is_file() else []), *parts)
        return {
            "scene": str(self.folder.resolve()),
            "masks": self.masks,
            "ground_truth": self.ground_truth,
            "digest": digest,
        }

    @cached_property
    def click_key(self) -> dict[str, Any]:
        """What is clicked on, with a digest of what `key` has not read."""
        truth = self.folder / self.ground_truth
        files = [folder for folder in self.clicked if folder != truth]
        files += [path for path in map(background_file, self.clicked) if path is not None]
        names = {"clicks": list(self.clicks or (self.ground_truth,))}
        return {**names, "clicks_digest": digest_files(*files)} if files else names


@dataclass
class Runner:
    """Trains and scores cells, or finds them finished."""

    store: CellStore
    output: Path
    """Folder of the runs."""
    train: Trainer
    """How runs are trained: `training.ns_train`"""
    scale: float | None = None
    """At which methods with scales are evaluated"""
    say: Callable[[str], None] = lambda _: None
    """Told what happens."""
    protocol: ClickProtocol = field(default_factory=ClickProtocol)
    """Of the clicks."""
    failures: list[str] = field(default_factory=list)
    """Messages of cells that failed."""
    _prepared: tuple[Any, ClosedForm] | None = None

    def trained(self, scene: SceneData, settings: TrainSettings, geometry_of: str = "") -> dict[str, Any] | None:
        """Train and score one run.

        Args:
            scene: the scene.
            settings: of the run.
            geometry_of: config.yml of the run whose geometry it takes; "" for its own.

        Returns:
            its scores, `seconds`, `peak_memory_gib` and `config` (its config.yml); None where it failed.
        """
        options = settings.options
        if geometry_of:
            options = (*options, "--pipeline.model.geometry", geometry_of)
        settings = TrainSettings(
            settings.method, scene.folder.resolve(), scene.masks, settings.iterations, settings.seed, options
        )
        key = {
            "kind": "run",
            "name": scene.name,
            "method": settings.method,
            "seed": settings.seed,
            "iterations": settings.iterations,
            "options": list(options),
            "scale": self.scale,
            "protocol": repr(self.protocol),
            "device": device_name(),
            **scene.key,
            **scene.click_key,
        }
        experiment = self.store.path(key).stem
        label = f"{scene.name}, {settings.method}, seed {settings.seed}"

        def compute() -> dict[str, Any]:
            self.say(f"{label}: training {settings.iterations} steps")
            run = self.train(settings, self.output, experiment)
            truth = scene.folder / scene.ground_truth
            scores = score_run(run.config_path, truth, self.scale, scene.clicked, self.protocol)
            return {
                **scores,
                "seconds": run.seconds,
                "peak_memory_gib": run.peak_memory_gib,
                "config": str(run.config_path),
                "geometry": geometry_of,
            }

        return self._guarded(label, lambda: self.store.run(key, compute))

    def closed_form(
        self,
        scene: SceneData,
        geometry: Path,
        association: Association | None,
        order: str = AS_NAMED,
        frame: str = "nerfstudio",
        strengths: bool = False,
    ) -> dict[str, Any] | None:
        """Score the votes of an association, or true ones (`association` None), on given Gaussians.

        Args:
            scene: the scene.
            geometry: a 3DGS PLY or a run.
            association: how masks find together; None: the ground truth of the training views.
            order: of the views, see `view_order`.
            frame: coordinates of a PLY.
            strengths: fit strengths to what voted; with the ground truth that is the ceiling.

        Returns:
            scores, `seconds` (association, vote and scoring) and `assignment` (a digest of the partition of the
            Gaussians, the same for the same groups whatever their numbers); None where it failed.
        """
        key = {
            "kind": "closed-form",
            "name": scene.name,
            "method": (CEILING if strengths else TRUE_VOTES) if association is None else association.kind,
            "geometry": str(geometry.resolve()),
            "geometry_digest": digest_geometry(geometry),
            "frame": frame,
            "association": None if association is None else repr(association),
            "order": order,
            **({"strengths": True} if strengths else {}),
            **scene.key,
        }

        def compute() -> dict[str, Any]:
            prepared = self.prepare(scene, geometry, frame)
            started = time.perf_counter()
            visits = view_order(order, len(prepared.views))
            found = None if association is None else prepared.associate(association, visits)
            labels = prepared.ceiling() if found is None else prepared.vote(found)
            if labels is None:
                raise GsegError(f"{scene.folder / scene.ground_truth} has no label map for any training view")
            scores = prepared.score(labels, prepared.strengths(labels, found).values if strengths else None)
            return {
                **scores,
                "seconds": time.perf_counter() - started,
                "groups": int(torch.unique(labels[labels > 0]).numel()),
                "assignment": partition_digest(labels),
            }

        return self._guarded(f"{scene.name}, {key['method']}", lambda: self.store.run(key, compute))

    def prepare(self, scene: SceneData, geometry: Path, frame: str = "nerfstudio") -> ClosedForm:
        """Compute the contributions of a scene's masks to Gaussians, kept until another scene or splat is asked for."""
        wanted = scene.folder, scene.masks, scene.ground_truth, geometry, frame
        if self._prepared is None or self._prepared[0] != wanted:
            self.say(f"{scene.name}: contributions of all views")
            made = ClosedForm.prepare(scene.folder, scene.masks, scene.ground_truth, geometry, frame)  # type: ignore[arg-type]
            self._prepared = wanted, made
        return self._prepared[1]

    def _guarded(self, label: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """One cell that fails shall not end hours of others."""
        try:
            return compute()
        except GsegError as error:
            self.failures.append(f"{label}: {error}")
            self.say(f"{label}: failed")
            return None


Cells = dict[tuple[str, str], list[dict[str, Any]]]
"""(scene, row) -> the results of its seeds."""


def run_quality(
    runner: Runner,
    scenes: Sequence[SceneData],
    methods: Sequence[str],
    iterations: int,
    seeds: Sequence[int],
    options: Sequence[str] = (),
    share_geometry: bool = False,
) -> Cells:
    """Fill the table of `gseg bench quality`.

    Args:
        runner: trains and scores.
        scenes: the scenes.
        methods: names in `ns-train`, also with a recipe, as gaga:paper.
        iterations: length of each run.
        seeds: of the runs.
        options: further options of every `ns-train`.
        share_geometry: the two-phase methods after the first take its geometry and run their feature phase only.

    Returns:
        rows in the order of the table: the ceiling, true votes, votes, methods; rows and seeds that failed are missing.
    """
    rows = {name: method_and_recipe(name) for name in methods}
    check_scale([method for method, _ in rows.values()], runner.scale)
    for scene in scenes:
        scene.check()
    cells: Cells = {}
    for scene in scenes:
        for row in (CEILING, TRUE_VOTES, *VOTE, *methods):
            cells[scene.name, row] = []
        for seed in seeds:
            donor = ""
            for position, (name, (method, recipe)) in enumerate(rows.items()):
                shared = donor if share_geometry and takes_geometry(method) else ""
                length = feature_steps(method, iterations) if shared else iterations
                settings = TrainSettings(method, scene.folder, scene.masks, length, seed, (*recipe, *options))
                result = runner.trained(scene, settings, shared)
                if result is None:
                    continue
                cells[scene.name, name].append(result)
                if not donor and takes_geometry(method):
                    donor = result["config"]
                if position == 0:
                    _baselines(runner, scene, result, cells)
    return cells


def _baselines(runner: Runner, scene: SceneData, result: dict[str, Any], cells: Cells) -> None:
    """Ceiling and votes on the Gaussians of a run, whose pictures are the same."""
    for name, association in {CEILING: None, TRUE_VOTES: None, **VOTE}.items():
        found = runner.closed_form(scene, Path(result["config"]), association, strengths=name == CEILING)
        if found is not None:
            cells[scene.name, name].append({**found, "psnr": result["psnr"]})


def score_run(
    config_path: Path,
    ground_truth: Path,
    scale: float | None = None,
    clicks: Sequence[Path] = (),
    protocol: ClickProtocol | None = None,
) -> dict[str, Any]:
    """Score the test views of a run.

    Args:
        config_path: of the run.
        ground_truth: folder of label maps named as the images.
        scale: of methods with scales, in [0, 1]; None: the method's default.
        clicks: folders of ground truth whose objects are clicked on.
        protocol: of the clicks.

    Returns:
        `score_labels`, `click_scores`, and `psnr` (dB), `num_gaussians`.

    Raises:
        GsegError: the run cannot be loaded, or no test view has ground truth.
    """
    from gseg_ns.evaluation.quality import psnr
    from gseg_ns.runs.run import load_run

    run = load_run(config_path)
    predicted, truth, ratios = [], [], []
    for view, labels in run.truth(ground_truth, "test", pixels="photograph"):
        predicted.append(run.labels_on_photograph(view, scale).cpu())
        truth.append(labels)
        rgb = run.model.get_outputs_for_camera(view.camera)["rgb"].cpu()
        ratios.append(psnr(rgb, view.image[..., :3].cpu()))
    ratio = math.fsum(ratios) / len(ratios)
    clicked = click_scores(run, clicks, protocol)
    return {**score_labels(predicted, truth), **clicked, "psnr": ratio, "num_gaussians": run.model.num_points}


def device_name() -> str:
    """What runs train on: the GPU's name or "cpu"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def digest_geometry(geometry: Path) -> str:
    """Digest of a PLY, or of the newest checkpoint of a run.

    Raises:
        GsegError: neither is there.
    """
    from gseg_ns.models.checkpoints import latest_checkpoint

    if not geometry.exists():
        raise GsegError(f"{geometry} does not exist: give a 3DGS PLY or a Nerfstudio run with --geometry")
    if geometry.suffix == ".ply":
        return digest_files(geometry)
    return digest_files(latest_checkpoint(geometry if geometry.is_dir() else geometry.parent))


def partition_digest(labels: torch.Tensor) -> str:
    """Digest of a partition [N]: groups are renumbered by their first member, so only who is together counts."""
    import hashlib

    _, inverse = torch.unique(labels, return_inverse=True)
    count = int(inverse.max()) + 1 if len(inverse) else 0
    first = torch.full((count,), len(labels)).scatter_reduce(0, inverse, torch.arange(len(labels)), "amin")
    rank = torch.empty(count, dtype=torch.long)
    rank[first.argsort()] = torch.arange(count)
    # Who is in no group is part of the answer.
    renumbered = torch.where(labels > 0, rank[inverse] + 1, 0)
    return hashlib.sha256(renumbered.numpy().tobytes()).hexdigest()[:16]
