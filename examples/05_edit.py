"""Edit objects without changing the run: a list of operations, a picture of the result, and a run of its own.

Operations name Gaussians by masks over the rows of the scene so far; nothing is written before `write_run`.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from gseg_ns.editing import Duplicate, Operation, Recolor, Remove
from gseg_ns.pictures import write_png
from gseg_ns.runs import EditedRun, load_run, write_run
from gseg_ns.selection import PackedMask


def main(config: Path, output: Path, recolor: int = 2, copy: int = 3, remove: int = 4) -> Path:
    """Recolor a group, copy one and remove one; write `edited.png` and a run that gseg view opens.

    Args:
        config: `config.yml` of a run.
        output: folder for the picture and the run.
        recolor: group that turns red.
        copy: group that is put elsewhere once more.
        remove: group that goes.

    Returns:
        `config.yml` of the edited run.
    """
    run = load_run(config)
    whole = EditedRun(run)
    red, twice, gone = (PackedMask.pack(whole.rows(groups=[group])) for group in (recolor, copy, remove))
    operations: list[Operation] = [
        Recolor(red, (0.9, 0.1, 0.1)),
        Duplicate(twice, translation=(0.0, 0.0, 0.2)),
        Remove(gone),
    ]
    edited = EditedRun(run, operations)
    camera = next(run.views("test")).camera
    write_png(output / "edited.png", edited.model().picture(camera))

    kept = ~edited.scene.removed
    splats, source = edited.scene.splats.subset(kept), edited.scene.source[kept]
    path = write_run(config, run.model, splats, source, name="edited", output_dir=output / "runs")
    print(f"gseg view {path}")
    return path


if __name__ == "__main__":
    tyro.cli(main)
