"""`gseg info` and `gseg list`: what runs are, and what is in them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import tyro

from gseg_ns.cli.options import Granular
from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from rich.table import Table

    from gseg_ns.objects import ObjectRecord
    from gseg_ns.runs.run import Run


@dataclass
class Info(Granular):
    """Say what a run is, how far its training is, and what objects it has: sizes, colors, how sure.

    Numbers are in the run's own coordinates. `gseg export` writes the same table in those of its files.
    """

    run: tyro.conf.Positional[Path]
    """config.yml of the run, or its folder; a folder NAME.gseg; or a labelled PLY"""
    json: bool = False
    """Write JSON, as the schema of objects.json says, and nothing else"""
    csv: bool = False
    """Write the table of objects with commas between its columns, and nothing else"""
    data: Path | None = None
    """The run's scene. Default: where its config.yml says, or of that name beside the run"""

    def main(self) -> None:
        """Tell."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.runs.overview import overview
        from gseg_ns.runs.run import load_run
        from gseg_ns.terminal import messages_on_stderr, track

        if self.json and self.csv:
            raise GsegError("Give either --json or --csv")
        with messages_on_stderr(self.json or self.csv):
            run = load_run(self.run, self.data, allow_unfinished=True)
            scale = self.granularity(run)
            facts, records = overview(run, scale, lambda ids: track(ids, "Asking views"))
        if self.json:
            content = {**facts, "objects": [record.as_dict() for record in records]}
            CONSOLE.file.write(json.dumps(content, indent=1) + "\n")
        elif self.csv:
            CONSOLE.file.write(_csv([record.as_row() for record in records]))
        else:
            self._show(run, facts, records)

    def _show(self, run: Run, facts: dict[str, Any], records: list[ObjectRecord]) -> None:
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.runs.labels import UNLABELLED_PLY

        progress = run.progress
        state = "ended" if progress.is_finished else "running" if progress.is_running else "stopped early"
        steps = f"step {facts['steps']} of {facts['planned_steps']}"
        done = "" if run.alone else f", {steps} ({state})"
        CONSOLE.print(f"{facts['method']}{done}: {facts['config']}", markup=False)
        if facts["scene"]:
            CONSOLE.print(f"  scene: {facts['scene']}", markup=False)
        if facts["masks"] is not None:
            masks = facts["masks"]
            CONSOLE.print(f"  masks: {masks['views_with_masks']} of {masks['views']} training views, {masks['folder']}")
        psnr = "not known (gseg eval measures it)" if facts["psnr"] is None else f"{facts['psnr']:.2f} dB"
        psnr = "" if run.alone else f", PSNR of test views: {psnr}"
        CONSOLE.print(f"  {facts['gaussians']} Gaussians, {facts['groups']} groups{psnr}")
        if facts["method"] == UNLABELLED_PLY:
            CONSOLE.print(f"  `gseg segment {quote(facts['config'])}` finds them", markup=False)
        if not records:
            return
        CONSOLE.print(object_table(records), soft_wrap=False)


def object_table(records: list[ObjectRecord]) -> Table:
    """The objects of a run for people, the largest first."""
    from rich.table import Table

    with_parents = any(record.parent is not None for record in records)
    columns = ("id", "name", "Gaussians", "floaters", "box", "color", "views", "sure")
    table = Table(*columns, *(["parent"] if with_parents else []), box=None, pad_edge=False)
    for record in sorted(records, key=lambda record: -record.count):
        red, green, blue = record.color
        table.add_row(
            str(record.id),
            record.name,
            str(record.count),
            str(record.floaters),
            " x ".join(f"{2 * half:.3g}" for half in record.box.half_sizes),
            f"#{red:02x}{green:02x}{blue:02x}",
            "" if record.views is None else str(record.views),
            "" if record.confidence is None else f"{record.confidence:.2f}",
            *([] if not with_parents else [str(record.parent or "")]),
        )
    return table


@dataclass
class List:
    """List the runs below a folder: method, steps, whether training ended, when."""

    folder: tyro.conf.Positional[Path] = Path("outputs")
    """Where to look"""
    json: bool = False
    """Write JSON and nothing else"""

    def main(self) -> None:
        """List."""
        from rich.table import Table

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.runs.overview import runs_below

        if not self.folder.is_dir():
            raise GsegError(f"{self.folder} is no folder")
        found = runs_below(self.folder)
        if self.json:
            CONSOLE.file.write(json.dumps([entry.as_dict() for entry in found], indent=1) + "\n")
            return
        if not found:
            CONSOLE.print(f"There is no run below {self.folder}", markup=False)
            return
        table = Table("run", "method", "steps", "state", "last checkpoint", box=None, pad_edge=False)
        for entry in found:
            steps = "" if entry.steps is None else f"{entry.steps}/{entry.planned}"
            table.add_row(str(entry.config), entry.method, steps, entry.state, entry.written)
        CONSOLE.print(table, soft_wrap=False)


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
