"""`gseg-data`: a Nerfstudio folder or a COLMAP folder, taken as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from gseg_ns.errors import GsegError

COLMAP_FOLDERS = ("sparse/0", "colmap/sparse/0", "sparse", "colmap/sparse")
"""Where a COLMAP model is looked for, in this order."""


@dataclass
class GsegDataParserConfig(DataParserConfig):
    """Posed images in Nerfstudio's format (`transforms.json`) or as a COLMAP model, told apart by what is there."""

    _target: type = field(default_factory=lambda: GsegDataParser)
    data: Path = Path()
    """Scene folder, or a transforms.json."""
    scale_factor: float = 1.0
    """How much to scale the camera origins by."""
    downscale_factor: int | None = None
    """Use the images of the folder images_N. Unset: the largest that is at most 1600 pixels wide, if there is one."""
    scene_scale: float = 1.0
    """How much to scale the region of interest by."""
    orientation_method: Literal["pca", "up", "vertical", "none"] = "up"
    """The method to use for orientation."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """The method to use to center the poses."""
    auto_scale_poses: bool = True
    """Whether to automatically scale the poses to fit in a +/- 1 bounding box."""
    eval_mode: Literal["fraction", "filename", "interval", "all"] = "interval"
    """How to split into train and eval where the scene does not say (train_filenames, train_list.txt)."""
    train_split_fraction: float = 0.9
    """The fraction of images to use for training, with eval_mode fraction."""
    eval_interval: int = 8
    """Every nth image is for evaluation, with eval_mode interval."""
    images_path: Path = Path("images")
    """Image folder of a COLMAP scene, relative to the scene."""
    colmap_path: Path | None = None
    """COLMAP model, relative to the scene. Unset: sparse/0, colmap/sparse/0, sparse or colmap/sparse."""
    load_3D_points: bool = True
    """Start from the scene's sparse points."""
    background_points: int = 0
    """Also start from this many grey points around the sparse ones: for captures whose points show an object alone, so
    that the background need not grow out of it."""


class GsegDataParser(DataParser):
    """Chooses Nerfstudio's own parser for the folder and mends what stops an unattended run.

    Those parsers ask questions on the terminal for folders without a point cloud and for large images, and refuse a
    scene that names `train` and `test` images but no `val` ones.
    """

    config: GsegDataParserConfig
    downscale_factor: int | None = None
    """Set to 1 by the datamanager when no images will be read."""

    def _generate_dataparser_outputs(self, split: str = "train", **_: Any) -> DataparserOutputs:
        data = self.config.data
        if not data.exists():
            raise GsegError(f"{data} does not exist: give the scene folder with --data")
        transforms = data if data.suffix == ".json" else data / "transforms.json"
        if transforms.exists():
            outputs = self._nerfstudio(transforms, split)
        else:
            outputs = self._colmap(split)
        if not outputs.image_filenames:
            raise GsegError(f"{data} has no images in its {split} split")
        missing = [path for path in outputs.image_filenames if not path.exists()]
        if missing:
            raise GsegError(f"{missing[0]} does not exist ({len(missing)} images of {data} are missing)")
        if self.config.background_points:
            _add_background(outputs, self.config.background_points)
        outputs.metadata["dataparser_transform"] = outputs.dataparser_transform
        outputs.metadata["dataparser_scale"] = outputs.dataparser_scale
        return outputs

    def _shared(self) -> dict[str, Any]:
        """Fields that both parsers understand."""
        names = (
            "data scale_factor scene_scale orientation_method center_method auto_scale_poses eval_mode "
            "train_split_fraction eval_interval"
        )
        return {name: getattr(self.config, name) for name in names.split()}

    def _nerfstudio(self, transforms: Path, split: str) -> DataparserOutputs:
        try:
            meta = json.loads(transforms.read_text(encoding="utf-8"))
            frames = meta["frames"]
        except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise GsegError(f"{transforms} is not a Nerfstudio transforms.json ({error})") from error
        if len(frames) < 2:
            raise GsegError(f"{transforms} lists {len(frames) or 'no'} frames: objects need at least 2 views")
        if f"{split}_filenames" not in meta:
            split = next(
                (other for other in ("test", "val") if split != "train" and f"{other}_filenames" in meta), split
            )
        has_points = "ply_file_path" in meta
        if has_points and self.config.load_3D_points and not (transforms.parent / meta["ply_file_path"]).exists():
            raise GsegError(f"{transforms.parent / meta['ply_file_path']}, named in {transforms}, does not exist")
        parser = NerfstudioDataParserConfig(
            **self._shared(),
            downscale_factor=self.config.downscale_factor,
            load_3D_points=self.config.load_3D_points and has_points,
        ).setup()
        if self.downscale_factor is not None:
            parser.downscale_factor = self.downscale_factor
        outputs = parser._generate_dataparser_outputs(split)
        model = self._find_colmap()
        if self.config.load_3D_points and not has_points and model is not None:
            outputs.metadata.update(_colmap_points(model, outputs))
        return outputs

    def _find_colmap(self) -> Path | None:
        """Folder of the COLMAP model, if there is one."""
        data = self.config.data if self.config.data.is_dir() else self.config.data.parent
        folders = [self.config.colmap_path] if self.config.colmap_path else [Path(name) for name in COLMAP_FOLDERS]
        return next((data / folder for folder in folders if _has_model(data / folder)), None)

    def _colmap(self, split: str) -> DataparserOutputs:
        data = self.config.data
        model = self._find_colmap()
        if model is None:
            raise GsegError(
                f"{data} has neither transforms.json nor a COLMAP model ({', '.join(COLMAP_FOLDERS)}): "
                "make one with ns-process-data, or name the model with --colmap-path"
            )
        lists = {name: data / f"{name}_list.txt" for name in ("test", "val", "validation")}
        if split != "train" and not (data / f"{split}_list.txt").exists():
            split = next((name for name, path in lists.items() if path.exists()), split)
        factor = self.downscale_factor or self.config.downscale_factor
        if factor is None and not (data / f"{self.config.images_path}_2").is_dir():
            factor = 1  # Nerfstudio would ask on the terminal whether to make smaller copies.
        config = ColmapDataParserConfig(
            **self._shared(),
            downscale_factor=factor,
            images_path=self.config.images_path,
            colmap_path=model.relative_to(data),
            load_3D_points=self.config.load_3D_points,
        )
        return config.setup()._generate_dataparser_outputs(split)


def _has_model(folder: Path) -> bool:
    return any((folder / f"cameras{suffix}").exists() for suffix in (".bin", ".txt"))


def _add_background(outputs: DataparserOutputs, count: int) -> None:
    """Add points in all directions, from where the sparse points end to four times as far as the cameras are.

    Equally many at each order of distance, since what is far needs no more Gaussians than what is near.

    Raises:
        GsegError: a negative number, or no sparse points to lie around.
    """
    if count < 0:
        raise GsegError(f"--background-points is {count}: give how many to add, or 0 for none")
    points = outputs.metadata.get("points3D_xyz", torch.zeros((0, 3)))
    centre = points.mean(dim=0)
    inner = float((points - centre).norm(dim=1).quantile(0.95)) if len(points) else 0.0
    if inner == 0.0:
        raise GsegError(
            f"--background-points lie around the scene's sparse points, of which there are {len(points)} "
            "(or all in one place): leave the option out"
        )
    positions = outputs.cameras.camera_to_worlds[:, :3, 3]
    outer = max(4 * float((positions - centre).norm(dim=1).max()), 1.01 * inner)
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn((count, 3), generator=generator), dim=1)
    distance = inner * (outer / inner) ** torch.rand((count, 1), generator=generator)
    outputs.metadata["points3D_xyz"] = torch.cat([points, (centre + direction * distance).to(points)])
    colours = outputs.metadata["points3D_rgb"]
    outputs.metadata["points3D_rgb"] = torch.cat([colours, torch.full_like(colours[:1], 128).expand(count, 3)])


def _colmap_points(model: Path, outputs: DataparserOutputs) -> dict[str, torch.Tensor]:
    """Read a COLMAP model's points into the parser's frame, as Nerfstudio does after rewriting the scene folder."""
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    if (model / "points3D.bin").exists():
        points = colmap.read_points3D_binary(model / "points3D.bin")
    elif (model / "points3D.txt").exists():
        points = colmap.read_points3D_text(model / "points3D.txt")
    else:
        return {}
    if not points:
        return {}
    xyz = torch.from_numpy(np.array([point.xyz for point in points.values()], dtype=np.float32))
    rgb = torch.from_numpy(np.array([point.rgb for point in points.values()], dtype=np.uint8))
    transform = outputs.dataparser_transform.to(xyz)
    xyz = (xyz @ transform[:3, :3].T + transform[:3, 3]) * outputs.dataparser_scale
    return {"points3D_xyz": xyz, "points3D_rgb": rgb}


gseg_data = DataParserSpecification(
    config=GsegDataParserConfig(), description="Posed images with 2D masks: a Nerfstudio or a COLMAP folder"
)
