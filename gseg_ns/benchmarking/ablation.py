"""The papers' ablation tables rerun, beside the published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gseg_ns.benchmarking.closed_form import Association
from gseg_ns.benchmarking.published import PAPER, TABLES, Row, Table, association_options
from gseg_ns.benchmarking.quality import ORDERS, TRUE_VOTES, Runner, SceneData
from gseg_ns.benchmarking.stand_in import embedding_options
from gseg_ns.benchmarking.training import TrainSettings, check_scale
from gseg_ns.benchmarking.verdicts import PairVerdict, order_verdicts
from gseg_ns.errors import GsegError
from gseg_ns.models.registry import feature_steps, takes_geometry


@dataclass
class Outcome:
    """A table, measured."""

    table: Table
    measured: dict[str, list[dict[str, Any]]]
    """Row -> the scores of its seeds; rows that were not or could not be run are missing."""
    verdicts: dict[str, list[PairVerdict]]
    """Metric -> the order of each pair of rows."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "title": self.table.title,
            "source": self.table.source,
            "metrics": list(self.table.metrics),
            "rows": [
                {"name": row.name, "published": row.published, "measured": self.measured.get(row.name, [])}
                for row in self.table.rows
            ],
            "verdicts": {metric: [asdict(pair) for pair in pairs] for metric, pairs in self.verdicts.items()},
        }


def judge(table: Table, measured: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, list[PairVerdict]]:
    """The order of each pair of rows, by each metric of a table."""
    verdicts = {}
    for column, metric in enumerate(table.metrics):
        scored = {name: [scores[metric] for scores in seeds if metric in scores] for name, seeds in measured.items()}
        values = {name: seeds for name, seeds in scored.items() if seeds}
        published = {row.name: row.published[column] for row in table.rows if row.published is not None}
        verdicts[metric] = order_verdicts(values, published, table.claims)
    return verdicts


def with_levels(table: Table, levels: Sequence[str]) -> Table:
    """A column of click scores for each level of ground truth, where there are several (see `click_scores`)."""
    if len(levels) < 2:
        return table
    columns = [
        (column, name)
        for column, metric in enumerate(table.metrics)
        for name in ([f"{metric}_{level}" for level in levels] if metric.startswith("click_") else [metric])
    ]
    rows = [
        row if row.published is None else replace(row, published=tuple(row.published[column] for column, _ in columns))
        for row in table.rows
    ]
    return replace(table, metrics=tuple(name for _, name in columns), rows=tuple(rows))


def run_ablation(
    runner: Runner,
    method: str,
    scene: SceneData,
    iterations: int,
    seeds: Sequence[int],
    geometry: Path | None = None,
    frame: str = "nerfstudio",
    options: Sequence[str] = (),
    geometry_options: Sequence[str] = (),
    only: Sequence[str] = (),
    encodings: bool = False,
) -> tuple[list[Outcome], list[Path]]:
    """Rerun a paper's ablation tables on a scene.

    Rows that are an association are voted in closed form on one geometry, unless `encodings`; others are trained.
    Two-phase methods share one geometry a seed, so that rows differ in nothing else.

    Args:
        runner: trains and scores.
        method: gaga, saga, saga-v1, unified-lift or gradiseg.
        scene: the scene.
        iterations: length of a whole run.
        seeds: of the trained rows, and of the geometry where it is trained.
        geometry: Gaussians to use (two-phase methods); None: trained first, by gaga.
        frame: coordinates of a PLY given as `geometry`.
        options: further options of `ns-train` for every row.
        geometry_options: of the run of gaga that makes the geometry.
        only: names of the rows to run; all where none is named.
        encodings: train them on what rows associate, by the paper's recipe.

    Returns:
        the tables, and the geometries that were used (none for methods that train their own).
    """
    check_scale([method], runner.scale)
    scene.check()
    names = [row.name for table in TABLES[method] for row in table.rows]
    if unknown := [name for name in only if name not in names]:
        raise GsegError(f"{method} has no row {unknown[0]!r}: it has {', '.join(dict.fromkeys(names))}")
    geometries: dict[int, Path] = {}
    if takes_geometry(method):
        if geometry is not None:
            # A given splat leaves nothing to chance but what is trained.
            seeds = (0,) if method == "gaga" and not encodings else seeds
            geometries = dict.fromkeys(seeds, geometry)
        else:
            for seed in seeds:
                settings = TrainSettings("gaga", scene.folder, scene.masks, iterations, seed, tuple(geometry_options))
                trained = runner.trained(scene, settings)
                if trained is not None:
                    geometries[seed] = Path(trained["config"])
        seeds = [seed for seed in seeds if seed in geometries]

    def measure(row: Row, seed: int) -> dict[str, Any] | None:
        row_options = row.options
        if row.association is not None:
            if not encodings:
                return runner.closed_form(scene, geometries[seed], row.association, frame=frame)
            row_options = (*PAPER, *association_options(row.association))
        assert row_options is not None
        shared = geometries.get(seed)
        length = iterations if shared is None else feature_steps(method, iterations)
        frame_options = () if shared is None else ("--pipeline.model.geometry-frame", frame)
        settings = TrainSettings(
            method, scene.folder, scene.masks, length, seed, (*options, *frame_options, *row_options)
        )
        return runner.trained(scene, settings, "" if shared is None else str(shared.resolve()))

    if method == "saga-v1" and not any("embeddings-dir" in entry for entry in options):
        options = (*options, *embedding_options(scene.folder, scene.masks, runner.output / "stand_in_embeddings"))
    outcomes = []
    levels = [Path(folder).name for folder in scene.clicks]
    for table in (with_levels(table, levels) for table in TABLES[method]):
        measured: dict[str, list[dict[str, Any]]] = {}
        for row in table.rows:
            without = row.association is None and row.options is None
            # Ids of one view each are no classes that encodings could be trained on.
            apart = encodings and row.association is not None and row.association.kind == "none"
            if without or apart or (only and row.name not in only):
                continue
            results = [measure(row, seed) for seed in seeds]
            found = [result for result in results if result is not None]
            if found:
                measured[row.name] = found
        outcomes.append(Outcome(table, measured, judge(table, measured)))
    return outcomes, list(geometries.values())


def run_orders(
    runner: Runner, scene: SceneData, geometry: Path, frame: str = "nerfstudio"
) -> dict[tuple[str, str], dict[str, Any]]:
    """Associate with the views in several orders.

    Returns:
        (association, order) -> scores; and ("true votes", ""), where the ground truth has training views.
    """
    wanted: dict[tuple[str, str], Association | None] = {(TRUE_VOTES, ""): None}
    for order in ORDERS:
        wanted["memory bank", order] = Association("memory-bank")
        wanted["consensus", order] = Association("consensus")
    results = {}
    for (name, order), association in wanted.items():
        found = runner.closed_form(scene, geometry, association, order or ORDERS[0], frame)
        if found is not None:
            results[name, order] = found
    return results
