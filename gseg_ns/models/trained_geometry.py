"""Trained geometry to start from: a 3DGS PLY or a Nerfstudio run."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.errors import GsegError
from gseg_ns.models.checkpoints import read_latest
from gseg_ns.models.parameters import GEOMETRY, from_parameters
from gseg_ns.models.splatfacto import SplatfactoModelConfig
from gseg_ns.reading import number, read_bytes, read_json, reading
from gseg_ns.splats import Splats
from gseg_ns.splats.container import MIN_OPACITY_LOGIT
from gseg_ns.splats.degenerate import mend
from gseg_ns.splats.reading import SUFFIXES, read_splats
from gseg_ns.splats.transform import to_original_frame, transform

_OTHER_SPLATS = (".splat", ".ksplat", ".sog", ".spx", ".glb", ".gltf", ".npz", ".pt", ".pth", ".gz", ".zip")
"""Suffixes of splats in formats that are not read."""
_LARGEST_LOG_SCALE = 40.0
_LARGEST_CONFIG = 2**18  # bytes; PyYAML takes seconds for them

Similarity = tuple[Tensor, float]
"""A dataparser's map from original coordinates p to scale * (matrix [3, 4] @ [p, 1])."""


def load_geometry(path: Path, frame: Literal["nerfstudio", "original"], metadata: dict[str, Any]) -> Splats:
    """Read Gaussians into the frame of this scene.

    Args:
        path: a `.ply` or `.spz`, or the folder or config.yml of a Nerfstudio run of Splatfacto or one of our methods.
        frame: coordinates of a PLY; those of a run are known from its `dataparser_transforms.json`.
        metadata: of the dataset, with `dataparser_transform` and `dataparser_scale`.

    Raises:
        GsegError: the path does not exist, is neither, or is damaged; or this scene's frame is not known.
    """
    if not path.exists():
        raise GsegError(
            f"{path} does not exist: give a 3DGS PLY, an SPZ or a Nerfstudio run with --pipeline.model.geometry"
        )
    inside = sorted(path.glob("point_cloud/iteration_*/point_cloud.ply"), key=lambda ply: (len(ply.parent.name), ply))
    if inside:
        raise GsegError(f"{path} is the output of 3DGS: give {inside[-1]} with --pipeline.model.geometry")
    if path.is_file() and path.suffix.lower() in _OTHER_SPLATS:
        raise GsegError(
            f"{path} is no PLY or SPZ: convert it to a 3DGS PLY (SuperSplat exports one), and give that with "
            "--pipeline.model.geometry"
        )
    if is_splat_file(path):
        splats = _drawable(read_splats(path), path)
        return splats if frame == "nerfstudio" else _from_original(splats, _scene_frame(metadata))
    run = path if path.is_dir() else path.parent
    splats = _drawable(mend(_load_run(run)), run)
    theirs = run_frame(run)
    if theirs is None or "dataparser_transform" not in metadata:
        return splats
    ours = _scene_frame(metadata)
    if torch.allclose(theirs[0], ours[0], atol=1e-5) and abs(theirs[1] - ours[1]) < 1e-5 * ours[1]:
        return splats
    return _from_original(to_original_frame(splats, *theirs), ours)


def is_splat_file(path: Path) -> bool:
    """Whether a geometry is a PLY or SPZ, and not a run."""
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _scene_frame(metadata: dict[str, Any]) -> Similarity:
    if "dataparser_transform" not in metadata:
        raise GsegError("This dataparser does not tell its frame: use gseg-data, or a splat in Nerfstudio's frame")
    return metadata["dataparser_transform"].float(), float(metadata["dataparser_scale"])


def _from_original(splats: Splats, frame: Similarity) -> Splats:
    matrix, scale = frame
    return transform(splats, matrix[:3, :3], matrix[:3, 3] * scale, scale)


def run_frame(run: Path) -> Similarity | None:
    """The frame that a run was trained in, as ns-train wrote it; None where it did not.

    Raises:
        GsegError: the file is damaged.
    """
    path = run / "dataparser_transforms.json"
    if not path.exists():
        return None
    about = ("what ns-train writes", "Copy it from the original run.")
    with reading(path, *about):
        saved = read_json(path, *about)
        rows = [[number(value, -1e9, 1e9) for value in row] for row in saved["transform"]]
        if len(rows) not in (3, 4) or any(len(row) != 4 for row in rows):
            raise ValueError("a transform that is no matrix of 3 rows and 4 columns")
        return torch.tensor(rows, dtype=torch.float32), number(saved["scale"], 1e-9, 1e9)


def _load_run(run: Path) -> Splats:
    checkpoint, content = read_latest(run)
    with reading(checkpoint, "a checkpoint of Splatfacto"):
        state = content.get("pipeline", {})
        prefix = "_model.gauss_params."
        missing = [name for name in GEOMETRY if prefix + name not in state]
        if missing:
            raise GsegError(f"{checkpoint} is not a checkpoint of Splatfacto: it has no {', '.join(missing)}")
        parameters = {name: state[prefix + name].float() for name in GEOMETRY}
        mode = run_setting(run, "rasterize_mode")
        return from_parameters(parameters, "antialiased" if mode == "antialiased" else "classic")


def _drawable(splats: Splats, path: Path) -> Splats:
    """Leave out what cannot be drawn, and say so.

    Raises:
        GsegError: nothing is left.
    """
    kept = splats.exportable()
    # Beyond, a variance does not fit single precision.
    kept &= splats.scales.amax(dim=1).nan_to_num(nan=torch.inf) < _LARGEST_LOG_SCALE
    faint = splats.opacities < MIN_OPACITY_LOGIT
    broken = int((~kept & ~faint).sum())
    if not bool(kept.any()):
        raise GsegError(
            f"{path} has no splat that can be drawn: of {len(splats)}, {int(faint.sum())} are fainter than 1/255 and "
            f"{broken} have numbers that are not finite"
        )
    drawn = splats if bool(kept.all()) else splats.subset(kept)
    _tell_of_lengths(drawn, path)
    if len(drawn) < len(splats):
        left_out = len(splats) - len(drawn)
        terminal.warn(
            f"{path.name}: {left_out} of {len(splats)} splats are left out: {broken} with numbers "
            f"that are not finite, {left_out - broken} fainter than 1/255."
        )
    return drawn


def _tell_of_lengths(splats: Splats, path: Path) -> None:
    """Say where numbers look like what 3DGS keeps the logarithm or the logit of: exporters forget to take it."""
    extent = float(splats.means.std(dim=0).max()) if len(splats) > 1 else 0.0
    if bool((splats.scales.amax(dim=1) >= 0).all()) and float(splats.scales.exp().amax(dim=1).median()) > extent > 0:
        terminal.warn(
            f"{path.name}: its splats are as large as all that they show: its scales seem to be lengths, of "
            "which 3DGS keeps the logarithm. Write it again with log(scale)."
        )
    if len(splats) > 1 and bool(((splats.opacities >= 0) & (splats.opacities <= 1)).all()):
        terminal.warn(
            f"{path.name}: all its opacities are between 0 and 1: they seem to be no logits, which 3DGS keeps. "
            "Write it again with log(opacity / (1 - opacity))."
        )


def run_setting(run: Path, name: str) -> str | None:
    """A setting of a run's model as its config.yml says it, without making a configuration of it.

    Args:
        run: its folder.
        name: of the setting, with dots where it is one of a part of the model.

    Returns:
        the text, or None where there is no config.yml or no such setting.
    """
    path = run / "config.yml"
    if not path.is_file():
        return None
    with reading(path, "a config.yml of Nerfstudio"):
        node: Any = _composed(read_bytes(path, _LARGEST_CONFIG).decode("utf-8"))
        for key in ("pipeline", "model", *name.split(".")):
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            node = next((value for known, value in pairs if known.value == key), None)
        return node.value if isinstance(node, yaml.ScalarNode) else None


@lru_cache(maxsize=1)
def _composed(text: str) -> yaml.Node | None:
    """A config's nodes. Several settings are asked for, and PyYAML takes a tenth of a second for each reading."""
    return yaml.compose(text, Loader=yaml.SafeLoader)


def take_over(config: SplatfactoModelConfig, geometry: Path, trained: Splats) -> None:
    """Let a model draw a trained splat as it was trained to be drawn, and say what changes by it.

    Args:
        config: of the model; its rasterize mode and background are set.
        geometry: where the splat is from.
        trained: the splat.
    """
    if trained.rasterize_mode == "antialiased" and config.rasterize_mode == "classic":
        terminal.say(f"{geometry} was trained with --rasterize-mode antialiased: it is drawn that way here, too.")
        config.rasterize_mode = "antialiased"
    if trained.sh_degree > config.sh_degree:
        terminal.warn(
            f"{geometry} has colors of SH degree {trained.sh_degree}, which are cut to --sh-degree "
            f"{config.sh_degree}: what depends on the direction of view looks different."
        )
    if is_splat_file(geometry):
        return
    run = geometry if geometry.is_dir() else geometry.parent
    if run_setting(run, "rasterize_mode") == "classic" and config.rasterize_mode == "antialiased":
        terminal.warn(f"{geometry} was trained without antialiasing: with it, splats look too thick.")
    background = run_setting(run, "background_color")
    if background in ("white", "black") and config.background_color == "random":
        terminal.say(f"{geometry} was trained on {background}: that is the background here, too.")
        config.background_color = cast(Literal["white", "black"], background)


CameraCorrections = tuple[Literal["SO3xR3", "SE3"], Tensor]
"""How cameras are corrected, and by how much: [views, 6]."""


def camera_corrections(geometry: Path, views: int, metadata: dict[str, Any]) -> CameraCorrections | None:
    """What the camera optimizer of the run that a geometry comes from has made of the training views' poses.

    The geometry fits those poses, and not the ones that the scene has.

    Args:
        geometry: as for `load_geometry`.
        views: how many training views there are here.
        metadata: of the dataset here.

    Returns:
        None for a PLY, without a camera optimizer, or where they are of other views, which is told.
    """
    if is_splat_file(geometry):
        return None
    run = geometry if geometry.is_dir() else geometry.parent
    mode = run_setting(run, "camera_optimizer.mode")
    if mode not in ("SO3xR3", "SE3"):
        return None
    checkpoint, content = read_latest(run)
    with reading(checkpoint, "a checkpoint of Splatfacto"):
        found = content.get("pipeline", {}).get("_model.camera_optimizer.pose_adjustment")
        if found is None:
            return None
        corrections = found.float().reshape(-1, 6).clone()
        if not bool(corrections.isfinite().all()):
            raise GsegError(f"{checkpoint} has corrections of cameras that are not finite: train that run again")
    if len(corrections) != views:
        terminal.warn(
            f"{geometry} was trained with corrected poses of {len(corrections)} views, and there are {views} "
            "training views here: they cannot be taken over, so that masks lie a little beside what they show."
        )
        return None
    theirs = run_frame(run)
    if theirs is not None and "dataparser_scale" in metadata:
        corrections[:, :3] *= _scene_frame(metadata)[1] / theirs[1]
    terminal.say(f"{geometry} was trained with corrected poses of its cameras ({mode}): they are used here, too.")
    return cast(Literal["SO3xR3", "SE3"], mode), corrections
