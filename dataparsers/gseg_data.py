"""`gseg-data`: a Nerfstudio folder or a COLMAP folder, taken as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.data.utils.dataparsers_utils import get_train_eval_split_fraction
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from gseg_ns import terminal
from gseg_ns.captures.capture import Capture, Frame, scale_of
from gseg_ns.captures.photographs import Photographs
from gseg_ns.captures.reading import Cloud, read_capture, with_files
from gseg_ns.errors import GsegError
from gseg_ns.reading import reading

_FARTHEST = 1e12
"""Units of a capture: no scene reaches as far, and single precision goes to 1e38 only."""
_STRAY = 100
"""Times the usual distance of a camera from the middle of all: no path around a scene has one so far away."""


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
    """COLMAP model to take cameras and points from, relative to the scene, also where there is a transforms.json.
    Unset: the one with most photographs."""
    load_3D_points: bool = True
    """Start from the scene's sparse points."""
    background_points: int = 0
    """Also start from this many grey points around the sparse ones: for captures whose points show an object alone, so
    that the background need not grow out of it."""
    photometric_path: Path | None = None
    """Folder of photometric masks of a COLMAP scene, relative to it: PNGs named as the photographs."""
    needs_photographs: tyro.conf.Suppress[bool] = True
    """Whether the scene must be whole: without it, photographs or all of it may be gone."""
    has_cameras: tyro.conf.Suppress[bool] = True
    """Whether there is a scene at all: a result may have been made without one."""


_UNREAD = (
    "depths_path",
    "mask_color",
    "downscale_rounding_mode",
    "max_2D_matches_per_3D_point",
    "depth_unit_scale_factor",
)
"""Options of Nerfstudio's parsers about what no splat is trained on."""


def as_gseg_data(config: DataParserConfig) -> DataParserConfig:
    """What reads a scene for which `nerfstudio-data` or `colmap` was named: ours, with their options.

    Theirs ask questions on the terminal, and stop at what other tools write with the tracebacks of programs.

    Args:
        config: of any dataparser; others than these two are given back.

    Raises:
        GsegError: an option has no counterpart.
    """
    if not isinstance(config, ColmapDataParserConfig | NerfstudioDataParserConfig):
        return config
    defaults = type(config)()
    given = {entry.name: getattr(config, entry.name) for entry in fields(config) if entry.name != "_target"}
    ours = {entry.name for entry in fields(GsegDataParserConfig)}
    taken = {name: value for name, value in given.items() if name in ours}
    ignored = [name for name in _UNREAD if name in given and given[name] != getattr(defaults, name)]
    if ignored:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in ignored)
        _tell(f"{names}: not used, splats are not trained on that.")
    if isinstance(config, ColmapDataParserConfig):
        if not config.assume_colmap_world_coordinate_convention and config.orientation_method == "none":
            raise GsegError(
                "--assume-colmap-world-coordinate-convention False with --orientation-method none is not known here: "
                "leave one of them out"
            )
        if config.colmap_path == type(config)().colmap_path:
            taken["colmap_path"] = Path()  # the largest model, wherever it is
        taken["photometric_path"] = config.masks_path
    return GsegDataParserConfig(**taken)


class GsegDataParser(DataParser):
    """Reads a scene by `gseg_ns.captures` and gives it to Nerfstudio in its normalised frame.

    Nerfstudio's own parsers ask questions on the terminal, and stop at what other tools write with the asserts and
    tracebacks of programs.
    """

    config: GsegDataParserConfig
    downscale_factor: int | None = None
    """Set to 1 by the datamanager when no images will be read."""

    def __init__(self, config: GsegDataParserConfig) -> None:
        super().__init__(config)
        self._read: tuple[Capture, Cloud | None] | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **_: Any) -> DataparserOutputs:
        if not self.config.has_cameras:
            return absent_scene(self.config.data, "it has no cameras")
        if self.config.needs_photographs:
            return self._outputs(split)
        try:
            return self._outputs(split)
        except GsegError as error:
            if split == "train":
                terminal.warn(f"The run is loaded without its scene: {error}")
            return absent_scene(self.config.data, str(error))

    def _outputs(self, split: str) -> DataparserOutputs:
        with reading(self.config.data, "a scene"):
            return self._read_outputs(split)

    def _read_outputs(self, split: str) -> DataparserOutputs:
        data = self.config.data
        if self._read is None:
            if not data.exists():
                raise GsegError(f"{data} does not exist: give the scene folder with --data")
            root = data if data.is_dir() else data.parent
            capture, cloud = read_capture(data, _tell, self.config.images_path, self.config.colmap_path)
            if self.config.photometric_path is not None:
                capture = _with_photometric(capture, root, self.config.images_path, self.config.photometric_path)
            tell_strays(capture, _tell)
            self._read = with_files(capture, root, self.downscale_factor or self.config.downscale_factor, _tell), cloud
        capture, cloud = self._read
        if self.config.needs_photographs:
            missing = [frame.path for frame in capture.frames if not frame.path.is_file()]
            if missing:
                other = Photographs(data if data.is_dir() else data.parent).in_another_format(str(missing[0]))
                if other is not None:
                    raise GsegError(
                        f"{missing[0]} does not exist, and {other} is of a format that is not read: convert the "
                        "photographs to JPEG (ns-process-data does so)"
                    )
                raise GsegError(
                    f"{missing[0]} does not exist ({len(missing)} images of {data} are missing): copy them there, "
                    f"remove their frames from {_shown(capture.source, data)}, or name the folder that they are in "
                    "with --images-path (ns-train ... gseg-data --images-path DIR)"
                )
        chosen = self._split(capture, split)
        if not chosen:
            raise GsegError(
                f"{data} has no images in its {split} split: choose another --eval-mode, --eval-interval or "
                "--train-split-fraction, or change the scene's lists"
            )
        return self._normalised(capture, cloud, chosen)

    def _split(self, capture: Capture, split: str) -> list[int]:
        """The frames of a split: as the scene says, else by `eval_mode`."""
        said = capture.splits
        everything = list(range(len(capture.frames)))
        if split in said:
            return said[split]
        if said:
            if split == "train":
                held_out = {index for indices in said.values() for index in indices}
                return [index for index in everything if index not in held_out]
            other = next((name for name in ("test", "val") if name in said), None)
            if other is not None:
                return said[other]
            return [index for index in everything if index not in said["train"]] or everything
        config = self.config
        if config.eval_mode == "all":
            return everything
        if config.eval_mode == "filename":
            wanted = "train" if split == "train" else "eval"
            return [index for index, frame in enumerate(capture.frames) if wanted in frame.path.name]
        if config.eval_mode == "interval":
            if config.eval_interval < 2:
                raise GsegError(f"--eval-interval is {config.eval_interval}: it must be at least 2")
            train = [index for index in everything if index % config.eval_interval]
        else:
            if not 0 < config.train_split_fraction <= 1:
                raise GsegError(f"--train-split-fraction is {config.train_split_fraction}: give a part, up to 1")
            train = get_train_eval_split_fraction(everything, config.train_split_fraction)[0].tolist()
        # Nine tenths of a few photographs are all of them: then those that train are looked at, too.
        return train if split == "train" else sorted(set(everything) - set(train)) or everything

    def _normalised(self, capture: Capture, cloud: Cloud | None, chosen: list[int]) -> DataparserOutputs:
        """Some frames in Nerfstudio's frame: all cameras oriented, centred and scaled."""
        config = self.config
        poses = np.stack([frame.pose for frame in capture.frames])
        if not (np.abs(poses) < _FARTHEST).all() or not (np.abs(capture.from_original) < _FARTHEST).all():
            raise GsegError(f"{capture.source} has a camera or a frame that is beyond all scenes: make it again")
        far = poses[:, :3, 3].mean(axis=0)
        extent = np.ptp(poses[:, :3, 3], axis=0).max()
        # Coordinates of a country's grid have no digits left for a scene in single precision.
        shift = far if config.center_method != "none" and np.abs(far).max() > 1000 * extent else np.zeros(3)
        poses[:, :3, 3] -= shift
        oriented, matrix = auto_orient_and_center_poses(
            torch.from_numpy(poses.astype(np.float32)),
            method=capture.orientation or config.orientation_method,  # type: ignore[arg-type]
            center_method=config.center_method,
        )
        scale = 1.0
        if config.auto_scale_poses:
            reach = float(oriented[:, :3, 3].abs().max())
            if reach == 0:
                raise GsegError(
                    f"All cameras of {capture.source} stand in one place: depth cannot be seen from there. Take "
                    "photographs from around the scene"
                )
            scale /= reach
        scale *= config.scale_factor
        oriented = oriented[chosen, :3, :4].clone()
        oriented[:, :3, 3] *= scale
        to_output = np.eye(4)
        to_output[:3] = matrix.double().numpy()
        to_output[:3, 3] -= to_output[:3, :3] @ shift
        frames = [capture.frames[index] for index in chosen]
        metadata: dict[str, Any] = {}
        if config.load_3D_points and cloud is not None and len(cloud[0]):
            # Tools write points that they could not place as NaN.
            # Or so far away that single precision has no number for it.
            placed = (np.abs(cloud[0]) < _FARTHEST).all(axis=1)
            xyz = scale * (cloud[0][placed] @ to_output[:3, :3].T + to_output[:3, 3])
            rgb = np.full(xyz.shape, 128, dtype=np.uint8) if cloud[1] is None else cloud[1][placed]
            metadata = {"points3D_xyz": torch.from_numpy(xyz).float(), "points3D_rgb": torch.from_numpy(rgb.copy())}
        whole = to_output @ capture.from_original
        original_scale = scale_of(capture.from_original)
        transform = torch.from_numpy(whole[:3] / original_scale).float()
        masks = [frame.mask for frame in frames]
        outputs = DataparserOutputs(
            image_filenames=[frame.path for frame in frames],
            cameras=_cameras(frames, oriented, capture.crop_radius),
            scene_box=SceneBox(config.scene_scale * torch.tensor([[-1.0] * 3, [1.0] * 3])),
            mask_filenames=masks if any(masks) else None,  # type: ignore[arg-type]
            dataparser_scale=scale * original_scale,
            dataparser_transform=transform,
            metadata=metadata,
        )
        if config.background_points:
            _add_background(outputs, config.background_points)
        outputs.metadata["dataparser_transform"] = outputs.dataparser_transform
        outputs.metadata["dataparser_scale"] = outputs.dataparser_scale
        return outputs


def tell_strays(capture: Capture, tell: Callable[[str], None]) -> None:
    """Tell of cameras far away from all others, where a reconstruction failed: the scene is scaled by them."""
    places = np.stack([frame.pose[:3, 3] for frame in capture.frames])
    distances = np.linalg.norm(places - np.median(places, axis=0), axis=1)
    strays = np.flatnonzero(distances > _STRAY * np.median(distances))
    if len(strays) and np.median(distances) > 0:
        first = capture.frames[strays[0]].name
        others = "" if len(strays) == 1 else f" and of {len(strays) - 1} more"
        tell(
            f"{capture.source}: the camera of {first}{others} stands {distances[strays[0]] / np.median(distances):.0f} "
            "times as far from the middle as most. The scene is scaled by it: take it out if it is a failure."
        )


def _with_photometric(capture: Capture, root: Path, images: Path, masks: Path) -> Capture:
    """A capture whose frames have the photometric masks of a folder."""
    frames = []
    for frame in capture.frames:
        below = frame.path.is_relative_to(root / images)
        inner = frame.path.relative_to(root / images) if below else Path(frame.path.name)
        names = (root / masks / inner.with_suffix(".png"), root / masks / f"{inner}.png")
        frames.append(replace(frame, mask=next((path for path in names if path.is_file()), None)))
    if not any(frame.mask for frame in frames):
        raise GsegError(f"{root / masks}, given with --masks-path, has no PNG that is named as a photograph.")
    return replace(capture, frames=frames)


def _shown(source: Path, data: Path) -> Path:
    """What the account of a scene is called: its path below the scene."""
    return source.relative_to(data) if source != data and source.is_relative_to(data) else source


def _tell(text: str) -> None:
    terminal.warn(text)


def _cameras(frames: list[Frame], poses: torch.Tensor, crop_radius: float | None) -> Cameras:
    """Nerfstudio's cameras [N] of frames; poses [N, 3, 4]."""
    lenses = [frame.lens for frame in frames]
    kinds = {lens.kind for lens in lenses}
    if "fisheye624" in kinds and len(kinds) > 1:
        raise GsegError(f"{frames[0].name} and others mix FISHEYE624 with other camera models: split the scene")
    types = {"perspective": CameraType.PERSPECTIVE, "fisheye": CameraType.FISHEYE, "fisheye624": CameraType.FISHEYE624}

    def column(name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor([[getattr(lens, name)] for lens in lenses], dtype=dtype)

    return Cameras(
        fx=column("fx"),
        fy=column("fy"),
        cx=column("cx"),
        cy=column("cy"),
        width=column("width", torch.int32),
        height=column("height", torch.int32),
        distortion_params=torch.tensor([lens.distortion for lens in lenses], dtype=torch.float32),
        camera_to_worlds=poses,
        camera_type=torch.tensor([[types[lens.kind].value] for lens in lenses], dtype=torch.int64),
        metadata={"fisheye_crop_radius": crop_radius} if "fisheye624" in kinds and crop_radius is not None else {},
    )


def absent_scene(data: Path, why: str) -> DataparserOutputs:
    """What stands in for a scene that is not there: one camera, which looks at the middle of what there was."""
    pose = torch.tensor([[[1.0, 0, 0, 0], [0, 0, -1, -1], [0, 1, 0, 0]]])
    return DataparserOutputs(
        image_filenames=[data / "absent"],
        cameras=Cameras(pose, fx=256.0, fy=256.0, cx=160.0, cy=120.0, width=320, height=240),
        scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])),
        metadata={"absent": why},
    )


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
    colors = outputs.metadata["points3D_rgb"]
    outputs.metadata["points3D_rgb"] = torch.cat([colors, torch.full_like(colors[:1], 128).expand(count, 3)])


gseg_data = DataParserSpecification(
    config=GsegDataParserConfig(), description="Posed images with 2D masks: a Nerfstudio or a COLMAP folder"
)
