"""Export: the whole scene with a label a splat, and a file an object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from gseg_ns.runs import load_run
from gseg_ns.splats import to_original_frame, write_objects


def main(config: Path, output: Path, form: Literal["ply", "spz", "glb"] = "ply", original: bool = False) -> None:
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
    if original:
        parsed = run.datamanager.train_dataparser_outputs
        splats = to_original_frame(splats, parsed.dataparser_transform, parsed.dataparser_scale)
    for entry in write_objects(output, splats, groups, form):
        print(f"{entry['file']}: {entry['gaussians']} Gaussians")


if __name__ == "__main__":
    tyro.cli(main)
