"""Train a method from Python, as `ns-train` does it, and print where the run is.

A method's `config` is Nerfstudio's `TrainerConfig`: everything that `ns-train METHOD --help` lists can be set on it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import tyro

from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.saga import saga
from gseg_ns.method_configs.unified_lift import unified_lift

METHODS = {"gaga": gaga, "saga": saga, "unified-lift": unified_lift}


def main(
    scene: Path,
    output: Path = Path("outputs"),
    method: Literal["gaga", "saga", "unified-lift"] = "gaga",
    iterations: int = 1200,
    max_gaussians: int = 20_000,
) -> Path:
    """Train.

    Args:
        scene: a Nerfstudio or COLMAP folder with masks.
        output: where runs are written.
        method: what to train.
        iterations: length of the run, which all its milestones follow.
        max_gaussians: densification stops there.

    Returns:
        `config.yml` of the run.
    """
    config = copy.deepcopy(METHODS[method].config)
    config.data = config.pipeline.datamanager.data = scene
    config.output_dir, config.experiment_name, config.timestamp = output, scene.name, "example"
    config.max_num_iterations = iterations
    config.pipeline.model.max_gaussians = max_gaussians
    config.vis = "tensorboard"  # "viewer" serves the web viewer while it trains

    trainer = config.setup(local_rank=0, world_size=1)
    config.save_config()
    trainer.setup()
    trainer.train()
    path = config.get_base_dir() / "config.yml"
    print(f"gseg view {path}")
    return path


if __name__ == "__main__":
    tyro.cli(main)
