"""Open a trained run and ask it: the group of each Gaussian, one object as a PLY, a picture of a view."""

from __future__ import annotations

from pathlib import Path

import tyro

from gseg_ns.pictures import write_png
from gseg_ns.runs import load_run
from gseg_ns.splats import write_ply


def main(config: Path, output: Path, group: int = 5) -> None:
    """Write `object.ply` and a picture of the first held-out view.

    Args:
        config: `config.yml` of a run.
        output: folder to write to.
        group: the object.
    """
    run = load_run(config)
    splats = run.model.splats()  # N Gaussians: means, quats, scales, opacities, sh
    groups = run.model.gaussian_groups()  # int64 [N], 0 = in no group
    thing = splats.subset(groups == group)
    print(f"{len(groups.unique())} groups in {len(splats)} Gaussians; {len(thing)} in group {group}")
    print(f"around {thing.means.mean(dim=0).tolist()}")
    write_ply(output / "object.ply", thing)
    view = next(run.views("test"))
    write_png(output / f"{view.name}.png", run.model.picture(view.camera))


if __name__ == "__main__":
    tyro.cli(main)
