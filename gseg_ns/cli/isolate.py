"""`gseg isolate`: some objects of a run as a run of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gseg_ns.errors import GsegError


@dataclass
class Isolate:
    """Write some Gaussians as a normal Nerfstudio run: ns-viewer, ns-render and ns-export work on it unchanged."""

    load_config: Path
    """config.yml of the run"""
    groups: list[int] = field(default_factory=list)
    """Ids of the groups to take, as the viewer and `gseg export` list them"""
    selection: str | None = None
    """Name of a selection saved in the viewer, beside config.yml"""
    edits: Path | None = None
    """Edit list to bake in (edits.json of the viewer or of `gseg edit`); what it removes is left out"""
    scale: float | None = None
    """Granularity in [0, 1] at which the groups are meant, for methods that have scales"""
    name: str | None = None
    """Appended to the experiment's name; derived from what is taken unless given"""
    output_dir: Path | None = None
    """Where runs are written: <output-dir>/<experiment>-<name>/<method>/<time>; beside the original unless given"""

    def main(self) -> None:
        """Write the run and print the commands that work on it."""
        import torch

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.editing.edit_list import load_edits
        from gseg_ns.editing.operations import evaluate
        from gseg_ns.models.isolated import export_command, write_run
        from gseg_ns.models.runs import load_run
        from gseg_ns.selection.store import SELECTIONS_FILE, Fingerprint, check_name, load_selections

        if not self.groups and self.selection is None and self.edits is None:
            raise GsegError(
                "Say what to take: --groups 3 5, --selection NAME, or --edits FILE for all of an edited scene"
            )
        taken = [self.selection] if self.selection else []
        taken += ["groups-" + "-".join(map(str, self.groups[:8]))] if self.groups else []
        name = check_name(self.name or "-".join(taken) or "edited")
        run = load_run(self.load_config)
        splats = run.model.splats()
        fingerprint = Fingerprint.of(splats.means)
        scene = evaluate(splats, load_edits(self.edits, fingerprint) if self.edits else [])
        keep = ~scene.removed
        if self.groups or self.selection is not None:
            chosen = torch.zeros(len(splats), dtype=torch.bool, device=splats.device)
            if self.groups:
                groups = run.model.gaussian_groups(self.scale)
                known = set(groups.unique().tolist())
                missing = [group for group in self.groups if group not in known or group <= 0]
                if missing:
                    raise GsegError(
                        f"The run has no group {', '.join(map(str, missing))}. "
                        f"`gseg export --load-config {self.load_config}` writes a list of them to objects.json"
                    )
                chosen |= torch.isin(groups, torch.tensor(self.groups, device=groups.device))
            if self.selection is not None:
                file = self.load_config.parent / SELECTIONS_FILE
                saved = load_selections(file, fingerprint)
                if self.selection not in saved:
                    raise GsegError(f"{file} has no selection {self.selection!r}. It has: {', '.join(saved) or 'none'}")
                chosen |= saved[self.selection].unpack(splats.device)
            # Copies that edits made go with what they are copies of.
            keep &= (scene.source >= 0) & chosen[scene.source.clamp_min(0)]
        config = write_run(
            self.load_config, run.model, scene.splats.subset(keep), scene.source[keep], name, self.output_dir
        )
        CONSOLE.print(
            f"Wrote {int(keep.sum())} of {len(splats)} Gaussians to {config}\n"
            f"  ns-viewer --load-config {config}\n  {export_command(config)}"
        )
