"""A folder of mask files, whatever made it, matched to the images of a scene."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath

from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.documents import may_be_document, open_document
from gseg_ns.masks.mask_file import MaskFile
from gseg_ns.masks.names import NameIndex, without_image_suffix, without_suffix

MASK_SUFFIXES = (".json", ".png", ".npy", ".xml")
_KNOWN_FOLDERS = ("SegmentationObject", "mask_data", "Annotations", "SegmentationClass")
"""Where tools put label maps among other things: CVAT and Pascal VOC, Grounded-SAM-2, DEVA."""
_NUMBERED = re.compile(r"^(?P<image>.+?)[_-](?:(?:mask|obj|object|instance|inst|seg|id|label)[_-]?)?\d+$")
"""A name of one object's mask: `0001_0`, `0001_mask_12`, `0001-obj3`."""
_WITHOUT_READER = {
    ".jpg": "JPEG changes labels: save PNG",
    ".jpeg": "JPEG changes labels: save PNG",
    ".tif": "save PNG",
    ".tiff": "save PNG",
    ".bmp": "save PNG",
    ".webp": "save PNG",
    ".txt": "YOLO's text does not say the images' sizes: export COCO",
    ".npz": "save an array for each image as .npy",
    ".pkl": "pickles can run programs and are not read: save .npy",
    ".pt": "pickles can run programs and are not read: save .npy",
    ".pth": "pickles can run programs and are not read: save .npy",
    ".zip": "unpack it",
    ".tar": "unpack it",
    ".gz": "unpack it",
}
"""Suffixes of masks in other formats -> what to do about them."""


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
    """Masks of a folder and its subfolders, found by the images' names.

    The mask of `images/left/img.0001.jpg` is the first of these that exists:

    - `images/left/img.0001`, `left/img.0001`, `img.0001` (each with a suffix of masks), so that subfolders are mirrored
      and a flat folder still works; then the same with the image's own suffix, `left/img.0001.jpg.json`;
    - a folder of that name with a binary PNG for each object;
    - its entry in a file for many images (COCO, Label Studio, CVAT);
    - a file whose name is decorated (`mask_img.0001`, `img.0001_mask`, in another case), or that lies in a folder that
      all masks share;
    - `img.0001_0`, `img.0001_1`, ...: a binary PNG for each object; and files of that name in several folders, one for
      each object.

    Names that start with a dot are not looked at.

    Args:
        folder: the folder, or a single file for many images.
        suffixes: where given, which files are masks: each of one image, by the first of these rules alone.
        strict: two files of the same name but for the suffix are an error; otherwise the first is taken.

    Raises:
        GsegError: the folder does not exist or holds no mask file; or two files have the same name (see `strict`).
    """

    def __init__(self, folder: Path, suffixes: Collection[str] | None = None, strict: bool = True) -> None:
        self.folder = folder
        self._plain = suffixes is not None
        self.doubles: dict[str, list[Path]] = {}
        """Names that several files have; of those the first is taken."""
        self.files: dict[str, Path] = {}
        """Path below the folder, without suffix -> the file."""
        self._documents: list[Path] | None = None
        if folder.is_file() and not self._plain:
            self._documents = [folder]
            self.files = {folder.stem: folder}
            return
        if not folder.is_dir():
            raise GsegError(
                f"The mask folder {folder} does not exist. Make masks with `gseg masks`, or name another folder."
            )
        for key, files in scan_masks(_inner(folder) if not self._plain else folder, suffixes or MASK_SUFFIXES).items():
            kept = files if self._plain else _preferred(files)
            if len(kept) > 1:
                self.doubles[key] = kept
            if strict and len(kept) > 1:
                raise GsegError(f"{folder} has two masks for {key}: {kept[0].name} and {kept[1].name}. Remove one.")
            self.files[key] = kept[0]
        if not self.files:
            raise GsegError(_nothing(folder, suffixes or MASK_SUFFIXES))

    def __len__(self) -> int:
        return len(self.files)

    def find(self, image: PurePath) -> MaskFile | None:
        """The masks of one image, or None.

        Args:
            image: path of the image, relative to the scene or absolute.

        Raises:
            GsegError: several files could be its masks, or a file for many images is damaged.
        """
        path = self._by_file.exact(image)
        if path is not None:
            return self._file(path)
        if self._plain:
            return None
        folder = self._by_folder.find(image)
        if folder is not None:
            return MaskFile(
                folder[0].parent, self._name(folder[0].parent), parts=folder, layout="in a folder for each image"
            )
        entry = self._by_entry.find(image)
        if entry is not None:
            document, name = entry
            return MaskFile(document, without_image_suffix(name), entry=name)
        path = self._by_file.find(image)
        if path is not None:
            return self._file(path)
        numbered = self._by_number.find(image)
        if numbered is not None:
            name = f"{self._name(numbered[0].parent)}/{image.stem}".removeprefix("./")
            return MaskFile(numbered[0].parent, name, parts=numbered, layout="numbered")
        objects = self._by_object.exact(image)
        if objects is not None:
            return MaskFile(self.folder, image.stem, parts=objects, layout="in a folder for each object")
        return None

    def assign(self, images: Sequence[PurePath]) -> list[MaskFile | None]:
        """The masks of each image; None for an image that has none.

        Raises:
            GsegError: two images share them.
        """
        matched = [self.find(image) for image in images]
        owners: dict[MaskFile, PurePath] = {}
        for image, mask in zip(images, matched, strict=True):
            if mask is None:
                continue
            if mask in owners:
                told = f"{mask} would be the mask of both {owners[mask]} and {image}."
                raise GsegError(f"{told} {_apart(owners[mask], image, mask.path.suffix or '.png')}")
            owners[mask] = image
        return matched

    def match(self, images: Sequence[PurePath]) -> list[MaskFile | None]:
        """As `assign`, of a folder that has masks for some of the images.

        Raises:
            GsegError: no image has a mask, or two images share a mask file.
        """
        matched = self.assign(images)
        if not any(matched):
            example = images[0] if images else "the scene, which has no images"
            raise GsegError(
                f"None of the {len(self.files)} masks in {self.folder} (such as {next(iter(self.files))}) "
                f"belongs to an image of the scene (such as {example}): they are matched by name without suffix. Files "
                "for many images are read of COCO, Label Studio and CVAT."
            )
        return matched

    def unused(self, used: Collection[MaskFile]) -> list[Path]:
        """Files that are none of some masks: of images that the scene does not have, or of no image."""
        taken = {path for mask in used for path in mask.sources}
        return [path for path in self.files.values() if path not in taken]

    # -------------------------------------------------------------------------------------------------- the indices

    @cached_property
    def _by_file(self) -> NameIndex[Path]:
        found = {key: path for key, path in self.files.items() if self._plain or path.suffix.lower() != ".xml"}
        return NameIndex({} if self._documents else found, loose=not self._plain)

    @cached_property
    def _by_folder(self) -> NameIndex[tuple[Path, ...]]:
        """PNGs by the folder that they lie in."""
        found: dict[str, list[Path]] = {}
        for key, path in self._pngs():
            if "/" in key:
                found.setdefault(without_image_suffix(key.rpartition("/")[0]), []).append(path)
        return NameIndex(_naturally(found))

    @cached_property
    def _by_number(self) -> NameIndex[tuple[Path, ...]]:
        """PNGs by what is left of their names without the number of an object."""
        found: dict[str, list[Path]] = {}
        for key, path in self._pngs():
            head, slash, leaf = key.rpartition("/")
            numbered = _NUMBERED.match(leaf)
            if numbered:
                found.setdefault(without_image_suffix(head + slash + numbered["image"]), []).append(path)
        return NameIndex(_naturally(found))

    @cached_property
    def _by_object(self) -> NameIndex[tuple[Path, ...]]:
        """PNGs by their path below the first folder, which is an object's."""
        found: dict[str, list[Path]] = {}
        for key, path in self._pngs():
            if "/" in key:
                found.setdefault(without_image_suffix(key.partition("/")[2]), []).append(path)
        return NameIndex(_naturally(found), loose=False)

    @cached_property
    def _by_entry(self) -> NameIndex[tuple[Path, str]]:
        """Entries of files for many images by the images' names."""
        found: dict[str, tuple[Path, str]] = {}
        given = self._documents
        for path in given or [path for path in self.files.values() if may_be_document(path)]:
            document = open_document(path)
            if document is None:
                if given:
                    raise GsegError(f"{path} does not hold the masks of many images. Name its folder.")
                continue
            for name, entry in document.names.items():
                key = without_image_suffix(name)
                if key in found:
                    key = name.replace("\\", "/")  # images that differ by suffix alone
                if key in found:
                    raise GsegError(f"{found[key][0]} and {path} both have masks of {name}. Keep one of them.")
                found[key] = path, entry
        if not found and all(path.suffix.lower() == ".xml" for path in self.files.values()):
            raise GsegError(
                f"{next(iter(self.files.values()))} is no XML of CVAT. Boxes, as Pascal VOC has them, are no masks."
            )
        return NameIndex(found)

    def _pngs(self) -> list[tuple[str, Path]]:
        return [(key, path) for key, path in self.files.items() if path.suffix.lower() == ".png"]

    def _file(self, path: Path) -> MaskFile:
        return MaskFile(path, self._name(path.with_suffix("")))

    def _name(self, path: Path) -> str:
        return PurePosixPath(path.relative_to(self.folder)).as_posix()


def _naturally(found: dict[str, list[Path]]) -> dict[str, tuple[Path, ...]]:
    """Files of each name in the order that a person would have them in: 2 before 10."""

    def order(path: Path) -> list[tuple[int, str]]:
        return [(int(digits or -1), text) for text, digits in re.findall(r"(\D*)(\d*)", path.as_posix())]

    return {name: tuple(sorted(files, key=order)) for name, files in found.items()}


def _inner(folder: Path) -> Path:
    """The subfolder in which a tool keeps its label maps, else the folder itself."""
    for name in _KNOWN_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    return folder


def _preferred(files: list[Path]) -> list[Path]:
    """Of files that share a name, those that can be its masks: a photograph or scores may lie beside."""
    if len(files) == 1:
        return files
    texts = [path for path in files if path.suffix.lower() == ".json"]
    pictures = [path for path in files if path.suffix.lower() in (".png", ".npy")]
    if len(texts) == 1 and pictures:
        try:
            content = texts[0].read_bytes()
        except OSError:
            return files
        if b'"shapes"' in content:  # LabelMe's file beside the photograph
            return texts
        if content.strip() and not any(mark in content for mark in (b'"segmentation"', b'"annotations"', b"[]")):
            return pictures  # scores of segments, or what a tracker says of them
    return files


def _apart(one: PurePath, other: PurePath, suffix: str) -> str:
    """What to call the masks of two images of one name."""
    if one.parent == other.parent:
        return f"Name them after the whole file names: {one.name}{suffix} and {other.name}{suffix}."
    common = os.path.commonpath([one.parent, other.parent])
    theirs = [image.relative_to(common).with_suffix(suffix).as_posix() for image in (one, other)]
    return f"Put the masks into subfolders as the images are: {theirs[0]} and {theirs[1]}."


def _nothing(folder: Path, suffixes: Collection[str]) -> str:
    """What to say of a folder without masks."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    for path in files:
        remedy = _WITHOUT_READER.get(path.suffix.lower())
        if remedy is not None:
            return f"{folder} has no mask files ({', '.join(suffixes)}), but such as {path.name}: {remedy}."
    return f"{folder} has no mask files ({', '.join(suffixes)}). Make masks with `gseg masks`."
