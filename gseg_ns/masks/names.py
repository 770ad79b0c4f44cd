"""How masks find their photographs: by names, which tools decorate."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePath, PurePosixPath
from typing import Generic, TypeVar

from gseg_ns.captures.photographs import IMAGE_SUFFIXES
from gseg_ns.errors import GsegError

Item = TypeVar("Item")

_BEFORE = re.compile(r"^(?:mask|masks|seg|label|labels)[_-](?=.)", re.IGNORECASE)
_AFTER = re.compile(
    r"(?<=.)[_.-](?:mask|masks|seg|segmentation|semantic|panoptic|label|labels|labelids|instance|instances|instanceids|"
    r"ids?|gt|sam|sam2|coco|pred|annotations?|(?:grounded_sam2?_(?:hf_model_)?)?results?)$",
    re.IGNORECASE,
)
"""What tools put before and after an image's name: `mask_00001` of Grounded-SAM-2, `0001_mask`, ..."""
_HASHED = re.compile(r"(?<=.)_(?:jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9a-z]+$", re.IGNORECASE)
"""What Roboflow puts in place of a suffix: `0001_jpg.rf.1f0a...`."""


def without_suffix(path: PurePath) -> str:
    """The path with forward slashes, NFC, and without its last suffix: `a/img.0001.jpg` -> `a/img.0001`."""
    return unicodedata.normalize("NFC", path.with_suffix("").as_posix())


def without_image_suffix(name: str) -> str:
    """A path with forward slashes, NFC, and without the suffix of a photograph, where it has one."""
    path = PurePosixPath(name.replace("\\", "/"))
    return without_suffix(path) if path.suffix.lower() in IMAGE_SUFFIXES else unicodedata.normalize("NFC", str(path))


def _plain(name: str) -> str:
    """A name without decoration, in small letters; a number alone without the zeros before it."""
    head, slash, leaf = without_image_suffix(name).rpartition("/")
    leaf = without_image_suffix(_AFTER.sub("", _BEFORE.sub("", _HASHED.sub("", leaf))))
    if leaf.isdecimal():
        leaf = leaf.lstrip("0") or "0"
    return (head + slash + leaf).casefold()


class NameIndex(Generic[Item]):
    """Things by the names of images, which may be written in several ways.

    Args:
        items: path without suffix -> the thing.
        loose: names may be decorated, in another case, and lie in a folder that all have in common.
    """

    def __init__(self, items: Mapping[str, Item], loose: bool = True) -> None:
        self._items = items
        self._depth = max((name.count("/") + 1 for name in items), default=0)
        self._loose: dict[str, list[str]] = {}
        if loose:
            common = len(_common_folder(items))
            for name in items:
                for key in dict.fromkeys((name[common:].casefold(), _plain(name), _plain(name[common:]))):
                    self._loose.setdefault(key, []).append(name)

    def exact(self, image: PurePath) -> Item | None:
        """What is called as an image.

        The thing of `images/left/img.0001.jpg` is the first of these that exists: `images/left/img.0001`,
        `left/img.0001`, `img.0001`; then the same with the image's own suffix, which tells apart images that differ by
        suffix alone.
        """
        for name in (image.with_suffix(""), image):
            for key in self._tails(name):
                if key in self._items:
                    return self._items[key]
        return None

    def find(self, image: PurePath) -> Item | None:
        """What is called as an image, or nearly so.

        Raises:
            GsegError: several are.
        """
        found = self.exact(image)
        if found is not None or not self._loose:
            return found
        for key in self._tails(image.with_suffix("")):
            head, slash, leaf = key.rpartition("/")
            plain = head + slash + (leaf.lstrip("0") or "0") if leaf.isdecimal() else key
            names = self._loose.get(key.casefold()) or self._loose.get(plain.casefold(), [])
            if len(names) > 1:
                raise GsegError(
                    f"{names[0]} and {names[1]} could both be of {image.name}. Keep one, or name its folder."
                )
            if names:
                return self._items[names[0]]
        return None

    def _tails(self, image: PurePath) -> Iterable[str]:
        parts = unicodedata.normalize("NFC", image.as_posix()).split("/")
        for count in range(min(self._depth, len(parts)), 0, -1):
            yield "/".join(parts[-count:])


def _common_folder(names: Iterable[str]) -> str:
    """The folders that all names begin with, with a slash at the end; "" for none."""
    folders = [name.split("/")[:-1] for name in names]
    common: list[str] = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join([*common, ""]) if common else ""
