"""What is wrong with a folder of masks, seen from the scene."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gseg_ns.captures.photographs import image_size
from gseg_ns.errors import GsegError
from gseg_ns.masks.folder import MASK_SUFFIXES, MaskFolder, scan_masks
from gseg_ns.masks.generate import coverage
from gseg_ns.masks.images import SceneImage
from gseg_ns.masks.io import load_masks


@dataclass
class CheckReport:
    """Findings of `check`, each a list of readable lines; empty lists where all is well."""

    images: int
    files: int
    masks: list[int] = field(default_factory=list)
    """Masks of each image that has a readable file."""
    coverage: list[float] = field(default_factory=list)
    """Fraction of the pixels that some mask covers, of the same images."""
    missing: list[str] = field(default_factory=list)
    """Images without a mask file."""
    empty: list[str] = field(default_factory=list)
    """Files without a single mask."""
    resized: list[str] = field(default_factory=list)
    """Files of another size but the same proportions: they are resized when read."""
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
        folder: SA-1B JSON, PNG label maps, or both.
        images: the photographs of the scene.
        progress: called with the number of images looked at.

    Raises:
        GsegError: the folder does not exist or has no mask files.
    """
    found = scan_masks(folder, MASK_SUFFIXES) if folder.is_dir() else {}
    report = CheckReport(images=len(images), files=sum(len(files) for files in found.values()))
    for key, files in found.items():
        if len(files) > 1:
            report.duplicated.append(f"{key}: {', '.join(file.name for file in files)}")
    # One file a name, so that the rest can be looked at all the same.
    masks = MaskFolder(folder, strict=False)
    owners: dict[Path, SceneImage] = {}
    contents: dict[str, Path] = {}
    for done, image in enumerate(images):
        progress(done)
        path = masks.find(image.name)
        if path is None:
            report.missing.append(image.name.as_posix())
            continue
        shown = path.relative_to(folder).as_posix()
        if path in owners:
            report.duplicated.append(f"{shown}: for {owners[path].name} and for {image.name}")
            continue
        owners[path] = image
        try:
            mask_set = load_masks(path)
            height, width = image_size(image.path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except GsegError as error:
            report.corrupt.append(str(error))
            continue
        except OSError as error:
            report.corrupt.append(f"{path}: {error.strerror or error}")
            continue
        report.masks.append(len(mask_set))
        report.coverage.append(coverage(mask_set))
        if len(mask_set) == 0:
            report.empty.append(shown)
            continue
        if digest in contents:
            report.duplicated.append(f"{shown}: the same masks as {contents[digest].relative_to(folder).as_posix()}")
        contents[digest] = path
        if (mask_set.height, mask_set.width) != (height, width):
            line = f"{shown}: {mask_set.width}x{mask_set.height}, the image is {width}x{height}"
            same = abs(mask_set.height * width - mask_set.width * height) <= max(height, width)
            (report.resized if same else report.wrong_size).append(line)
    progress(len(images))
    report.extra = [path.relative_to(folder).as_posix() for path in masks.files.values() if path not in owners]
    return report
