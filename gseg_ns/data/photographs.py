"""The one place where pixels of a photograph and of the view that is trained on meet.

Nerfstudio trains on undistorted, cropped copies of the photographs. Whatever else a user has (masks, ground truth,
marks, overlays) lies on the photographs themselves, and is carried over here.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers import full_images_datamanager
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.data.lenses import BrownLens, FisheyeLens, Lens, Pinhole, SampledLens
from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet
from gseg_ns.masks.images import mask_keys, read_image
from gseg_ns.masks.orientation import Size, exif_orientation, fits_upright_alone, mask_index, same_proportions
from gseg_ns.pictures import resized

if TYPE_CHECKING:
    from gseg_ns.data.datamanager import MaskDatamanager

_WIDEST = 2.0
"""A view that shows all of a photograph is at most this many times as wide and as high as the one trained on."""
_FINEST = 3
"""Places within a pixel of a view, along each side, at which pixels of a photograph are drawn."""
_COARSE_PIXELS = 1_500_000
"""Pixels of a view from which on its own are fine enough."""

Drawn = Mapping[str, Tensor]
"""Label maps [H, W] and pictures [H, W, C] of a view."""


@dataclass(frozen=True)
class Photograph:
    """A photograph of a scene and the view that is made of it."""

    path: Path
    size: Size
    """Height and width as training reads it, before undistortion."""
    view_size: Size
    """Height and width of the view."""
    lens: Lens | None = None
    """None: photograph and view are the same pixels."""

    @cached_property
    def orientation(self) -> int:
        """EXIF's, see `gseg_ns.masks.orientation`."""
        return exif_orientation(self.path)

    # ------------------------------------------------------------------------------- from the photograph to the view

    def to_view(self, labels: Tensor, source: Path | str = "the label map", upright: bool = False) -> Tensor:
        """A label map of the photograph as one of the view.

        Args:
            labels: [h, w] of the photograph's proportions, or of those of its upright copy; any size.
            source: what to call it in a message.
            upright: see `gseg_ns.masks.orientation.mask_index`.

        Returns:
            [H, W] of the view's size; 0 where the photograph has no such pixel.

        Raises:
            GsegError: it cannot be of this photograph.
        """
        if not bool(labels.any()):  # such as the single pixel that stands for a list of no masks
            return labels.new_zeros(self.view_size)
        index = self._index((labels.shape[0], labels.shape[1]), source, upright)
        if index is None:
            return labels
        index = index.to(labels.device)
        return torch.where(index < 0, labels.new_zeros(()), labels.flatten()[index.clamp_min(0)])

    def truth(self, labels: Tensor, source: Path | str = "the ground truth", upright: bool = False) -> Tensor:
        """As `to_view`; but at its own size, which may be finer than the view, where the lens does not distort."""
        if self.lens is not None:
            return self.to_view(labels, source, upright)
        same = replace(self, size=_largest_copy(labels, self.size, self.orientation))
        return replace(same, view_size=same.size).to_view(labels, source, upright)

    def scored(self, labels: Tensor, source: Path | str = "the ground truth", upright: bool = False) -> Tensor:
        """Ground truth on the photograph's own pixels, with which `draw` is compared; 0 where no view shows them.

        Scores lose what is taken to other pixels: with nearest neighbours, half a pixel at every border.
        """
        if self.lens is None:
            return self.truth(labels, source, upright)
        stored = replace(self, view_size=self.size, lens=None).to_view(labels, source, upright)
        index = _view_pixels(self.lens, self.size, self.view_size).to(labels.device)
        return torch.where(index < 0, stored.new_zeros(()), stored)

    def masks_to_view(self, masks: MaskSet, source: Path | str = "the masks", upright: bool = False) -> MaskSet:
        """Overlapping masks of the photograph as masks of the view, see `to_view`."""
        if len(masks) == 0:
            return MaskSet(*self.view_size)
        index = self._index((masks.height, masks.width), source, upright)
        return masks if index is None else masks.remap(index)

    def stored_masks(self, masks: MaskSet, source: Path | str = "the masks", upright: bool = False) -> MaskSet:
        """Overlapping masks on the photograph's own pixels, see `to_view`."""
        return replace(self, view_size=self.size, lens=None).masks_to_view(masks, source, upright)

    def check_mask(self, size: Size, source: Path | str, upright: bool = False) -> None:
        """Refuse a mask of a size that cannot be of this photograph.

        Raises:
            GsegError: it cannot.
        """
        mask_index(source, size, self.size, self.orientation, upright)

    def points_to_view(self, points: Tensor) -> Tensor:
        """Points [P, 2] of the photograph, pixels x, y, as points of the view; NaN where no view shows them."""
        if self.lens is None:
            return points
        return torch.from_numpy(self.lens.undistort(points.double().numpy())).to(points.dtype)

    def points_to_photo(self, points: Tensor) -> Tensor:
        """Points [P, 2] of the view, pixels x, y, as points of the photograph; NaN for what it does not show."""
        if self.lens is None:
            return points
        on_view = points.double().cpu().numpy()
        found = self.lens.distort(on_view)
        # Beyond the photograph's border a lens may fold back: another direction is seen at that point.
        with np.errstate(invalid="ignore"):
            same = np.abs(self.lens.undistort(np.nan_to_num(found)) - on_view).max(axis=1, initial=0.0) < 1.5
            shown = ((found >= 0) & (found <= self.size[::-1])).all(axis=1) & same
        return torch.from_numpy(np.where(shown[:, None], found, np.nan)).to(points)

    def _index(self, size: Size, source: Path | str, upright: bool) -> Tensor | None:
        """The pixel of a mask of a size for each pixel of the view, -1 for none; None where they are the same."""
        on_photo = mask_index(source, size, self.size, self.orientation, upright)
        if self.lens is None:
            return on_photo
        on_view = _photo_pixels(self.lens, self.size, self.view_size)
        if on_photo is None:
            return on_view
        return torch.where(on_view < 0, -1, on_photo.flatten()[on_view.clamp_min(0)])

    # ------------------------------------------------------------------------------- from the view to the photograph

    def draw(self, camera: Cameras, drawn: Callable[[Cameras], Drawn]) -> dict[str, Tensor]:
        """Label maps and pictures on the pixels of the photograph.

        A view has a pixel near each of the photograph's and not at it. So it is drawn several times, moved by a part of
        a pixel each time, and of them that is taken whose pixel is nearest: borders are off by a sixth of a pixel at
        most where those of one view are by a half.

        Args:
            camera: [1] of the view.
            drawn: what to draw, of a camera [1].

        Returns:
            by name, [h, w] or [h, w, C]; 0 where the view shows nothing.
        """
        if self.lens is None:
            return dict(drawn(camera))
        steps = min(_FINEST, math.ceil(math.sqrt(_COARSE_PIXELS / (self.view_size[0] * self.view_size[1]))))
        index = _view_pixels(self.lens, self.size, self.view_size)
        place = _places(self.lens, self.size, steps)
        found: dict[str, Tensor] = {}
        for number in range(steps * steps):
            row, column = divmod(number, steps)
            moved = camera[:]
            moved.cx = camera.cx + 0.5 - (column + 0.5) / steps
            moved.cy = camera.cy + 0.5 - (row + 0.5) / steps
            moved.metadata = camera.metadata
            here = (place == number) & (index >= 0)
            for name, picture in drawn(moved).items():
                on, taken = here.to(picture.device), index[here].to(picture.device)
                if name not in found:
                    found[name] = picture.new_zeros((*self.size, *picture.shape[2:]))
                found[name][on] = picture.reshape(-1, *picture.shape[2:])[taken]
        return found

    def of_view(self) -> Photograph:
        """As if the view were the photograph: for what has the view's pixels already."""
        return replace(self, size=self.view_size, lens=None)

    def whole(self, camera: Cameras) -> tuple[Photograph, Cameras]:
        """A view that shows all of the photograph, of which undistortion cuts off the borders.

        Args:
            camera: [1] of the view.

        Returns:
            the photograph with that view, and its camera [1]: the same pixels and more around them.
        """
        if self.lens is None:
            return self, camera
        left, top, right, bottom = self._extent(self.lens)
        wider = replace(self, view_size=(bottom - top, right - left), lens=self.lens.shifted(left, top))
        moved = camera[:]
        moved.cx, moved.cy = camera.cx - left, camera.cy - top
        moved.width = torch.full_like(camera.width, right - left)
        moved.height = torch.full_like(camera.height, bottom - top)
        return wider, moved

    def _extent(self, lens: Lens) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the photograph in pixels of the view."""
        (height, width), (view_height, view_width) = self.size, self.view_size
        x, y = np.linspace(0, width, 65), np.linspace(0, height, 65)
        border = np.concatenate(
            [np.stack([x, np.full_like(x, edge)], axis=1) for edge in (0, height)]
            + [np.stack([np.full_like(y, edge), y], axis=1) for edge in (0, width)]
        )
        found = lens.undistort(border)
        known = np.isfinite(found).all(axis=1)
        low, high = np.zeros(2), np.array([view_width, view_height], dtype=float)
        if known.any():
            low, high = np.minimum(low, found[known].min(axis=0)), np.maximum(high, found[known].max(axis=0))
        beyond = (_WIDEST - 1) / 2 * np.array([view_width, view_height])
        if not known.all() and not isinstance(lens, SampledLens):  # the border is farther than any pinhole sees
            low, high = -beyond, np.array([view_width, view_height]) + beyond
        low = np.maximum(np.floor(low), np.floor(-beyond))
        high = np.minimum(np.ceil(high), np.ceil(np.array([view_width, view_height]) + beyond))
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def read(self) -> Tensor:
        """The photograph itself, uint8 [h, w, 3] of `size`.

        Raises:
            GsegError: it is missing or damaged.
        """
        from PIL import Image

        pixels = read_image(self.path)
        if pixels.shape[:2] != self.size:
            pixels = np.asarray(Image.fromarray(pixels).resize(self.size[::-1], Image.Resampling.BOX))
        return torch.from_numpy(np.array(pixels))


def photograph_of(path: Path, camera: Cameras) -> Photograph:
    """A photograph and the view that Nerfstudio's datamanager makes of it.

    Args:
        path: of the photograph.
        camera: [] or [1], as the dataparser gave it, before the datamanager has undistorted it.
    """
    single = camera.reshape(())
    size = int(single.height.item()), int(single.width.item())
    parameters = single.distortion_params
    if parameters is None or bool(torch.all(parameters == 0)):
        return Photograph(path, size, size)
    intrinsics = single.get_intrinsics_matrices().double().numpy()
    kind, values = int(single.camera_type.item()), tuple(float(value) for value in parameters)
    crop = (single.metadata or {}).get("fisheye_crop_radius")
    lens, view_size, _ = _lens(kind, values, tuple(intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)].tolist()), size, crop)
    return Photograph(path, size, view_size, lens)


def view_camera(camera: Cameras) -> Cameras:
    """The camera of the view that Nerfstudio's datamanager makes of a photograph, which need not be there.

    Args:
        camera: [1] as the dataparser gave it.

    Returns:
        [1]; it keeps the numbers of its lens, as Nerfstudio's do.

    Raises:
        GsegError: Nerfstudio cannot undistort photographs of this camera.
    """
    single = camera.reshape(())
    parameters = single.distortion_params
    if parameters is None or bool(torch.all(parameters == 0)):
        return camera
    intrinsics = single.get_intrinsics_matrices().double().numpy()
    size = int(single.height.item()), int(single.width.item())
    _, (height, width), (fx, fy, cx, cy) = _lens(
        int(single.camera_type.item()),
        tuple(float(value) for value in parameters),
        tuple(intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)].tolist()),
        size,
        (single.metadata or {}).get("fisheye_crop_radius"),
    )
    made = copy.deepcopy(camera)
    for name, value in {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}.items():
        setattr(made, name, torch.full_like(getattr(camera, name), value))
    return made


def view_names(scene: Path, images: Iterable[Path]) -> dict[Path, str]:
    """What the views of photographs are called: as their masks, by the path below the folder of photographs.

    Args:
        scene: folder of the scene.
        images: all photographs of it, training and test.
    """
    distinct = sorted(set(images))
    keys = mask_keys([PurePosixPath(Path(os.path.relpath(path, scene)).as_posix()) for path in distinct])
    return dict(zip(distinct, keys, strict=True))


@lru_cache(maxsize=16)
def _lens(
    kind: int, distortion: tuple[float, ...], pinhole: Pinhole, size: Size, crop_radius: float | None
) -> tuple[Lens, Size, Pinhole]:
    """The lens of a camera, and size and pinhole of the view that Nerfstudio's own undistortion makes with it."""
    height, width = size
    fx, fy, cx, cy = pinhole
    camera = Cameras(
        torch.eye(4)[:3],
        fx,
        fy,
        cx,
        cy,
        width,
        height,
        torch.tensor(distortion),
        CameraType(kind),
        metadata=None if crop_radius is None else {"fisheye_crop_radius": crop_radius},
    ).reshape(())
    # Nerfstudio changes the matrix in place.
    intrinsics = camera.get_intrinsics_matrices().numpy()
    modelled = kind in (CameraType.PERSPECTIVE.value, CameraType.FISHEYE.value)
    if modelled:
        image = np.zeros((height, width, 1), np.uint8)
    else:
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        image = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)
    try:
        new, made, _ = full_images_datamanager._undistort_image(
            camera, np.array(distortion, np.float32), {}, image, intrinsics
        )
    except (AssertionError, NotImplementedError) as error:
        raise GsegError(f"Nerfstudio cannot undistort photographs of this camera: {error}") from error
    view_size = made.shape[0], made.shape[1]
    view = tuple(float(value) for value in new[(0, 1, 0, 1), (0, 1, 2, 2)])
    assert len(view) == 4
    if not modelled:
        # The third channel is below one where the border was blended in, which spoils the coordinates.
        return SampledLens(np.where(made[..., 2:] > 0.999, made[..., :2] + 0.5, np.nan)), view_size, view
    if kind == CameraType.FISHEYE.value:
        k1, k2, k3, k4 = distortion[:4]
        return FisheyeLens(pinhole, view, (k1, k2, k3, k4)), view_size, view
    k1, k2, k3, _, p1, p2 = distortion[:6]
    return BrownLens(pinhole, view, (k1, k2, k3), (p1, p2)), view_size, view


@lru_cache(maxsize=4)
def _photo_pixels(lens: Lens, size: Size, view_size: Size) -> Tensor:
    """The photograph's pixel of each pixel of the view: int64 [H', W'] flat, -1 outside."""
    return _pixels_at(lens.distort(_centres(view_size)), size, view_size)


@lru_cache(maxsize=4)
def _view_pixels(lens: Lens, size: Size, view_size: Size) -> Tensor:
    """The view's pixel of each pixel of the photograph: int64 [H, W] flat, -1 outside."""
    return _pixels_at(lens.undistort(_centres(size)), view_size, size)


@lru_cache(maxsize=4)
def _places(lens: Lens, size: Size, steps: int) -> Tensor:
    """Where in its pixel of the view each pixel of the photograph lies: int64 [H, W], row times `steps` plus column."""
    points = np.nan_to_num(lens.undistort(_centres(size)))
    column, row = ((points - np.floor(points)) * steps).astype(np.int64).clip(0, steps - 1).T
    return torch.from_numpy((row * steps + column).reshape(size))


def _centres(size: Size) -> np.ndarray:
    y, x = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _pixels_at(points: np.ndarray, size: Size, shape: Size) -> Tensor:
    """Flat indices into an image of `size` of points [P, 2], -1 outside, in the shape of the image they come from."""
    height, width = size
    inside = (points >= 0).all(axis=1) & (points[:, 0] < width) & (points[:, 1] < height)
    known = np.where(inside[:, None], points, 0).astype(np.int64)
    return torch.from_numpy(np.where(inside, known[:, 1] * width + known[:, 0], -1).reshape(shape))


def _largest_copy(labels: Tensor, size: Size, orientation: int) -> Size:
    """The size of a photograph at the scale of a label map of it."""
    height, width = labels.shape
    if fits_upright_alone((height, width), size, orientation):
        return width, height
    return (height, width) if same_proportions((height, width), size) else size


def view_colors(data: MaskDatamanager, view: int, height: int, width: int) -> Tensor | None:
    """The colors of a training view at a size: [height, width, 3] uint8 on the CPU, without the lens' distortion.

    What is transparent is gray, which is seldom an object's color. None where its photograph is gone, or damaged, of
    which a warning tells: for what colors are only of help.
    """
    path = Path(data.train_dataset.image_filenames[view])
    if not path.is_file():
        return None
    try:
        loaded = "cached_train" in data.__dict__
        image = (data.cached_train[view] if loaded else data.read_photograph(view))["image"].cpu()
    except (GsegError, OSError) as error:
        terminal.warn(f"{path}: done without the colors of this photograph: {error}")
        return None
    if image.shape[:2] == (height, width) and image.shape[2] == 3 and image.dtype == torch.uint8:
        return image
    floats = image.float() / 255 if image.dtype == torch.uint8 else image
    if floats.shape[2] == 4:
        alpha = floats[..., 3:]
        floats = floats[..., :3] * alpha + 0.5 * (1 - alpha)
    return (resized(floats, height, width) * 255).round().to(torch.uint8)
