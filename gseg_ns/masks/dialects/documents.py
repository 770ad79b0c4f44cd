"""Files that hold the masks of many images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.coco import CocoDocument
from gseg_ns.masks.dialects.cvat import CvatDocument
from gseg_ns.masks.dialects.label_studio import LabelStudioDocument, is_label_studio
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.reading import read_json, reading

LARGEST_JSON = 2**28
_MARKS = (b'"images"', b'"original_width"', b"<annotations", b'"image_id"')
"""What of a file shows, before it is parsed, that it may hold many images."""
_ABOUT = ("masks of many images", "Export it again.")


class Document(Protocol):
    """Masks of many images in one file."""

    dialect: str

    @property
    def names(self) -> Mapping[str, str]:
        """What images are called -> the entry that `masks` takes."""
        ...

    def masks(self, entry: str) -> MaskSet:
        """The masks of an image."""
        ...


def may_be_document(path: Path) -> bool:
    """Whether a file may hold the masks of many images; false for most that cannot, without parsing them."""
    if path.suffix.lower() not in (".json", ".xml"):
        return False
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return any(mark in content for mark in _MARKS)


def open_document(path: Path) -> Document | None:
    """A file that holds masks of many images, read; None where it is of another kind.

    Raises:
        GsegError: it is damaged.
    """
    with reading(path, *_ABOUT):
        status = path.stat()
        return _open(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _open(path: Path, time: int, size: int) -> Document | None:
    if path.suffix.lower() == ".xml":
        return CvatDocument(path)
    return as_document(path, read_json(path, *_ABOUT, most=LARGEST_JSON))


def as_document(path: Path, data: Any) -> Document | None:
    """What `open_document` gives for a parsed JSON file."""
    if isinstance(data, dict) and isinstance(data.get("images"), list) and "annotations" in data:
        # Panoptic annotations say what the colors of PNGs are, and hold no masks.
        records = data["annotations"] or []
        panoptic = any(isinstance(record, dict) and "segments_info" in record for record in records[:1])
        return None if panoptic or not data["images"] else CocoDocument(path, data)
    if isinstance(data, list) and len({str(one["image_id"]) for one in data if _is_result(one)}) > 1:
        raise GsegError(
            f"{path} holds COCO's results, which name images by number alone. Put them into the file of the data set, "
            "as its `annotations` beside its `images` (pycocotools: COCO(data set).loadRes(results).dataset)."
        )
    return LabelStudioDocument(path, data) if is_label_studio(data) else None


def _is_result(record: Any) -> bool:
    """Whether an entry of a list is of COCO's results."""
    return isinstance(record, dict) and "image_id" in record and "segmentation" in record


def document_masks(path: Path, entry: str) -> MaskSet:
    """The masks of one image of a document.

    Raises:
        GsegError: it is damaged.
    """
    document = open_document(path)
    if document is None:
        raise GsegError(f"{path} holds no masks of many images. {_ABOUT[1]}")
    with reading(path, *_ABOUT):
        return document.masks(entry)
