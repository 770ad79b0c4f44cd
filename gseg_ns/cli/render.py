"""`gseg render`: label maps and pictures of a run's views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gseg_ns.errors import GsegError


@dataclass
class Render:
    """Render a run's views: one 16-bit PNG of group ids each, and pictures beside it."""

    load_config: Path
    """config.yml of the run"""
    output_dir: Path
    """Folder to write to: ids/, and one folder for each of the outputs, with files named after the images"""
    split: Literal["test", "train"] = "test"
    """Which views"""
    outputs: tuple[str, ...] = ("groups", "rgb", "features")
    """Pictures to write beside the ids: groups, rgb, features, depth, accumulation, overlay, or what else the method
    renders"""
    scale: float | None = None
    """Granularity in [0, 1], for methods that have scales"""

    def main(self) -> None:
        """Render."""
        import torch
        from PIL import Image
        from rich.progress import track

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.files import atomic_path
        from gseg_ns.masks import write_label_map
        from gseg_ns.models.runs import load_run
        from gseg_ns.pictures import overlay

        run = load_run(self.load_config)
        views = list(run.views(self.split))
        for stem, camera, _ in track(views, description="Rendering", console=CONSOLE):
            labels = run.model.label_image(camera, self.scale)
            write_label_map(self.output_dir / "ids" / f"{stem}.png", labels)
            pictures = run.model.get_outputs_for_camera(camera) if self.outputs else {}
            for name in self.outputs:
                if name == "overlay":
                    picture = overlay(pictures["rgb"], labels)
                elif name in pictures:
                    picture = pictures[name]
                else:
                    raise GsegError(f"There is no output {name!r}: choose from {', '.join(pictures)}, overlay")
                if picture.shape[-1] == 1:
                    picture = (picture / picture.max().clamp_min(1e-8)).expand(-1, -1, 3)
                array = (picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
                with atomic_path(self.output_dir / name / f"{stem}.png") as temporary:
                    Image.fromarray(array).save(temporary, format="PNG")
        CONSOLE.print(f"Wrote ids, {', '.join(self.outputs)} of {len(views)} views to {self.output_dir}")
