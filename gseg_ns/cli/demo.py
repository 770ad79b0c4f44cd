"""`gseg demo`: a small scene to try everything on, made without downloads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class Demo:
    """Make a small posed scene: a furnished room with photographs, imperfect masks and ground truth."""

    folder: tyro.conf.Positional[Path]
    """Where the scene is written, in Nerfstudio's format."""
    objects: int = 12
    """Objects in the room; the floor grows with them."""
    views: int = 44
    """Photographs; every 8th is held out for evaluation."""
    width: int = 256
    """Width of a photograph in pixels."""
    height: int = 192
    """Height of a photograph in pixels."""
    seed: int = 0
    """Another seed is another room."""
    mask_errors: Literal["none", "mild", "hard"] = "mild"
    """How bad the masks are: exact but with ids of their own in each view, or with a segmenter's usual mistakes."""
    overwrite: bool = False
    """Replace the demo scene that is in the folder."""
    run: bool = False
    """Also train on the scene, evaluate, render and export, with the commands that you would type. A scene that is
    there already is used as it is."""
    method: str = "gaga"
    """What --run trains: a method of ns-train."""
    iterations: int = 1200
    """Length of that run."""

    def main(self) -> None:
        """Write the scene and say what to do with it."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.cli.demo_run import run_demo
        from gseg_ns.demo import write_demo_scene

        if self.run and (self.folder / "transforms.json").exists() and not self.overwrite:
            run_demo(self.folder, self.method, self.iterations)
            return
        scene = write_demo_scene(
            self.folder,
            num_objects=self.objects,
            num_views=self.views,
            width=self.width,
            height=self.height,
            seed=self.seed,
            mask_errors=self.mask_errors,
            overwrite=self.overwrite,
        )
        CONSOLE.print(
            f"{scene.folder}: {scene.num_objects} objects, "
            f"{len(scene.train)} training and {len(scene.test)} test views",
            markup=False,
        )
        if self.run:
            run_demo(self.folder, self.method, self.iterations)
