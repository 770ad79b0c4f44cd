"""`gseg merge`: an object that was moved or changed in another program, back in its scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gseg_ns.errors import GsegError


@dataclass
class Merge:
    """Put an exported object that was moved or changed elsewhere back into its exported scene.

    The object is known by the lines of its PLY, or, where another program dropped these, by its Gaussians' opacities
    and colors. Where it was moved, turned or scaled as a whole, the scene's own Gaussians are moved.
    """

    scene: Annotated[Path, tyro.conf.Positional]
    """scene.ply of `gseg export`, with labels"""
    object: Annotated[Path, tyro.conf.Positional]
    """The object's PLY as it came back"""
    output: Path
    """PLY to write"""
    group: int | None = None
    """The object's number, where the file does not tell"""
    overwrite: bool = False
    """Replace the file that --output names"""

    def main(self) -> None:
        """Merge."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.editing.returning import from_file, merged, recognise, told
        from gseg_ns.splats.ply import read_ply, write_ply
        from gseg_ns.splats.ply_header import read_header

        if self.output.exists() and not self.overwrite:
            raise GsegError(f"{self.output} is there already: name another file or add --overwrite")
        scene, file = read_ply(self.scene), read_ply(self.object, drop_invalid=True)
        if len(file) == 0:
            raise GsegError(f"{self.object} has no Gaussian that can be drawn.")
        about, header = read_header(self.scene), read_header(self.object)
        labels = scene.extra.pop("label", None)
        if labels is None or labels.ndim != 1 or labels.is_floating_point():
            raise GsegError(f"{self.scene} has no column `label`: give the scene.ply that `gseg export` wrote.")
        if about.run and header.run and about.run != header.run:
            raise GsegError(f"{self.object} is an object of another run than {self.scene}.")
        if about.placement is not None and header.placement is not None:
            file = from_file(about.placement, header.placement, file)
        back = recognise(scene, labels, file, header, self.group)
        result, labels = merged(scene, labels, file, back)
        if len(result) == 0:
            raise GsegError("Nothing would be left.")
        write_ply(self.output, result, {"label": labels.int()}, about.comments())
        CONSOLE.print(told(back))
        CONSOLE.print(f"Wrote {len(result)} Gaussians to {self.output}")
