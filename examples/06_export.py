"""Export: the whole scene with a label a splat, and a file an object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from gseg_ns.runs import load_run
from gseg_ns.splats import Placement, original_placement, write_objects


def main(
    config: Path, output: Path, form: Literal["ply", "spz", "glb", "usd", "usdz"] = "ply", original: bool = False
) -> None:
    """Write `scene`, `objects/group_0001` and so on, and `objects.json`.

    Args:
        config: `config.yml` of a run.
        output: folder to write to.
        form: file format.
        original: in the coordinates of the capture's own poses, not Nerfstudio's normalised ones.
    """
    run = load_run(config)
    splats, groups = run.model.splats(), run.model.gaussian_groups()
    fit = splats.exportable()  # training can leave a Gaussian that no file should hold
    splats, groups = splats.subset(fit), groups[fit]
    frame = run.frame() if original else None
    placement = Placement() if frame is None else original_placement(*frame)
    for entry in write_objects(output, splats, groups, form, placement=placement):
        print(f"{entry['file']}: {entry['gaussians']} Gaussians")


if __name__ == "__main__":
    tyro.cli(main)
