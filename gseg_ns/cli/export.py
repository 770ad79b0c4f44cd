"""`gseg export`: every object as a splat of its own, and all of them with labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Export:
    """Write one splat file an object, and one of everything (PLY: with an integer `label` a splat)."""

    load_config: Path
    """config.yml of the run"""
    output_dir: Path
    """Folder to write to: scene.ply, objects/group_0001.ply, ..., objects.json"""
    format: Literal["ply", "spz"] = "ply"
    """3DGS PLY, exact, which every splat tool reads; or SPZ for the web: lossy, a tenth of the size, without labels"""
    groups: list[int] = field(default_factory=list)
    """Only these groups; all unless given"""
    selection: str | None = None
    """Only this selection, saved in the viewer beside config.yml (with groups: both together)"""
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
        from rich.progress import track

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.models.runs import load_run
        from gseg_ns.splats.objects import write_objects
        from gseg_ns.splats.transform import to_original_frame

        if not self.overwrite and self.output_dir.exists() and any(self.output_dir.iterdir()):
            raise GsegError(f"{self.output_dir} already has files: name another folder or add --overwrite")
        run = load_run(self.load_config)
        groups = run.model.gaussian_groups(self.scale).cpu()
        splats = run.model.splats().to("cpu")
        rows = self._chosen(splats.means, groups) & splats.exportable()
        splats, groups = splats.subset(rows), groups[rows]
        if len(splats) == 0:
            raise GsegError("Nothing to export: no visible Gaussian of the run is chosen")
        if self.frame == "original":
            outputs = run.datamanager.train_dataparser_outputs
            splats = to_original_frame(splats, outputs.dataparser_transform, outputs.dataparser_scale)
        listed = write_objects(
            self.output_dir,
            splats,
            groups,
            self.format,
            self.min_gaussians,
            about={"frame": self.frame},
            track=lambda ids: track(ids, description="Writing objects", console=CONSOLE),
        )
        CONSOLE.print(
            f"Wrote {len(splats)} Gaussians to {self.output_dir / f'scene.{self.format}'} and {len(listed)} objects to "
            f"{self.output_dir / 'objects'}"
        )

    def _chosen(self, means: Tensor, groups: Tensor) -> Tensor:
        """Which Gaussians the options name: bool [N].

        Raises:
            GsegError: a group or selection that the run does not have.
        """
        import torch

        from gseg_ns.selection.store import SELECTIONS_FILE, Fingerprint, load_selections

        chosen = torch.full_like(groups, not self.groups and self.selection is None, dtype=torch.bool)
        if self.groups:
            missing = sorted(set(self.groups) - set(groups.unique().tolist()))
            if missing:
                raise GsegError(f"The run has no group {', '.join(map(str, missing))}")
            chosen |= torch.isin(groups, torch.tensor(self.groups))
        if self.selection is not None:
            file = self.load_config.parent / SELECTIONS_FILE
            saved = load_selections(file, Fingerprint.of(means))
            if self.selection not in saved:
                raise GsegError(f"{file} has no selection {self.selection!r}. It has: {', '.join(saved) or 'none'}")
            chosen |= saved[self.selection].unpack("cpu")
        return chosen & (groups > 0) if self.drop_unlabelled else chosen
