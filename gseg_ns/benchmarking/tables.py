"""Benchmark results for people: tables and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gseg_ns.benchmarking.ablation import Outcome
from gseg_ns.benchmarking.clicks import LEVELS, ClickedObject
from gseg_ns.benchmarking.quality import CEILING, TRUE_VOTES, VOTE, Cells
from gseg_ns.benchmarking.verdicts import MARGIN, spread
from gseg_ns.files import atomic_path

if TYPE_CHECKING:
    from rich.table import Table as RichTable

COLUMNS = {
    "iou": ("IoU", 1),
    "precision": ("precision", 1),
    "recall": ("recall", 1),
    "pq": ("PQ", 1),
    "mbiou": ("mBIoU", 1),
    "click_iou": ("click IoU", 1),
    "psnr": ("PSNR", 2),
    "seconds": ("seconds", 0),
    "num_gaussians": ("Gaussians", 0),
    "peak_memory_gib": ("peak GiB", 2),
}
"""Score -> heading and decimals."""

PERCENTAGES = ("iou", "precision", "recall", "pq", "mbiou")

NAMES = {
    "pooled_iou": "IoU (pooled)",
    "f_score": "F-score",
    "click_near": "near",
    "click_clean_iou": "cleaned click IoU",
    "click_clean_near": "cleaned near",
    **{key: name for key, (name, _) in COLUMNS.items()},
}


def metric_name(metric: str) -> str:
    """What a metric is called in tables; those of one level of ground truth with the level's name."""
    whole = max((name for name in NAMES if f"{metric}_".startswith(f"{name}_")), key=len)
    return f"{metric[len(whole) + 1 :]} {NAMES[whole]}".strip()


def format_seeds(values: Sequence[float], decimals: int) -> str:
    """Mean, and the sample standard deviation over seeds where there are several; a dash for none."""
    if not values:
        return "-"
    mean = f"{fmean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {spread(values):.{decimals}f}"


def quality_table(cells: Cells) -> RichTable:
    """The table of `gseg bench quality`: a row a scene and method."""
    from rich.table import Table as RichTable

    table = RichTable(title="Test views, mean ± standard deviation over seeds; scores in percent, PSNR in dB")
    table.add_column("scene")
    table.add_column("row", no_wrap=True)
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    last = ""
    for (scene, row), results in cells.items():
        if last and scene != last:
            table.add_section()
        values = (
            format_seeds([result[key] for result in results if key in result], decimals)
            for key, (_, decimals) in COLUMNS.items()
        )
        style = "dim" if row in (CEILING, TRUE_VOTES, *VOTE) else None
        table.add_row(scene if scene != last else "", row if results else f"{row} (failed)", *values, style=style)
        last = scene
    return table


def quality_json(cells: Cells, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, and of every row the mean and spread of each score and the results of all seeds."""
    rows = []
    for (scene, row), results in cells.items():
        keys = [key for key in COLUMNS if any(key in result for result in results)]
        columns = {key: [result[key] for result in results if key in result] for key in keys}
        rows.append(
            {
                "scene": scene,
                "row": row,
                "mean": {key: fmean(values) for key, values in columns.items()},
                "spread": {key: spread(values) for key, values in columns.items()},
                "seeds": results,
            }
        )
    return {"settings": dict(settings), "rows": rows}


def quality_figure(cells: Cells, path: Path) -> None:
    """Write bars of the percentages, a panel a scene, with the ceiling as a line over each group of bars.

    Args:
        cells: the results.
        path: `.png` or `.pdf`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scenes = list(dict.fromkeys(scene for scene, _ in cells))
    rows = [row for row in dict.fromkeys(row for _, row in cells) if row != CEILING]
    figure = Figure(figsize=(9, 3.2 * len(scenes)), layout="constrained")
    FigureCanvasAgg(figure)
    width = 0.8 / max(len(rows), 1)
    for panel, scene in enumerate(scenes):
        axes = figure.add_subplot(len(scenes), 1, panel + 1)
        for number, row in enumerate(rows):
            results = cells[scene, row]
            if not results:
                continue
            values = [[result[key] for result in results] for key in PERCENTAGES]
            axes.bar(
                [place + (number - (len(rows) - 1) / 2) * width for place in range(len(PERCENTAGES))],
                [fmean(column) for column in values],
                width,
                yerr=[spread(column) for column in values] if len(results) > 1 else None,
                label=row,
                color=f"C{number}",
            )
        for place, key in enumerate(PERCENTAGES):
            if cells[scene, CEILING]:
                ceiling = fmean(result[key] for result in cells[scene, CEILING])
                axes.hlines(ceiling, place - 0.42, place + 0.42, colors="black", label=CEILING if place == 0 else "")
        axes.set_xticks(range(len(PERCENTAGES)), [NAMES[key] for key in PERCENTAGES])
        axes.set_ylim(0, 100)
        axes.set_ylabel("%")
        axes.set_title(scene)
        if panel == 0:
            axes.legend(loc="lower left", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def ablation_table(outcome: Outcome) -> RichTable:
    """Measured beside published, a row a variant."""
    from rich.table import Table as RichTable

    table = RichTable(title=f"{outcome.table.title}\n[dim]published: {outcome.table.source}[/]")
    table.add_column("row", no_wrap=True)
    for metric in outcome.table.metrics:
        table.add_column(f"{metric_name(metric)}\nmeasured", justify="right", no_wrap=True)
        table.add_column("\npublished", justify="right", no_wrap=True)
    table.add_column("\ngroups", justify="right")
    table.add_column("\nseconds", justify="right")
    for row in outcome.table.rows:
        results = outcome.measured.get(row.name, [])
        cells = []
        for column, metric in enumerate(outcome.table.metrics):
            cells.append(format_seeds([result[metric] for result in results if metric in result], 1))
            cells.append("-" if row.published is None else f"{row.published[column]:.1f}")
        cells.append(format_seeds([result["num_pred"] for result in results], 0))
        cells.append(format_seeds([result["seconds"] for result in results], 1))
        table.add_row(row.name, *cells)
    return table


def verdict_lines(outcome: Outcome) -> list[str]:
    """One line a metric: how many pairs agree, and which differ or tie."""
    lines = []
    for metric, pairs in outcome.verdicts.items():
        counts = {kind: sum(pair.outcome == kind for pair in pairs) for kind in ("agrees", "differs", "tie")}
        line = f"{metric_name(metric)}: of {len(pairs)} pairs {counts['agrees']} in the published order, "
        line += f"{counts['differs']} in the other, {counts['tie']} within {MARGIN} points or the spread"
        for kind in ("differs", "tie"):
            named = [
                f"{pair.better} > {pair.worse} (published {_signed(pair.published)}, measured {_signed(pair.measured)})"
                for pair in pairs
                if pair.outcome == kind
            ]
            line += f"\n  {kind}: {'; '.join(named)}" if named else ""
        lines.append(line)
    return lines


def _signed(difference: float | None) -> str:
    return "in words" if difference is None else f"{difference:+.1f}"


def clicks_table(levels: Mapping[str, Sequence[ClickedObject]], objects: bool = False) -> RichTable:
    """Clicks on the objects of each level of ground truth: means over objects, with a row an object where wanted."""
    from rich.table import Table as RichTable

    clean = any(entry.clean_iou is not None for entries in levels.values() for entry in entries)
    walked = any(entry.best is not None for entries in levels.values() for entry in entries)
    # With trees and without in one table: a dash where there is none.
    fields = ["iou", "ceiling", *(LEVELS if walked else ()), "near"]
    fields += [*(("clean_iou", "clean_near") if clean else ()), "scale"]
    table = RichTable(title="Single clicks on objects: IoU on the test views, percent")
    table.add_column("ground truth", no_wrap=True)
    table.add_column("objects", justify="right")
    headings = ["click IoU", "ceiling", *((f"unchosen: {level}" for level in LEVELS) if walked else ()), "near"]
    for heading in (*headings, *(("cleaned", "cleaned near") if clean else ()), "scale"):
        table.add_column(heading, justify="right")
    for level, entries in levels.items():
        if not entries:
            continue
        values = [[getattr(entry, name) for entry in entries] for name in fields]
        decimals = [2 if name == "scale" else 1 for name in fields]
        means = (
            format_seeds([] if None in column else [fmean(column)], places)
            for column, places in zip(values, decimals, strict=True)
        )
        table.add_row(level, str(len(entries)), *means, end_section=not objects)
        for row, entry in enumerate(entries if objects else ()):
            cells = (
                format_seeds([] if column[row] is None else [float(column[row])], places)
                for column, places in zip(values, decimals, strict=True)
            )
            table.add_row(f"  {entry.name}", "", *cells, end_section=row == len(entries) - 1)
    return table


def orders_table(results: Mapping[tuple[str, str], Mapping[str, Any]]) -> RichTable:
    """Associations under several orders of the views."""
    from rich.table import Table as RichTable

    table = RichTable(title="Order of the views (partition: equal digests are equal groups of Gaussians)")
    for heading in ("association", "order", "IoU", "precision", "recall", "groups", "partition"):
        table.add_column(heading, no_wrap=True)
    for (name, order), result in results.items():
        scores = (f"{result[key]:.1f}" for key in ("iou", "precision", "recall"))
        table.add_row(name, order, *scores, str(result["num_pred"]), result["assignment"][:8])
    return table
