"""`gseg isolate`: some objects of a run as a run of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from gseg_ns.cli.options import Granular
from gseg_ns.errors import GsegError


@dataclass
class Isolate(Granular):
    """Write some Gaussians as a normal Nerfstudio run: ns-viewer, ns-render and ns-export work on it unchanged."""

    load_config: Path
    """config.yml of the run, a folder NAME.gseg, or a labelled PLY"""
    groups: list[int] = field(default_factory=list)
    """Ids of the groups to take, as the viewer and `gseg export` list them"""
    selection: str | None = None
    """Name of a selection saved in the viewer, beside config.yml"""
    edits: Path | None = None
    """Edit list to bake in (edits.json of the viewer or of `gseg edit`); what it removes is left out"""
    clean_borders: bool = False
    """Let objects end where the training views show that they do: their Gaussians are fitted so that each object alone
    covers its pixels, without a rim of floor"""
    name: str | None = None
    """Appended to the experiment's name; derived from what is taken unless given"""
    output_dir: Path | None = None
    """Where runs are written: <output-dir>/<experiment>-<name>/<method>/<time>; beside the original unless given"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Write the run and print the commands that work on it."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.runs.edited_run import EditedRun
        from gseg_ns.runs.isolated import export_command, write_run
        from gseg_ns.runs.run import load_run
        from gseg_ns.selection.store import check_name
        from gseg_ns.terminal import track

        if not self.groups and self.selection is None and self.edits is None:
            raise GsegError(
                "Say what to take: --groups 3 5, --selection NAME, or --edits FILE for all of an edited scene"
            )
        taken = [self.selection] if self.selection else []
        taken += ["groups-" + "-".join(map(str, self.groups[:8]))] if self.groups else []
        if self.clean_borders and not self.groups and self.selection is None:
            raise GsegError("--clean-borders is about objects: say which, with --groups or --selection")
        name = check_name(self.name or "-".join(taken) or "edited")
        run = load_run(self.load_config, allow_unfinished=self.allow_unfinished)
        scale = self.granularity(run)
        edited = EditedRun(run, self.edits, scale)
        scene = edited.scene
        everything = not self.groups and self.selection is None
        keep = ~scene.removed if everything else edited.rows(self.groups, self.selection)
        if self.clean_borders:
            cleaned = edited.clean_borders(keep, track)
            CONSOLE.print(f"Cleaned the borders of {cleaned} objects")
        alone = edited.alone.subset(keep)
        config = write_run(
            run.config_path,
            run.model,
            alone.splats,
            scene.source[keep][alone.source],
            name,
            self.output_dir,
        )
        halves = f", {len(alone.split)} of them as two halves," if len(alone.split) else ""
        CONSOLE.print(
            f"Wrote {int(keep.sum())} of {len(scene)} Gaussians{halves} to {config}\n"
            f"  gseg view {quote(str(config))}\n  {export_command(config)}"
        )
