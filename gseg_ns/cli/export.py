"""`gseg export`: every object as a splat of its own, and all of them with labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gseg_ns.errors import GsegError


@dataclass
class Export:
    """Write one 3DGS PLY an object, and one of everything with an integer `label` a splat."""

    load_config: Path
    """config.yml of the run"""
    output_dir: Path
    """Folder to write to: scene.ply, objects/group_0001.ply, ..., objects.json"""
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
        import torch
        from rich.progress import track

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.cli.runs import load_run
        from gseg_ns.files import atomic_path
        from gseg_ns.palette import colours
        from gseg_ns.splats.ply import write_ply
        from gseg_ns.splats.transform import to_original_frame

        if not self.overwrite and self.output_dir.exists() and any(self.output_dir.iterdir()):
            raise GsegError(f"{self.output_dir} already has files: name another folder or add --overwrite")
        run = load_run(self.load_config)
        groups = run.model.gaussian_groups(self.scale).cpu()
        splats = run.model.splats().to("cpu")
        rows = splats.exportable()
        splats, groups = splats.subset(rows), groups[rows]
        if self.frame == "original":
            outputs = run.datamanager.train_dataparser_outputs
            splats = to_original_frame(splats, outputs.dataparser_transform, outputs.dataparser_scale)
        if len(splats) == 0:
            raise GsegError(f"The run of {self.load_config} has no visible Gaussian to export")

        write_ply(self.output_dir / "scene.ply", splats, {"label": groups.int(), "rgb": colours(groups)})
        counts = torch.bincount(groups)
        kept = [group for group in range(1, len(counts)) if int(counts[group]) >= max(self.min_gaussians, 1)]
        summary = []
        for group in track(kept, description="Writing objects", console=CONSOLE):
            part = splats.subset(groups == group)
            name = f"objects/group_{group:04d}.ply"
            write_ply(self.output_dir / name, part)
            summary.append(
                {
                    "group": group,
                    "file": name,
                    "gaussians": len(part),
                    "colour": colours(torch.tensor([group]))[0].tolist(),
                    "min": part.means.min(dim=0).values.tolist(),
                    "max": part.means.max(dim=0).values.tolist(),
                }
            )
        with atomic_path(self.output_dir / "objects.json") as temporary:
            temporary.write_text(json.dumps({"frame": self.frame, "objects": summary}, indent=1), encoding="utf-8")
        CONSOLE.print(
            f"Wrote {len(splats)} Gaussians with labels to {self.output_dir / 'scene.ply'} and {len(kept)} objects to "
            f"{self.output_dir / 'objects'}"
        )
