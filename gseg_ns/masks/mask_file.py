"""Where the masks of one photograph are: a file, several, or an entry of a file for many photographs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gseg_ns.errors import GsegError
from gseg_ns.masks.dialects.documents import open_document
from gseg_ns.reading import reading

_SNIFFED = 2**16
"""Bytes of a file that are looked at for what wrote it."""
_SHAPE = 2
"""Dimensions of a label map."""
_COLOR_TYPES = {0: "grey", 2: "RGB ids", 3: "palette", 4: "grey and alpha", 6: "RGB ids and alpha"}


@dataclass(frozen=True)
class MaskFile:
    """The masks of one photograph."""

    path: Path
    """The file; the folder that holds them where there is a file an object."""
    key: str
    """Path below the folder of masks, without suffix."""
    entry: str | None = None
    """Which image of a file for many."""
    parts: tuple[Path, ...] = ()
    """Files of an object each."""
    layout: str = ""
    """How those are put down."""

    @classmethod
    def of(cls, path: Path) -> MaskFile:
        """A file that is known to be of one photograph."""
        return cls(path, path.stem)

    def __str__(self) -> str:
        """What to call it in messages."""
        return str(self.path) if self.entry is None else f"{self.path} ({self.entry})"

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files whose bytes decide what the masks are."""
        return self.parts or (self.path,)

    @cached_property
    def is_label_map(self) -> bool:
        """Whether it holds one label a pixel, and not masks that may overlap."""
        if self.parts or self.entry is not None:
            return False
        suffix = self.path.suffix.lower()
        return suffix == ".png" or (suffix == ".npy" and self._npy_dimensions() == _SHAPE)

    @cached_property
    def dialect(self) -> str:
        """What wrote it, as far as can be seen."""
        if self.parts:
            return f"a binary PNG for each object, {self.layout}"
        if self.entry is not None:
            document = open_document(self.path)
            assert document is not None
            return document.dialect
        suffix = self.path.suffix.lower()
        if suffix == ".npy":
            return "NumPy label map" if self.is_label_map else "NumPy stack of masks"
        return self._png() if suffix == ".png" else self._json()

    def _head(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(_SNIFFED)
        except OSError:
            return b""

    def _png(self) -> str:
        head = self._head()
        if len(head) < 26 or not head.startswith(b"\x89PNG"):
            return "PNG label map"
        return f"PNG label map ({head[24]} bits, {_COLOR_TYPES.get(head[25], 'unknown')})"

    def _json(self) -> str:
        head = self._head()
        if b'"shapes"' in head or b'"imagePath"' in head:
            return "LabelMe or X-AnyLabeling"
        if b'"original_width"' in head:
            return "Label Studio"
        if b'"img_width"' in head or b'"box_format"' in head:
            return "Grounded-SAM-2"
        if b'"images"' in head and b'"annotations"' in head:
            return "COCO, a file an image"
        return "SA-1B JSON"

    def _npy_dimensions(self) -> int:
        import numpy as np

        with suppress(GsegError), reading(self.path, "an array"):  # told where it is read
            return int(np.load(self.path, mmap_mode="r", allow_pickle=False).ndim)
        return _SHAPE
