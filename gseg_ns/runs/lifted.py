"""The labels of a trained splat in closed form, as a run: nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import yaml
from torch import Tensor

from gseg_ns import gpu, terminal
from gseg_ns.errors import GsegError
from gseg_ns.folders import atomic_folder
from gseg_ns.models.checkpoints import write_checkpoint

if TYPE_CHECKING:
    from gseg_ns.cluster import Cluster
    from gseg_ns.models.trainer import SegmentationTrainerConfig
    from gseg_ns.splats import Splats


@dataclass
class Lifted:
    """A run whose labels were lifted."""

    config_path: Path
    splats: Splats
    """Its Gaussians."""
    labels: Tensor
    """[N] int64, the group of each, 0 = none."""
    confidence: Tensor
    """[N] float32, as in `gseg_ns.lifting.votes.Lift`: the label's part of all that masks gave the Gaussian; of hidden
    ones at most the part of their neighbours that have it."""
    num_groups: int
    num_views: int
    """Views with masks: each is projected and composited once."""
    seconds: float
    """Of the association and lift alone."""


def lift_run(config: SegmentationTrainerConfig, cluster: Cluster | None = None) -> Lifted:
    """Associate the masks of a scene on given Gaussians, and write the result as a run of `gaga` without training.

    Args:
        config: of `gaga`, with `data` and the model's `geometry`.
        cluster: where views are asked; None: here.

    Returns:
        The run: viewer, export, render and eval work on it.

    Raises:
        GsegError: masks or geometry are missing or damaged, there is a run of that name and second, or the disk is
            full.
    """
    from gseg_ns.data.datamanager import MaskDatamanager
    from gseg_ns.models.drawing import keep_drawing
    from gseg_ns.models.gaga import GagaModel, GagaModelConfig

    model_config = config.pipeline.model
    assert isinstance(model_config, GagaModelConfig)
    assert model_config.geometry is not None
    model_config.labels, model_config.geometry_in_checkpoint = "vote", False
    config.pipeline.datamanager.data = config.data
    config.set_timestamp()
    config.set_experiment_name()
    config.set_run_length()
    folder = config.get_base_dir()
    if folder.exists():
        raise GsegError(f"{folder} is there already. Wait a second, or choose another --experiment-name.")
    with terminal.quietly(None):
        pipeline = config.pipeline.setup(device=gpu.best_device(), test_mode="val")
    model, masks = pipeline.model, pipeline.datamanager
    assert isinstance(model, GagaModel)
    assert isinstance(masks, MaskDatamanager)
    model.use_masks(masks)
    model.cluster = cluster
    model.step = config.max_num_iterations - 1
    started = perf_counter()
    model.start_feature_phase()
    seconds = perf_counter() - started
    model_config.geometry_in_checkpoint = True
    keep_drawing(model_config, model)
    checkpoint = {
        "step": model.step, "pipeline": pipeline.state_dict(), "optimizers": {}, "schedulers": {}, "scalers": {},
    }  # fmt: skip
    with atomic_folder(folder) as staging:
        write_checkpoint(staging / config.relative_model_dir / f"step-{model.step:09d}.ckpt", checkpoint)
        masks.train_dataparser_outputs.save_dataparser_transform(staging / "dataparser_transforms.json")
        (staging / "config.yml").write_text(yaml.dump(config), encoding="utf-8")
    return Lifted(
        folder / "config.yml",
        model.splats(),
        (groups := model.gaussian_groups()),
        model.voted_confidence,
        int((groups.unique() > 0).sum()),
        len(model.lookups),
        seconds,
    )
