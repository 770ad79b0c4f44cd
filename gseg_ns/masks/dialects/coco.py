"""COCO: one JSON file for all images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.records import Size, mask_set
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.reading import integer, text


class CocoDocument:
    """`images` and `annotations` of a COCO file (detection and segmentation, CVAT, Roboflow, Label Studio, FiftyOne).

    Raises:
        GsegError: it is damaged.
    """

    dialect = "COCO, one file for all images"

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path = path
        self._sizes: dict[str, Size] = {}
        self._records: dict[str, list[Any]] = {}
        named = (entry for entry in data.get("categories") or [] if isinstance(entry, dict))
        self._categories = {str(entry.get("id")): entry.get("name") for entry in named}
        # Numbers in one list and the same as text in the other mean the same image.
        by_image = defaultdict(list)
        for record in data.get("annotations") or []:
            by_image[str(record["image_id"])].append(record)
        found = len(by_image)
        for image in data["images"]:
            extra = image.get("extra")
            # Roboflow puts a hash into names, and keeps the former one here.
            name = extra.get("name") if isinstance(extra, dict) else None
            name = text(name or image["file_name"])
            if name in self._sizes:
                raise GsegError(f"{path} has two images that are called {name}. Rename one.")
            self._sizes[name] = integer(image["height"], 1), integer(image["width"], 1)
            self._records[name] = by_image.pop(str(image["id"]), [])
        if found and len(by_image) == found:
            raise GsegError(f"{path}: its annotations are of no image that it lists (image_id). Export it again.")

    @property
    def names(self) -> dict[str, str]:
        """What images are called -> the entry that `masks` takes."""
        return {name: name for name in self._sizes}

    def masks(self, entry: str) -> MaskSet:
        """The masks of an image; boxes without a segmentation are none.

        Raises:
            GsegError: one is damaged.
            ValueError: a number is none.
        """
        records = [record for record in self._records[entry] if record.get("segmentation")]
        if self._records[entry] and not records:
            raise GsegError(f"{self.path} has boxes of {entry} and no masks. Export segmentations.")
        return mask_set(self.path, [self._called(record) for record in records], self._sizes[entry])

    def _called(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record with the name of its category, which the file lists once."""
        name = self._categories.get(str(record.get("category_id")))
        return record if name is None else {"category_name": name, **record}
