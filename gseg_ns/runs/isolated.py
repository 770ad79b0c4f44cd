"""Writing some Gaussians of a run as a run of its own, on which every Nerfstudio command works."""

from __future__ import annotations

import shlex
import shutil
from datetime import datetime
from pathlib import Path

import yaml
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.folders import atomic_folder
from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.checkpoints import write_checkpoint
from gseg_ns.runs.edited_model import with_gaussians
from gseg_ns.runs.safe_config import read_config
from gseg_ns.runs.unpacking import opened_beside
from gseg_ns.selection.store import check_name
from gseg_ns.splats import Splats


def write_run(
    config_path: Path,
    model: SegmentationModel,
    splats: Splats,
    source: Tensor,
    name: str,
    output_dir: Path | None = None,
) -> Path:
    """Write a run that has these Gaussians and nothing else.

    It lies in `<output_dir>/<experiment>-<name>/<method>/<timestamp>/`, as if `ns-train` had made it. The data stay
    where they are and are shared with the original run.

    Args:
        config_path: `config.yml` of the run that `model` belongs to, or where one would be beside what people save
            with a result or a labelled PLY.
        model: its model.
        splats: M Gaussians.
        source: int64 [M], see `with_gaussians`.
        name: appended to the experiment's name.
        output_dir: where runs are; None: where the original is, or the folder `outputs` beside a result.

    Returns:
        the new run's `config.yml`.

    Raises:
        GsegError: no Gaussians, a name that cannot be one, a run of that name and second, or a file that cannot be
            written.
    """
    if not len(splats):
        raise GsegError("There are no Gaussians to write a run of. Select something first.")
    alone = opened_beside(config_path)
    config = read_config(config_path) if alone is None else alone.config
    config.set_experiment_name()
    # 3, or 2: the experiment's name may be empty.
    depth = len(config.get_base_dir().parts) - len(config.output_dir.parts)
    home = config_path.parents[depth] if alone is None else alone.folder.parent / "outputs"
    config.output_dir = (home if output_dir is None else output_dir).absolute()
    config.experiment_name = f"{config.experiment_name}-{check_name(name)}".removeprefix("-")
    config.timestamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    config.load_dir = config.load_checkpoint = config.load_config = config.load_step = None
    config.relative_model_dir = Path("nerfstudio_models")
    folder = config.get_base_dir()
    if folder.exists():
        raise GsegError(f"{folder} is there already. Wait a second, or choose another name.")
    state = with_gaussians(model, splats, source).state_dict()
    checkpoint = {
        "step": int(model.step),
        "pipeline": {
            f"_model.{key}": value.detach().cpu() if isinstance(value, Tensor) else value
            for key, value in state.items()
        },
        "optimizers": {},
        "schedulers": {},
        "scalers": {},
    }
    with atomic_folder(folder) as staging:
        write_checkpoint(staging / config.relative_model_dir / f"step-{int(model.step):09d}.ckpt", checkpoint)
        transforms = config_path.parent / "dataparser_transforms.json"
        if transforms.exists():
            shutil.copyfile(transforms, staging / transforms.name)
        (staging / "config.yml").write_text(yaml.dump(config), encoding="utf-8")
        if folder.exists():  # since it was looked for
            raise GsegError(f"{folder} is there already. Wait a second, or choose another name.")
    return folder / "config.yml"


def export_command(config_path: Path) -> str:
    """The Nerfstudio command that writes the PLY of a run."""
    output = config_path.parent / "export"
    return shlex.join(["ns-export", "gaussian-splat", "--load-config", str(config_path), "--output-dir", str(output)])
