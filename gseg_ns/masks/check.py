"""What is wrong with a folder of masks, seen from the scene."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gseg_ns.captures.photographs import image_size
from gseg_ns.errors import GsegError
from gseg_ns.masks.folder import MaskFolder
from gseg_ns.masks.generate import coverage
from gseg_ns.masks.images import SceneImage
from gseg_ns.masks.load import load_labels, load_masks
from gseg_ns.masks.mask_file import MaskFile
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.orientation import (
    AS_STORED,
    MaskOfPhotograph,
    exif_orientation,
    fits_upright_alone,
    lie_upright,
    same_proportions,
)


@dataclass
class CheckReport:
    """Findings of `check`, each a list of readable lines; empty lists where all is well."""

    images: int
    files: int
    masks: list[int] = field(default_factory=list)
    """Masks of each image that has a readable file."""
    coverage: list[float] = field(default_factory=list)
    """Fraction of the pixels that some mask covers, of the same images."""
    dialects: dict[str, int] = field(default_factory=dict)
    """What wrote the files, as far as can be seen, and of how many images."""
    missing: list[str] = field(default_factory=list)
    """Images without a mask file."""
    empty: list[str] = field(default_factory=list)
    """Files without a single mask."""
    resized: list[str] = field(default_factory=list)
    """Files of another size but the same proportions: they are resized when read."""
    turned: list[str] = field(default_factory=list)
    """Files of upright copies of images that are stored on their side: they are turned back when read."""
    wrong_size: list[str] = field(default_factory=list)
    """Files of other proportions than their image."""
    corrupt: list[str] = field(default_factory=list)
    """Files that are damaged, or cannot be opened, or whose image cannot."""
    duplicated: list[str] = field(default_factory=list)
    """Files that claim the same image, or hold the same masks as that of another image."""
    extra: list[str] = field(default_factory=list)
    """Files that belong to no image."""

    @property
    def ok(self) -> bool:
        """Whether training can rely on every image's masks."""
        return not (self.missing or self.wrong_size or self.corrupt or self.duplicated)


def check(
    folder: Path, images: Sequence[SceneImage], progress: Callable[[int], None] = lambda done: None
) -> CheckReport:
    """Read every mask file of a folder as training would.

    Args:
        folder: masks in any dialect; or a file for many images.
        images: the photographs of the scene.
        progress: called with the number of images looked at.

    Raises:
        GsegError: the folder does not exist or has no mask files.
    """
    # One file a name, so that the rest can be looked at all the same.
    masks = MaskFolder(folder, strict=False)
    report = CheckReport(images=len(images), files=len(masks))
    for key, files in masks.doubles.items():
        report.files += len(files) - 1
        report.duplicated.append(f"{key}: {', '.join(file.name for file in files)}")
    owners: dict[MaskFile, SceneImage] = {}
    contents: dict[str, str] = {}
    sizes: list[tuple[str, MaskOfPhotograph]] = []
    for done, image in enumerate(images):
        progress(done)
        try:
            file = masks.find(image.name)
        except GsegError as error:
            report.corrupt.append(str(error))
            continue
        if file is None:
            report.missing.append(image.name.as_posix())
            continue
        shown = _shown(file, folder)
        if file in owners:
            report.duplicated.append(f"{shown}: for {owners[file].name} and for {image.name}")
            continue
        owners[file] = image
        try:
            mask_set = load_masks(file)
            size = image_size(image.path)
            digest = _digest(mask_set if file.entry is not None else file)
        except GsegError as error:
            report.corrupt.append(str(error))
            continue
        except OSError as error:
            report.corrupt.append(f"{file}: {error.strerror or error}")
            continue
        report.dialects[file.dialect] = report.dialects.get(file.dialect, 0) + 1
        report.masks.append(len(mask_set))
        report.coverage.append(coverage(mask_set))
        if len(mask_set) == 0:
            report.empty.append(shown)
            continue
        if digest in contents:
            report.duplicated.append(f"{shown}: the same masks as {contents[digest]}")
        contents[digest] = shown
        here = (mask_set.height, mask_set.width)
        sizes.append((shown, MaskOfPhotograph(here, image.path, size, partial(load_labels, file))))
    progress(len(images))
    upright = lie_upright(mask for _, mask in sizes)
    for shown, mask in sizes:
        size, photo, tag = mask.size, mask.photograph_size, exif_orientation(mask.photograph)
        line = f"{shown}: {size[1]}x{size[0]}, the image is {photo[1]}x{photo[0]}"
        if fits_upright_alone(size, photo, tag) or (upright and tag != AS_STORED):
            report.turned.append(line)
        elif size != photo:
            (report.resized if same_proportions(size, photo) else report.wrong_size).append(line)
    report.extra = [path.relative_to(folder).as_posix() for path in masks.unused(owners)]
    return report


def _shown(file: MaskFile, folder: Path) -> str:
    """What to call masks in the report."""
    place = file.path.relative_to(folder).as_posix() if file.path != folder else folder.name
    if file.parts:
        return f"{file.key} ({len(file.parts)} files)"
    return place if file.entry is None else f"{place} ({file.entry})"


def _digest(what: MaskSet | MaskFile) -> str:
    """The same for the same masks in the same dialect."""
    if isinstance(what, MaskSet):
        return hashlib.sha256(repr([rle["counts"] for rle in what.rles]).encode()).hexdigest()
    digest = hashlib.sha256()
    for path in what.sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()
