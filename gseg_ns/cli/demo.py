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

    def main(self) -> None:
        """Write the scene and say what to do with it."""
        from rich.console import Console

        from gseg_ns.demo import write_demo_scene

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
        Console().print(
            f"{scene.folder}: {scene.num_objects} objects, "
            f"{len(scene.train)} training and {len(scene.test)} test views",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
