"""Finding a photograph by what a capture's file calls it."""

from __future__ import annotations

import unicodedata
from os import SEEK_CUR
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gseg_ns.errors import GsegError
from gseg_ns.reading import reading

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"))
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
"""Formats of photographs. Pillow knows many more, some of which run other programs."""
_OTHER_PHOTOGRAPHS = (".heic", ".heif", ".avif", ".jxl", ".gif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".exr", ".hdr")
"""Suffixes of photographs in formats that are not read."""
IMAGE_FOLDERS = ("images", "input", "rgb", "train", "image", "photos", "frames", "imgs", "color", "undistorted_images")
"""Where photographs lie in scenes whose file names them without a folder."""


_PNG_SIGNATURE = 8
"""Bytes before the first chunk of a PNG."""
_PNG_TAGS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks that may say how a PNG is to be turned."""


def posix(name: str) -> PurePosixPath:
    """A path as any system writes it: backslashes and drives are understood."""
    return PurePosixPath(name.strip().replace("\\", "/"))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


class Photographs:
    """The photographs of a scene folder, found by a name that may have been written elsewhere.

    A name is taken as it is where such a file exists. Else, in this order: another spelling of the same letters (case,
    Unicode's normal forms), a suffix that was left out, the same name in another format. It is looked for at the path
    itself, at its ends below the scene's folder (paths of another machine), and in the usual folders of photographs.

    Args:
        root: the scene's folder.
        folders: further folders of photographs, relative to it, looked in first.
    """

    def __init__(self, root: Path, folders: tuple[str | Path, ...] = ()) -> None:
        self.root = root
        self._folders = [root / folder for folder in (*folders, "", *IMAGE_FOLDERS)]
        self._listed: dict[Path, list[Path]] = {}

    def find(self, name: str) -> Path | None:
        """Where the photograph is, or None.

        Raises:
            GsegError: two files could be meant.
        """
        for path in self._places(name):
            if path.is_file():
                return path
        for path in self._places(name):
            found = self._similar(path)
            if found is not None:
                return found
        # Tools of the web write a space as %20.
        return self.find(unquote(name)) if unquote(name) != name else None

    def in_another_format(self, name: str) -> Path | None:
        """A file of this name in a format of photographs that is not read."""
        for path in self._places(name):
            for suffix in _OTHER_PHOTOGRAPHS:
                for other in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
                    if other.is_file():
                        return other
        return None

    def exactly(self, name: str) -> Path:
        """The file of this name, which need not be there; nothing else is taken for it.

        A path of another machine is looked for by its ends below the scene's folder.
        """
        places = self._places(name)
        near = places[: 1 + len(self._folders)]
        parts = [part for part in posix(name).parts if part not in ("/", ".", "..")]
        if places[0] == Path(name) and not places[0].is_file():
            near = [self.root / Path(*parts[first:]) for first in range(1, len(parts))]
        return next((path for path in near if path.is_file()), places[0])

    def expected(self, name: str) -> Path:
        """Where the photograph should be."""
        return next(iter(self._places(name)))

    def _places(self, name: str) -> list[Path]:
        path = posix(name)
        absolute = path.is_absolute() or (bool(path.parts) and path.parts[0].endswith(":"))
        places = [Path(name)] if absolute else []
        parts = [part for part in path.parts if part not in ("/", ".")]
        if not absolute:
            places += [folder / Path(*parts) for folder in self._folders]
        own = [part for part in parts if part != ".."]
        for first in range(1 if own == parts and not absolute else 0, len(own)):
            places += [folder / Path(*own[first:]) for folder in self._folders]
        return places

    def _similar(self, path: Path) -> Path | None:
        files = self._files(path.parent)
        same = [file for file in files if _plain(file.name) == _plain(path.name)]
        added = [file for file in files if _plain(file.stem) == _plain(path.name)]
        other = [file for file in files if _plain(file.stem) == _plain(path.stem) and path.suffix]
        for candidates in (same, added, other):
            if len(candidates) > 1:
                names = ", ".join(file.name for file in candidates)
                raise GsegError(
                    f"{path} does not exist, and several files could be meant: {names}. Write the whole name."
                )
            if candidates:
                return candidates[0]
        return None

    def _files(self, folder: Path) -> list[Path]:
        if folder not in self._listed:
            try:
                files = sorted(folder.iterdir()) if folder.is_dir() else []
            except OSError:
                files = []
            self._listed[folder] = [
                file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
            ]
        return self._listed[folder]


def image_size(path: Path) -> tuple[int, int]:
    """Height and width, from the file's header.

    Raises:
        GsegError: the file is no image.
    """
    return _header(path)[:2]


def exif_orientation(path: Path) -> int:
    """How the photograph is to be shown by its EXIF tag: 1 as it is, 6 turned clockwise by 90 degrees, ...

    Raises:
        GsegError: the file is no image.
    """
    return _header(path)[2]


def exif_of(image: Image.Image, path: Path) -> Image.Exif:
    """The EXIF tags of a photograph that was opened and is not read yet.

    A PNG may have them behind its pixels, so that Pillow decodes all of these to ask; here it does where something is
    there.
    """
    from PIL import Image

    if image.format == "PNG" and "exif" not in image.info and not _tells_more_behind(path):
        return Image.Image.getexif(image)
    return image.getexif()


def _tells_more_behind(path: Path) -> bool:
    """Whether a PNG has tags or texts behind its pixels, or ends too early to know."""
    behind = False
    with path.open("rb") as file:
        file.seek(_PNG_SIGNATURE)
        while len(head := file.read(8)) == 8:
            kind = head[4:]
            if kind == b"IEND":
                return False
            if behind and kind in _PNG_TAGS:
                return True
            behind |= kind == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, SEEK_CUR)  # the chunk and its checksum
    return True


def _header(path: Path) -> tuple[int, int, int]:
    from PIL import ExifTags, Image

    remedy = "Save it again or remove its frame."
    if path.suffix.lower() in _OTHER_PHOTOGRAPHS:
        remedy = f"Of photographs {', '.join(FORMATS)} are read: convert it and the others to JPEG."
    with (
        reading(path, "a photograph", remedy),
        Image.open(path, formats=FORMATS) as image,
    ):
        tag = exif_of(image, path).get(ExifTags.Base.Orientation, 1)
        return image.height, image.width, tag if isinstance(tag, int) else 1
