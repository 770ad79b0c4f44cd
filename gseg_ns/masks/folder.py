"""A folder of mask files, whatever made it, matched to the images of a scene."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath, PurePosixPath

from gseg_ns.errors import GsegError

MASK_SUFFIXES = (".json", ".png")


def without_suffix(path: PurePath) -> str:
    """The path with forward slashes, NFC, and without its last suffix: `a/img.0001.jpg` -> `a/img.0001`."""
    return unicodedata.normalize("NFC", path.with_suffix("").as_posix())


def scan_masks(folder: Path, suffixes: Collection[str]) -> dict[str, list[Path]]:
    """Mask files by their path relative to the folder, without suffix; names that start with a dot are left out.

    Usually there is one file a name.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() in suffixes and not any(part.startswith(".") for part in relative.parts):
            found.setdefault(without_suffix(relative), []).append(path)
    return found


class MaskFolder:
    """Mask files (`.json`, `.png`) of a folder and its subfolders, found by the images' names.

    The mask of `images/left/img.0001.jpg` is the first of these that exists: `images/left/img.0001`, `left/img.0001`,
    `img.0001` (each with `.json` or `.png`), so that subfolders are mirrored and a flat folder still works; then the
    same with the image's own suffix, `left/img.0001.jpg.json`, which tells apart images that differ by suffix alone.
    Names that start with a dot are not looked at.

    Args:
        folder: the folder.
        suffixes: which files are masks.
        strict: two files of the same name but for the suffix are an error; otherwise the first is taken.

    Raises:
        GsegError: the folder does not exist or holds no mask file; or two files have the same name (see `strict`).
    """

    def __init__(self, folder: Path, suffixes: Collection[str] = MASK_SUFFIXES, strict: bool = True) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise GsegError(
                f"The mask folder {folder} does not exist. Make masks with `gseg masks`, or name another folder."
            )
        self.files: dict[str, Path] = {}
        for key, files in scan_masks(folder, suffixes).items():
            if strict and len(files) > 1:
                raise GsegError(f"{folder} has two masks for {key}: {files[0].name} and {files[1].name}. Remove one.")
            self.files[key] = files[0]
        if not self.files:
            raise GsegError(f"{folder} has no mask files ({', '.join(suffixes)}). Make masks with `gseg masks`.")
        self._depth = max(len(PurePosixPath(key).parts) for key in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def find(self, image: PurePath) -> Path | None:
        """The mask file of one image, or None.

        Args:
            image: path of the image, relative to the scene or absolute.
        """
        for name in (image.with_suffix(""), image):
            parts = unicodedata.normalize("NFC", name.as_posix()).split("/")
            for count in range(min(self._depth, len(parts)), 0, -1):
                found = self.files.get("/".join(parts[-count:]))
                if found is not None:
                    return found
        return None

    def assign(self, images: Sequence[PurePath]) -> list[Path | None]:
        """The mask file of each image; None for an image that has none.

        Raises:
            GsegError: two images share a mask file.
        """
        matched = [self.find(image) for image in images]
        owners: dict[Path, PurePath] = {}
        for image, mask in zip(images, matched, strict=True):
            if mask is None:
                continue
            if mask in owners:
                raise GsegError(
                    f"{mask} would be the mask of both {owners[mask]} and {image}. Put the masks into the same "
                    f"subfolders as the images, or name them after the whole file name ({image.name}{mask.suffix})."
                )
            owners[mask] = image
        return matched

    def match(self, images: Sequence[PurePath]) -> list[Path | None]:
        """As `assign`, of a folder that has masks for some of the images.

        Raises:
            GsegError: no image has a mask, or two images share a mask file.
        """
        matched = self.assign(images)
        if not any(matched):
            example = images[0] if images else "the scene, which has no images"
            raise GsegError(
                f"None of the {len(self.files)} masks in {self.folder} (such as {next(iter(self.files))}) "
                f"belongs to an image of the scene (such as {example}): they are matched by name without suffix."
            )
        return matched
