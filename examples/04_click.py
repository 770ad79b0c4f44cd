"""Click on a pixel of a view: the Gaussians that this means, drawn, and kept where the viewer finds them."""

from __future__ import annotations

from pathlib import Path

import torch
import tyro

from gseg_ns.pictures import write_png
from gseg_ns.runs import Prompter, load_run
from gseg_ns.selection import Fingerprint, Prompt, highlight, save_selections


def main(
    config: Path, output: Path, x: float | None = None, y: float | None = None, scale: float | None = None
) -> None:
    """Select by one click on the first held-out view; write `click.png` and `click.npz`.

    Args:
        config: `config.yml` of a run.
        output: folder to write to. A `selections.npz` beside `config.yml` would be in the viewer's list.
        x: pixel column; the middle unless given.
        y: pixel row; the middle unless given.
        scale: granularity in [0, 1], for methods that have scales.
    """
    run = load_run(config)
    camera = next(run.views("test")).camera
    pixel = [int(camera.width) / 2 if x is None else x, int(camera.height) / 2 if y is None else y]
    chosen = Prompter(run.model).select(camera, Prompt(positive=torch.tensor([pixel])), scale)  # bool [N]
    print(f"{int(chosen.sum())} of {len(chosen)} Gaussians")
    picture = run.model.picture(camera)
    seen = run.model.composite(chosen.float()[:, None])[..., 0].detach()  # over the view rendered last
    write_png(output / "click.png", highlight(picture, seen))
    save_selections(output / "click.npz", {"click": chosen}, Fingerprint.of(run.model.means))


if __name__ == "__main__":
    tyro.cli(main)
