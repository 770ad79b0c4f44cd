"""The photographs of a scene: which there are, what their masks are called, and how they are read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from gseg_ns.captures.photographs import FORMATS, IMAGE_SUFFIXES, Photographs
from gseg_ns.captures.transforms_json import find_transforms, read_transforms
from gseg_ns.errors import GsegError
from gseg_ns.masks.names import without_suffix
from gseg_ns.reading import check_memory, reading

if TYPE_CHECKING:
    from PIL import Image

_PHOTO_MEMORY = 7
"""Bytes a pixel while a photograph is read: Pillow has four, we have three."""

_CHOSEN = "views.json"
"""In a scene whose pictures were taken of a splat, by cameras in the order of their worth."""

_REMEDY = "Save this photograph again or remove its frame."


@dataclass(frozen=True)
class SceneImage:
    """One photograph of a scene."""

    path: Path
    """Where it is."""
    name: PurePosixPath
    """Its path relative to the scene."""
    key: str
    """Name of its mask file, without `.json`: the path below the folder of photographs, without the suffix."""


def scene_images(data: Path, images_dir: str = "images") -> list[SceneImage]:
    """The photographs of a scene, sorted by name, each once.

    Args:
        data: a Nerfstudio folder (`transforms.json`), a `transforms.json` itself, or a COLMAP folder.
        images_dir: the folder of photographs of a COLMAP scene, relative to it, subfolders included.

    Raises:
        GsegError: there is no such scene, or it has no photographs.
    """
    if not data.exists():
        raise GsegError(f"The scene {data} does not exist.")
    root = data if data.is_dir() else data.parent
    transforms = find_transforms(data)
    if transforms:
        photographs = Photographs(root)
        names = [frame["file_path"] for path in transforms for frame in read_frames(path)]
        paths = [photographs.find(name) or photographs.expected(name) for name in names]
    elif (root / images_dir).is_dir():
        paths = [path for path in (root / images_dir).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
        paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    else:
        raise GsegError(f"{root} is no scene: it has neither a transforms.json nor a folder {images_dir} (COLMAP).")
    if not paths:
        raise GsegError(f"{root} has no photographs.")
    named = {PurePosixPath(Path(os.path.relpath(path, root)).as_posix()): path for path in paths}
    keys = mask_keys(sorted(named))
    return [SceneImage(named[name], name, key) for name, key in zip(sorted(named), keys, strict=True)]


def in_path_order(data: Path, images: Sequence[SceneImage]) -> list[SceneImage]:
    """Photographs in the order of a path that leads from one to the next.

    Captures are called in the order in which they were taken. Views that were chosen for a splat are not: from each the
    path goes on to the one nearest to it, in place and direction.

    Args:
        data: the scene.
        images: of it, by name.
    """
    root = data if data.is_dir() else data.parent
    if not (root / _CHOSEN).is_file() or len(images) < 3:
        return list(images)
    poses = {}
    for path in find_transforms(data):
        for frame in read_frames(path):
            with reading(path, "a Nerfstudio scene"):
                poses[PurePosixPath(frame["file_path"])] = np.array(frame["transform_matrix"], dtype=np.float64)[:3, :4]
    if not all(image.name in poses for image in images):
        return list(images)
    matrices = np.stack([poses[image.name] for image in images])
    places, ways = matrices[:, :, 3], matrices[:, :, 2]
    reach = float(np.linalg.norm(places - places.mean(axis=0), axis=1).mean()) or 1.0
    left, order = np.ones(len(images), dtype=bool), [0]
    left[0] = False
    while left.any():
        last = order[-1]
        far = np.linalg.norm(places - places[last], axis=1) / reach + (1 - ways @ ways[last])
        order.append(int(np.where(left, far, np.inf).argmin()))
        left[order[-1]] = False
    return [images[number] for number in order]


def read_frames(transforms: Path) -> list[dict[str, Any]]:
    """The frames of a Nerfstudio `transforms.json`.

    Raises:
        GsegError: the file is damaged or has no frames.
    """
    return read_transforms(transforms)["frames"]


def mask_keys(names: list[PurePosixPath]) -> list[str]:
    """What the masks of these images are called, without suffix.

    The first folder is left out when it is `images` or `images_<n>` for all of them, so that `images/left/1.jpg` gives
    `left/1`. Images that differ by suffix alone (also on a file system that ignores case) keep it: `1.jpg`, `1.png`.
    """
    # Photographs outside of the scene's folder have their masks inside it all the same.
    inner = [PurePosixPath(*[part for part in name.parts if part not in ("..", "/")]) for name in names]
    first = {name.parts[0] for name in inner if len(name.parts) > 1}
    if len(first) == 1 and all(len(name.parts) > 1 for name in inner) and re.fullmatch(r"images(_\d+)?", min(first)):
        inner = [PurePosixPath(*name.parts[1:]) for name in inner]
    stems = [without_suffix(name) for name in inner]
    count = Counter(stem.casefold() for stem in stems)
    return [
        stem if count[stem.casefold()] == 1 else without_suffix(name.with_name(name.name + ".x"))
        for stem, name in zip(stems, inner, strict=True)
    ]


def read_image(path: Path) -> np.ndarray:
    """Read a photograph as the methods see it.

    EXIF rotation is not applied, since Nerfstudio does not apply it either: masks must lie on the pixels that it trains
    on. Transparent pixels lie on white. 16-bit grey is scaled to 8 bits.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        GsegError: the file is missing, damaged, or of a kind that is no photograph.
    """
    from PIL import Image

    with reading(path, "a photograph", _REMEDY), Image.open(path, formats=FORMATS) as image:
        if image.mode == "F":
            raise GsegError(f"{path} has floating point values. Save it with 8 or 16 bits.")
        check_memory(path, image.width * image.height * _PHOTO_MEMORY, f"{image.width}x{image.height} pixels")
        image.load()
        pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
        for rows, part in row_bands(image):
            if part.mode.startswith("I"):
                grey = np.asarray(part).astype(np.int64)
                if grey.min() < 0 or grey.max() > 65535:
                    raise GsegError(f"{path} has grey values beyond 16 bits. Save it with 8 or 16 bits.")
                pixels[rows] = (grey // 257)[..., None]
            elif part.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in part.info:
                white = Image.new("RGBA", part.size, (255, 255, 255, 255))
                pixels[rows] = np.asarray(Image.alpha_composite(white, part.convert("RGBA")).convert("RGB"))
            else:
                pixels[rows] = np.asarray(part.convert("RGB"))
        return pixels


def row_bands(image: Image.Image, rows: int = 256) -> Iterator[tuple[slice, Image.Image]]:
    """A loaded picture in bands of rows, since what is made of it on the way takes as much memory again.

    Yields:
        which rows, and the picture of them.
    """
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))
