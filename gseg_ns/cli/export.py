"""`gseg export`: every object as a splat of its own, and all of them with labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gseg_ns.choices import SplatFormat
from gseg_ns.errors import GsegError


@dataclass
class Export:
    """Write one splat file an object, and one of everything (PLY: with an integer `label` a splat)."""

    load_config: Path
    """config.yml of the run"""
    output_dir: Path
    """Folder to write to: scene.ply, objects/group_0001.ply, ..., objects.json. Files of groups that were named in the
    viewer carry the name"""
    format: SplatFormat = "ply"
    """3DGS PLY, exact, which every splat tool reads; SPZ for the web: lossy, a tenth of the size, without labels; or
    glTF with KHR_gaussian_splatting, exact"""
    groups: list[int] = field(default_factory=list)
    """Export only these groups; all of them unless given"""
    selection: str | None = None
    """Only this selection, saved in the viewer beside config.yml (with groups: both together)"""
    edits: Path | None = None
    """Edit list to bake in (edits.json of the viewer or of `gseg edit`); what it removes is left out"""
    drop_unlabelled: bool = False
    """Leave out Gaussians that are in no group"""
    frame: Literal["nerfstudio", "original"] = "nerfstudio"
    """Coordinates: the run's normalised ones (as ns-export), or those of the capture's own poses"""
    min_gaussians: int = 20
    """Groups with fewer Gaussians get no file of their own"""
    scale: float | None = None
    """Granularity in [0, 1], for methods that have scales"""
    overwrite: bool = False
    """Write into a folder that already has files"""

    def main(self) -> None:
        """Export."""
        from rich.markup import escape
        from rich.progress import track

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.cli.options import check_scale
        from gseg_ns.runs.edited_run import EditedRun
        from gseg_ns.runs.run import load_run
        from gseg_ns.splats.objects import write_objects
        from gseg_ns.splats.transform import to_original_frame

        if not self.overwrite and self.output_dir.exists() and any(self.output_dir.iterdir()):
            raise GsegError(f"{self.output_dir} already has files: name another folder or add --overwrite")
        run = load_run(self.load_config)
        check_scale(run, self.scale)
        edited = EditedRun(run, self.edits, self.scale)
        everything = not self.groups and self.selection is None
        rows = ~edited.scene.removed if everything else edited.rows(self.groups, self.selection)
        if self.drop_unlabelled:
            rows = rows & (edited.groups > 0)
        rows = rows & edited.scene.splats.exportable()
        splats, groups = edited.scene.splats.subset(rows).to("cpu"), edited.groups[rows].cpu()
        if len(splats) == 0:
            raise GsegError("Nothing to export: no visible Gaussian of the run is chosen")
        try:
            names = edited.names
        except GsegError as error:  # names are an ornament: without them everything can be written
            CONSOLE.print(f"[yellow]Groups are written without names: {escape(str(error))}")
            names = {}
        if self.frame == "original":
            frame = run.frame()
            if frame is None:
                raise GsegError(
                    f"{self.load_config.parent} has no dataparser_transforms.json and its scene is gone: the frame of "
                    "the capture is not known. Export with --frame nerfstudio"
                )
            splats = to_original_frame(splats, *frame)
        listed = write_objects(
            self.output_dir,
            splats,
            groups,
            self.format,
            self.min_gaussians,
            names,
            about={"frame": self.frame},
            track=lambda ids: track(ids, description="Writing objects", console=CONSOLE),
        )
        CONSOLE.print(
            f"Wrote {len(splats)} Gaussians to {self.output_dir / f'scene.{self.format}'} and {len(listed)} objects to "
            f"{self.output_dir / 'objects'}"
        )
