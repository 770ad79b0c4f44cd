"""A run that needs no training, for what works on runs."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch


def build_run(scene: Path, folder: Path, method: str = "gaga", antialiased: bool = False) -> Path:
    """A run on a scene with the labelled points as its Gaussians: nothing has to be trained.

    Of `saga`, every object has a feature of its own at scale 0, and all but the room have the same at scale 1.

    Returns:
        config.yml
    """
    from plyfile import PlyData
    from scipy.spatial import cKDTree

    from gseg_ns.method_configs.gaga import gaga
    from gseg_ns.method_configs.saga import saga

    config = copy.deepcopy({"gaga": gaga, "saga": saga}[method].config)
    config.data = scene
    config.pipeline.datamanager.data = scene
    config.output_dir, config.experiment_name, config.timestamp = folder, "viewer", "run"
    if antialiased:
        config.pipeline.model.rasterize_mode = "antialiased"
    if method == "saga":
        config.pipeline.model.default_scale = 0.1
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    model, parsed = pipeline.model, pipeline.datamanager.train_dataparser_outputs
    labelled = PlyData.read(scene / "gt" / "points_labelled.ply")["vertex"]
    points = np.stack([labelled[axis] for axis in "xyz"], axis=1)
    transform = parsed.dataparser_transform.numpy()
    points = (points @ transform[:, :3].T + transform[:, 3]) * parsed.dataparser_scale
    _, nearest = cKDTree(points).query(model.means.detach().numpy())
    objects = torch.from_numpy(np.asarray(labelled["object_id"]).astype(np.int64))[nearest]
    groups = torch.where(objects > 0, objects, objects.max() + 1)  # the room is a group too
    with torch.no_grad():
        (set_identities if method == "gaga" else set_affinities)(model, groups)
        model.gauss_params["opacities"].fill_(3.0)
        # Their size is the distance of their neighbours; that of outliers is of no use.
        scales = model.gauss_params["scales"]
        scales.copy_((scales - 0.7).clamp_max(float(scales.median()) - 0.6))
    config.save_config()
    checkpoints = config.get_checkpoint_dir()
    checkpoints.mkdir(parents=True, exist_ok=True)
    model.step = model.config.num_iterations - 1
    state = {"step": model.step, "pipeline": pipeline.state_dict()}
    torch.save(state, checkpoints / f"step-{model.step:09d}.ckpt")
    return config.get_base_dir() / "config.yml"


def copy_run(config: Path, folder: Path) -> Path:
    """A copy of a run in another output folder, which its config.yml names.

    Returns:
        config.yml of the copy
    """
    old = config.parents[3]
    run = folder / config.parent.relative_to(old)
    shutil.copytree(config.parent, run)
    written = "".join(f"- {part}\n" for part in old.parts)
    text = config.read_text()
    assert written in text
    (run / "config.yml").write_text(text.replace(written, "".join(f"- {part}\n" for part in folder.parts)))
    return run / "config.yml"


def set_identities(model: Any, groups: torch.Tensor) -> None:
    """Make a model of `gaga` find these groups, numbered from 1."""
    count = model.num_groups = int(groups.max())
    model.classifier.resize(count + 1)
    model.gauss_params["identity"].copy_(torch.nn.functional.one_hot(groups - 1, 16).float())
    weight = torch.zeros(count + 1, 16)
    weight[torch.arange(1, count + 1), torch.arange(count)] = 5.0
    model.classifier.weight.copy_(weight.view_as(model.classifier.weight))
    model.classifier.bias.zero_()


def set_affinities(model: Any, groups: torch.Tensor) -> None:
    """Make a trained model of `saga` that tells these groups apart; the last one is the room."""
    features = torch.nn.functional.one_hot(groups - 1, 32).float()
    features[torch.arange(len(groups)), 30 + (groups == groups.max()).long()] += 1
    model.gauss_params["affinity"].copy_(features)
    steep = torch.tensor([-20.0] * 30 + [20.0] * 2)
    model.scale_gate.linear.weight.copy_(steep[:, None])
    model.scale_gate.linear.bias.copy_(-steep / 2)
    model.finished.fill_(True)
    model.step = model.config.num_iterations - 1
