"""A scene's folder as a capture: which of what is there is read, and what of it agrees."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gseg_ns.captures import colmap, transforms_json
from gseg_ns.captures.agreement import agreeing, find_similarity, same_cloud, seen_part
from gseg_ns.captures.capture import TO_NERFSTUDIO, Capture, Frame, turned
from gseg_ns.captures.clouds import CLOUD_FILES, read_cloud
from gseg_ns.captures.lenses import check_undistortion
from gseg_ns.captures.photographs import Photographs, exif_orientation, image_size, posix
from gseg_ns.errors import GsegError
from gseg_ns.reading import read_text

Tell = Callable[[str], None]
"""Is told what a user should know and need not do anything about."""

Cloud = tuple[np.ndarray, np.ndarray | None]
"""Points xyz [N, 3] float64, and rgb [N, 3] uint8 or None."""

MAX_AUTO_RESOLUTION = 1600
"""Pixels of the longer side above which smaller copies of the photographs are used, where there are some."""


def read_capture(
    data: Path, tell: Tell, images_path: Path = Path("images"), colmap_path: Path | None = None
) -> tuple[Capture, Cloud | None]:
    """Read a scene: transforms.json where there is one, else the COLMAP model with most photographs.

    Args:
        data: folder, or a transforms.json.
        tell: see `Tell`.
        images_path: folder of photographs of a COLMAP scene, relative to it.
        colmap_path: the COLMAP model to read, relative to the scene, also where there is a transforms.json.

    Returns:
        cameras, and the scene's points in the same coordinates, if it has any.

    Raises:
        GsegError: there is nothing to read, or it cannot be understood.
    """
    root = data if data.is_dir() else data.parent
    files = transforms_json.find_transforms(data)
    if files and colmap_path is None:
        return _read_json(files, root, tell)
    model = _choose_model(root, colmap_path, tell)
    if model is None:
        above = next(
            (p for p in root.absolute().parents[:2] if transforms_json.find_transforms(p) or _is_model(p)), None
        )
        if above is not None:
            raise GsegError(f"{data} is no scene, but a part of one: give {above} with --data")
        raise GsegError(
            f"{data} has neither transforms.json nor a COLMAP model (cameras and images, .bin or .txt, in "
            f"{', '.join(colmap.FOLDERS[:-1])} or another folder below): make one with ns-process-data, or name the "
            "model with --colmap-path"
        )
    return _read_colmap(model, root, images_path, tell)


# ------------------------------------------------------------------------------------------------------------ COLMAP


def _choose_model(root: Path, colmap_path: Path | None, tell: Tell) -> Path | None:
    """The model that is asked for, else the one with most photographs."""
    if colmap_path is None:
        folders = colmap.find_models(root)
    else:
        given = root / colmap_path
        folders = [given] if colmap.has_model(given) else colmap.find_models(given)
        if not folders:
            raise GsegError(f"{given} is no COLMAP model: it needs cameras and images, .bin or .txt.")
    if len(folders) < 2:
        return folders[0] if folders else None
    counts: dict[Path, int] = {}
    for folder in folders:
        try:
            counts[folder] = colmap.count_images(folder)
        except GsegError as error:
            tell(f"{error} It is left out.")
    if not counts:
        return folders[0]
    best = max(counts, key=counts.__getitem__)
    if any(count != counts[best] for count in counts.values()):
        others = ", ".join(
            f"{folder.relative_to(root)} ({count})" for folder, count in counts.items() if folder != best
        )
        tell(
            f"Taking the reconstruction {best.relative_to(root)}, which has {counts[best]} photographs, "
            f"and not {others}."
        )
    elif len({colmap.images_size(folder) for folder in counts}) > 1:  # no copies of each other
        others = " and ".join(str(folder.relative_to(root)) for folder in counts if folder != best)
        tell(
            f"Taking the reconstruction {best.relative_to(root)}. As many photographs has {others}: --colmap-path "
            "takes that."
        )
    return best


def _is_model(scene: Path) -> bool:
    """Whether a folder has a model in one of the usual places."""
    places = [scene / name for name in colmap.FOLDERS]
    return any(colmap.has_model(folder) for place in places for folder in (place, place / "0"))


def _read_colmap(folder: Path, root: Path, images_path: Path, tell: Tell) -> tuple[Capture, Cloud | None]:
    model = colmap.read_model(folder)
    if len(model.images) < 2:
        raise GsegError(f"{folder} has {len(model.images) or 'no'} photographs: objects need at least 2 views")
    photographs = Photographs(root, (*_folders_of(folder, root), images_path))
    frames = [
        Frame(
            name=image.name,
            path=photographs.find(image.name) or root / images_path / posix(image.name),
            pose=TO_NERFSTUDIO @ image.pose(),
            lens=model.lenses[image.camera],
        )
        for image in model.images
    ]
    capture = Capture(folder, frames, TO_NERFSTUDIO, _listed_splits(root, frames))
    return capture, _colmap_cloud(folder, root, capture, tell)


def _folders_of(model: Path, root: Path) -> tuple[Path, ...]:
    """Folders of photographs that belong to one model and not to the others of a scene."""
    for parent in model.parents:
        if parent == root or not parent.is_relative_to(root):
            return ()
        if parent.name == "distorted":  # 3DGS's convert.py keeps what it has undistorted in `input`
            return (root / "input",)
        if (parent / "images").is_dir():
            return (parent / "images",)
    return ()


def _listed_splits(root: Path, frames: Sequence[Frame]) -> dict[str, list[int]]:
    """What train_list.txt, test_list.txt and val_list.txt (validation_list.txt) say."""
    number = {posix(frame.name): index for index, frame in enumerate(frames)}
    said = {}
    for name, split in (("train", "train"), ("validation", "val"), ("val", "val"), ("test", "test")):
        path = root / f"{name}_list.txt"
        if not path.is_file():
            continue
        lines = read_text(path, "a list of photographs", "It should be text in UTF-8.").removeprefix("\ufeff")
        names = [line for line in lines.splitlines() if line.strip()]
        unknown = [line for line in names if posix(line) not in number]
        if unknown:
            raise GsegError(f"{path} names {unknown[0]}, which the reconstruction lacks: remove that line.")
        said[split] = sorted({number[posix(line)] for line in names})
    return said


def _colmap_cloud(folder: Path, root: Path, capture: Capture, tell: Tell) -> Cloud | None:
    points: Cloud | None = colmap.read_points(folder)
    if points is None:
        files = [folder / name for name in CLOUD_FILES] + [root / name for name in CLOUD_FILES]
        path = next((path for path in files if path.is_file()), None)
        if path is None:
            return None
        return _placed(read_cloud(path), path, capture, [TO_NERFSTUDIO, np.eye(4)], tell)
    return _moved(points, TO_NERFSTUDIO)


# --------------------------------------------------------------------------------------------------- transforms.json


def _read_json(files: list[Path], root: Path, tell: Tell) -> tuple[Capture, Cloud | None]:
    photographs = Photographs(root)
    metas = {path: transforms_json.read_transforms(path) for path in files}
    frames: list[Frame] = []
    splits: dict[str, list[int]] = {}
    for path, meta in metas.items():
        read = transforms_json.read_frames(path, meta, photographs)
        if len(files) > 1:  # a Blender scene has a file for each split
            split = path.stem.removeprefix("transforms_")
            splits[split] = list(range(len(frames), len(frames) + len(read)))
        else:
            splits = transforms_json.splits(meta, read, path, photographs)
        frames += read
    path, meta = next(iter(metas.items()))
    if len(frames) < 2:
        raise GsegError(f"{path} lists {len(frames) or 'no'} frames: objects need at least 2 views")
    recorded = transforms_json.applied_transform(meta, path)
    orientation, radius = meta.get("orientation_override"), meta.get("fisheye_crop_radius")
    if orientation not in (None, "pca", "up", "vertical", "none"):
        raise GsegError(f"{path}: orientation_override is {orientation!r}: it can be pca, up, vertical or none.")
    capture = Capture(
        path,
        frames,
        np.eye(4) if recorded is None else recorded,
        splits,
        orientation,
        float(radius) if isinstance(radius, (int, float)) else None,
    )
    model = _model_beside(root, capture, tell)
    found = None if model is None else _frame_of_model(model, capture, recorded, tell)
    if found is not None:
        capture = replace(capture, from_original=found)
    return capture, _json_cloud(meta, path, root, capture, None if found is None else model, tell)


def _model_beside(root: Path, capture: Capture, tell: Tell) -> colmap.ColmapModel | None:
    """The COLMAP model that shares most photographs with a transforms.json."""
    names = {_key(frame.name) for frame in capture.frames}
    best: tuple[int, colmap.ColmapModel] | None = None
    for folder in colmap.find_models(root):
        try:
            model = colmap.read_model(folder)
        except GsegError as error:
            tell(f"{error} {capture.source.name} is used without it.")
            continue
        common = len(names & {_key(image.name) for image in model.images})
        if best is None or common > best[0]:
            best = common, model
        if len(model.images) > len(capture.frames):
            tell(
                f"{capture.source} lists {len(capture.frames)} photographs, and the reconstruction "
                f"{folder.relative_to(root)} has {len(model.images)}. To train on that: --colmap-path "
                f"{folder.relative_to(root)}"
            )
    return None if best is None else best[1]


def _key(name: str) -> str:
    """What a photograph is called in both accounts: without suffix, and without the folder of all photographs."""
    path = posix(name).with_suffix("")
    parts = [part for part in path.parts if part not in (".", "/")]
    return "/".join(
        parts[1:] if len(parts) > 1 and re.fullmatch(r"images(_\d+)?|input", parts[0]) else parts
    ).casefold()


def _frame_of_model(
    model: colmap.ColmapModel, capture: Capture, recorded: np.ndarray | None, tell: Tell
) -> np.ndarray | None:
    """From a COLMAP model's world to that of a transforms.json, where their cameras agree; else None, and it is told.

    Where no name is in both, as tools rename photographs, the order of names is tried.
    """
    theirs = {_key(image.name): image for image in model.images}
    named = [(theirs.get(_key(frame.name)), frame) for frame in capture.frames]
    pairs = [(image.pose(), frame.pose) for image, frame in named if image is not None]
    where = f"{capture.source.name} and the reconstruction {model.folder}"
    if not pairs:
        if len(model.images) != len(capture.frames):
            tell(f"{where} have no photograph in common: its points are not used.")
            return None
        ordered = sorted(model.images, key=lambda image: image.name)
        by_name = sorted(capture.frames, key=lambda frame: frame.name)
        pairs = [(image.pose(), frame.pose) for image, frame in zip(ordered, by_name, strict=True)]
    ours, others = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
    if recorded is not None and agreeing(recorded, ours, others).all():
        return recorded
    agreement = find_similarity(ours, others)
    wrong = int((~agreement.agrees).sum())
    if not agreement.holds:
        tell(f"{where} disagree about {wrong} of {len(pairs)} cameras: its points are not used.")
        return None
    if wrong:
        tell(f"{where} disagree about {wrong} of {len(pairs)} cameras; those of {capture.source.name} are used.")
    if recorded is not None and agreeing(recorded, ours, others).mean() < agreement.agrees.mean():
        tell(f"The applied_transform of {capture.source} is not what its cameras say: it is taken from them.")
        return agreement.similarity
    return agreement.similarity if recorded is None else recorded


def _json_cloud(
    meta: dict, path: Path, root: Path, capture: Capture, model: colmap.ColmapModel | None, tell: Tell
) -> Cloud | None:
    named = meta.get("ply_file_path")
    if isinstance(named, str) and named:
        file = Photographs(root).exactly(named)
        if not file.is_file():
            raise GsegError(f"{file}, named in {path}, does not exist: copy it there, or remove ply_file_path from it")
    else:
        file = next((root / name for name in CLOUD_FILES if (root / name).is_file()), Path())
    points = None if model is None else colmap.read_points(model.folder)
    if not file.is_file():
        if points is None or not len(points[0]):
            return None
        return _moved(points, capture.from_original)
    cloud = read_cloud(file)
    if points is not None and len(points[0]) and len(cloud[0]):
        moved = _moved(points, capture.from_original)
        if same_cloud(cloud[0], moved[0]):
            return cloud
        if same_cloud(cloud[0], points[0]):
            tell(f"The points {file} lie in COLMAP's frame and not in that of {path.name}: they are moved.")
            return _moved(cloud, capture.from_original)
    return _placed(cloud, file, capture, [np.eye(4), capture.from_original], tell)


def _placed(cloud: Cloud, file: Path, capture: Capture, frames: Sequence[np.ndarray], tell: Tell) -> Cloud:
    """A cloud in that of some frames, the first if it can be, in which photographs show it."""
    if not len(cloud[0]):
        return cloud
    seen = [seen_part(_moved(cloud, frame)[0], capture.frames) for frame in frames]
    best = int(np.argmax(seen))
    if seen[0] < 0.1 and seen[best] > 0.5:
        tell(f"No photograph shows the points {file} in the frame of the poses, but in that of the capture: moved.")
        return _moved(cloud, frames[best])
    if seen[0] < 0.02:
        tell(f"No photograph shows the points {file}: they seem to be of another scene, or in another frame.")
    return _moved(cloud, frames[0])


def _moved(cloud: tuple[np.ndarray, np.ndarray | None], similarity: np.ndarray) -> Cloud:
    return cloud[0] @ similarity[:3, :3].T + similarity[:3, 3], cloud[1]


# ----------------------------------------------------------------------------------------------- the files themselves


def with_files(capture: Capture, root: Path, factor: int | None, tell: Tell) -> Capture:
    """The capture with the photographs that are read, and lenses of their sizes.

    Args:
        capture: as read.
        root: the scene's folder.
        factor: read the photographs of folders images_N; None: the largest that are at most 1600 pixels long.
        tell: see `Tell`.

    Raises:
        GsegError: there are no copies of that size, or a photograph and its camera cannot belong together.
    """
    if factor is None and not any(frame.path.is_file() for frame in capture.frames):
        # Only smaller copies were kept.
        factor = next((f for f in (2, 4, 8) if _copies(capture.frames, root, f) is not None), None)
    if factor is None:
        factor = 1
        longest = max(max(frame.lens.width, frame.lens.height) for frame in capture.frames)
        while longest / factor > MAX_AUTO_RESOLUTION and _copies(capture.frames, root, 2 * factor) is not None:
            factor *= 2
    paths = _copies(capture.frames, root, factor)
    if paths is None:
        raise GsegError(
            f"{root} has no photographs in images_{factor} for all of its frames: make them "
            "(ns-process-data --num-downscales), or leave out --downscale-factor"
        )
    if factor > 1:
        tell(f"Reading the photographs of images_{factor}.")
    resized: list[Path] = []
    frames = []
    for frame, path in zip(capture.frames, paths, strict=True):
        mask = frame.mask if frame.mask is None or factor == 1 else _copy(frame.mask, root, factor)
        if path.is_file():
            fitted = _fitted(frame, path)
            if factor == 1 and fitted.lens.width * fitted.lens.height != frame.lens.width * frame.lens.height:
                resized.append(path)
        else:
            lens = frame.lens.resized(frame.lens.width // factor, frame.lens.height // factor)
            fitted = replace(frame, path=path, lens=lens)
        frames.append(replace(fitted, mask=mask))
    if resized:
        tell(
            f"{len(resized)} photographs, such as {resized[0]}, have other sizes than their cameras in "
            f"{capture.source}: the cameras are scaled to them."
        )
    for lens in {frame.lens for frame in frames}:
        name = next(frame.name for frame in frames if frame.lens == lens)
        check_undistortion(lens, f"{capture.source}: the camera of {name}")
    return replace(capture, frames=frames)


def _copies(frames: Sequence[Frame], root: Path, factor: int) -> list[Path] | None:
    """The smaller copies of all photographs, None if one is not there; the photographs themselves for factor 1."""
    if factor == 1:
        return [frame.path for frame in frames]
    copies = [_copy(frame.path, root, factor) for frame in frames]
    return copies if all(copy.is_file() for copy in copies) else None


def _copy(path: Path, root: Path, factor: int) -> Path:
    """A smaller copy: `images/left/1.png` -> `images_2/left/1.png`, or `images_2/1.png` where that exists alone."""
    parts = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
    first, rest = (parts[0], parts[1:]) if len(parts) > 1 else ("images", parts)
    mirrored = root / f"{first}_{factor}" / Path(*rest)
    flat = root / f"{first}_{factor}" / path.name
    return flat if flat.is_file() and not mirrored.is_file() else mirrored


def _fitted(frame: Frame, path: Path) -> Frame:
    """A frame whose lens has the size of the photograph as its file has it.

    Where the camera is that of the photograph turned by its EXIF tag, as tools see it that heed the tag, the camera is
    turned back: masks and training see the pixels of the file.
    """
    height, width = image_size(path)
    lens, pose = frame.lens, frame.pose
    if (lens.width, lens.height) != (width, height) and _proportional(lens.height, lens.width, width, height):
        quarters = {6: 3, 8: 1}.get(exif_orientation(path))
        if quarters is not None:
            lens, pose = turned(lens, pose, quarters)
        elif abs(lens.cx - lens.width / 2) > abs(lens.cx - lens.height / 2):
            # Only the two numbers are exchanged: the middle of the picture is where the file has it.
            lens = replace(lens, width=lens.height, height=lens.width)
        elif not _proportional(lens.width, lens.height, width, height):
            raise GsegError(
                f"{path} has {width} x {height} pixels and its camera {lens.width} x {lens.height}: the photograph "
                "has been turned since. Turn it back, or run the reconstruction again."
            )
    if (lens.width, lens.height) != (width, height):
        if not _proportional(lens.width, lens.height, width, height):
            raise GsegError(
                f"{path} has {width} x {height} pixels and its camera {lens.width} x {lens.height}, which are other "
                "proportions: it is cropped, or another photograph. Run the reconstruction again on these files."
            )
        lens = lens.resized(width, height)
    return replace(frame, path=path, pose=pose, lens=lens)


def _proportional(width: int, height: int, other_width: int, other_height: int) -> bool:
    """Whether one size is the other, scaled and rounded."""
    scale = max(other_width / width, other_height / height)
    off = max(abs(width * scale - other_width), abs(height * scale - other_height))
    return off <= max(1.0, scale) + 1e-6
