"""A label map kept by its runs: what all views of a scene take in memory while none of them is looked at."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.masks.mask_set import draw_stretches, stretches_of

_HEADER = struct.Struct("<IIQB?")
"""Height, width, number of labels, bytes of each, whether there are starts."""


@dataclass(frozen=True, eq=False)
class LabelRuns:
    """A label map of one image as column-major runs, in the smallest unsigned integers that hold its labels.

    A photograph of 7 megapixels with a hundred masks has some ten thousand runs. Of labels that change at every other
    pixel the map itself is smaller, and is kept.
    """

    height: int
    width: int
    labels: np.ndarray
    """Unsigned [S], label of each run, no two neighbours the same; where `starts` is None [height * width]."""
    starts: np.ndarray | None
    """uint32 [S], first pixel of each run, counted column by column; the first is 0. None: a run is a pixel."""

    @classmethod
    def of(cls, labels: Tensor) -> LabelRuns:
        """The runs of a label map, integer [H, W]; labels below 0 are 0."""
        array = labels.clamp_min(0).cpu().numpy()
        array = array.astype(smallest(int(array.max(initial=0))))
        return cls.from_stretches(array.shape[0], array.shape[1], *stretches_of(array))

    @classmethod
    def from_stretches(cls, height: int, width: int, starts: np.ndarray, labels: np.ndarray) -> LabelRuns:
        """The runs of stretches of pixels, of which neighbours may have one label.

        Args:
            height: of the image.
            width: of the image.
            starts: [S], first pixel of each, ascending from 0; an empty one begins where the next does.
            labels: [S], not negative.
        """
        filled = np.flatnonzero(np.diff(starts, append=height * width) > 0)
        labels, starts = labels[filled], starts[filled]
        first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1])) if len(labels) else filled
        labels = labels[first].astype(smallest(int(labels.max(initial=0))))
        if (labels.itemsize + 4) * len(first) > labels.itemsize * height * width:
            image = draw_stretches(starts[first], labels, height, width)
            return cls(height, width, image.T.flatten(), None)
        return cls(height, width, labels, starts[first].astype(np.uint32))

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.labels.nbytes + (0 if self.starts is None else self.starts.nbytes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def ids(self) -> np.ndarray:
        """The labels that occur, unsigned, ascending; 0 among them where a pixel has none."""
        return np.unique(self.labels)

    def renumbered(self, table: np.ndarray) -> LabelRuns:
        """Every label k replaced by `table[k]`, not negative."""
        labels, starts = table[self.labels], self.starts
        if starts is None:
            starts = np.arange(len(labels))
        return LabelRuns.from_stretches(self.height, self.width, starts, labels)

    def same_pixels(self, other: LabelRuns) -> bool:
        """Whether the same pixels have a label, whichever."""
        one, two = (
            map_.renumbered((np.arange(int(map_.labels.max(initial=0)) + 1) > 0).astype(np.uint8))
            for map_ in (self, other)
        )
        return one.size == two.size and torch.equal(one.image(), two.image())

    def image(self) -> Tensor:
        """The label map, int32 [H, W]."""
        if self.starts is None:
            drawn = np.ascontiguousarray(self.labels.reshape(self.width, self.height).T)
        else:
            drawn = draw_stretches(self.starts, self.labels, self.height, self.width)
        return torch.from_numpy(drawn.astype(np.int32))

    def to_bytes(self) -> bytes:
        """Everything, for `from_bytes`."""
        header = _HEADER.pack(self.height, self.width, len(self.labels), self.labels.itemsize, self.starts is not None)
        return header + self.labels.tobytes() + (b"" if self.starts is None else self.starts.tobytes())

    @classmethod
    def from_bytes(cls, content: bytes) -> LabelRuns:
        """What `to_bytes` gave.

        Raises:
            GsegError: it did not give this.
        """
        try:
            height, width, count, size, has_starts = _HEADER.unpack_from(content)
            kind = next(kind for kind in (np.uint8, np.uint16, np.uint32) if kind(0).itemsize == size)
            labels = np.frombuffer(content, kind, count, _HEADER.size)
            rest = _HEADER.size + labels.nbytes
            starts = np.frombuffer(content, np.uint32, count, rest) if has_starts else None
        except (struct.error, StopIteration, ValueError) as error:
            raise GsegError(f"damaged runs of labels ({error})") from error
        if len(content) != rest + (0 if starts is None else starts.nbytes):
            raise GsegError("damaged runs of labels (their length is wrong)")
        return cls(height, width, labels, starts)


def smallest(largest: int) -> type[np.unsignedinteger]:
    """The smallest unsigned type that holds numbers from 0 to `largest`."""
    return next(kind for kind in (np.uint8, np.uint16, np.uint32) if largest <= np.iinfo(kind).max)
