"""Overlapping, scored masks of one image, kept as COCO run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError

Rle = dict[str, Any]
"""COCO run lengths: `size` [height, width] and `counts`, COCO's compressed string."""

PIXEL_MEMORY = 8
"""Bytes of memory that masks or labels of one pixel take while they are read and painted."""

MOST_LABELS = 2**16
"""Labels of one image that masks are made of."""
MOST_TABLE = 2**27
"""Bytes of a table of regions and masks; what is computed from it takes up to eight times as much."""
_MOST_STRETCHES = 2**22
_SEARCHED = 16
"""One in so many pixels, or fewer, are searched for among the stretches, which otherwise are drawn."""
_BAND = 2**20
"""Pixels that are looked at together."""

GRANULARITIES = ("subpart", "part", "whole")
"""SAM's three mask levels, in the order of its mask tokens: smallest first."""


def rle_counts(rle: Mapping[str, Any]) -> np.ndarray:
    """Run lengths of a COCO RLE, the first of zeros, in column-major pixel order.

    pycocotools trusts its input and writes past the image when run lengths are damaged, so that reading goes through
    this decoder instead.

    Args:
        rle: `size` [height, width] and `counts`, a list of run lengths or COCO's compressed string.

    Returns:
        int64 [runs], whose sum is height * width.

    Raises:
        GsegError: the run lengths do not fill the image exactly.
    """
    size = rle.get("size")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(type(n) is int and 0 < n < 2**31 for n in size)):
        raise GsegError("run lengths without a size [height, width]")
    counts = rle.get("counts")
    if isinstance(counts, str):
        counts = counts.encode("ascii", errors="replace")
    if isinstance(counts, bytes):
        runs = _decode_counts(counts)
    elif isinstance(counts, Sequence) and all(type(n) is int and 0 <= n < 2**62 for n in counts):
        runs = np.asarray(counts, dtype=np.int64)
    else:
        raise GsegError("run lengths that are neither COCO's string nor a list of integers")
    total = sum(runs.tolist())  # in integers of Python: 64 bits may come round to the right sum
    if total != size[0] * size[1] or (runs < 0).any():
        raise GsegError(f"run lengths cover {total} pixels but the size {size[0]}x{size[1]} has {size[0] * size[1]}")
    return runs


def _decode_counts(text: bytes) -> np.ndarray:
    """COCO's compressed counts: 5 bits a character, continuation bit 0x20.

    Each run from the fourth on is the difference to the one two before. Format: `rleFrString` of cocoapi's maskApi.c.
    """
    code = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if len(code) == 0:
        return code
    if ((code < 0) | (code > 63)).any() or code[-1] & 0x20:
        raise GsegError("run lengths with characters that COCO's encoding does not have, or cut short")
    last = (code & 0x20) == 0
    number = np.concatenate([[0], np.cumsum(last)[:-1]])
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    digit = np.arange(len(code)) - starts[number]
    if digit.max() > 6:
        raise GsegError("run lengths larger than any image")
    value = np.add.reduceat((code & 0x1F) << (5 * digit), starts)
    ends = np.flatnonzero(last)
    value -= np.where(code[ends] & 0x10, np.int64(1) << (5 * (digit[ends] + 1)), 0)
    value[1::2] = np.cumsum(value[1::2])
    value[2::2] = np.cumsum(value[2::2])
    return value


def encode(mask: np.ndarray) -> Rle:
    """COCO RLE, compressed, as JSON can hold it.

    Args:
        mask: bool [height, width].
    """
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in mask.shape], "counts": rle["counts"].decode("ascii")}


def encode_stretches(starts: np.ndarray, stops: np.ndarray, height: int, width: int) -> Rle:
    """COCO RLE, compressed, of what lies within stretches of column-major pixels.

    Args:
        starts: int64 [S], ascending.
        stops: int64 [S], each beyond its start and not beyond the next one.
        height: of the image.
        width: of the image.
    """
    from pycocotools import mask as coco

    ends = np.column_stack([starts, stops]).flatten()
    counts = np.diff(ends, prepend=0)
    if len(ends) == 0 or ends[-1] < height * width:
        counts = np.append(counts, height * width - (ends[-1] if len(ends) else 0))
    size = [height, width]
    counts = coco.frPyObjects({"size": size, "counts": counts.tolist()}, height, width)["counts"]
    return {"size": size, "counts": counts.decode("ascii")}


def stretches_of(labels: np.ndarray, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Column-major stretches of one label: first pixel, int64 [S], and label, [S].

    Args:
        labels: [H, W].
        most: stretches at most.

    Raises:
        GsegError: there are more, so that the image is noise.
    """
    height, width = labels.shape
    columns = max(1, _BAND // height)
    starts, values, found = [], [], 0
    for left in range(0, width, columns):
        band = labels[:, left : left + columns].T.flatten()
        change = np.flatnonzero(band[1:] != band[:-1]) + 1
        # A label goes on from the foot of a column to the head of the next.
        if left == 0 or band[0] != labels[-1, left - 1]:
            change = np.append(0, change)
        starts.append(change + left * height)
        values.append(band[change])
        found += len(change)
        if most is not None and found > most:
            raise GsegError(f"labels that change more than {most} times are no masks")
    return np.concatenate(starts), np.concatenate(values)


def draw_stretches(starts: np.ndarray, values: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image [H, W] of a value a stretch, column by column: some columns at a time, to take no memory twice.

    Args:
        starts: [S], first pixel of each stretch, ascending from 0; an empty one begins where the next does.
        values: [S].
        height: of the image.
        width: of the image.
    """
    image = np.empty((height, width), dtype=values.dtype)
    columns = max(1, _BAND // height)
    for left in range(0, width, columns):
        right = min(left + columns, width)
        begin, end = left * height, right * height
        some = slice(np.searchsorted(starts, begin, side="right") - 1, np.searchsorted(starts, end))
        lengths = np.diff(np.append(np.maximum(starts[some], begin), end))
        image[:, left:right] = np.repeat(values[some], lengths).reshape(right - left, height).T
    return image


@dataclass(frozen=True)
class MaskSet:
    """Overlapping masks of one image, with a score each.

    Masks stay run-length encoded. What many callers ask ("which masks cover these pixels", overlaps, areas, painting)
    is answered from `regions`: the partition of the image into sets of pixels that the same masks cover.

    Raises:
        GsegError: a mask's run lengths do not fit the image, or there is not one score a mask.
    """

    height: int
    width: int
    rles: list[Rle] = field(default_factory=list)
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))
    """float32 [M], predicted IoU; larger is better."""
    extra: list[dict[str, Any]] = field(default_factory=list)
    """What else a record of the file says of each mask (`stability_score`, `point_coords`, `granularity`, ...)."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise GsegError(f"an image of {self.height}x{self.width} pixels has no masks")
        if self.scores.shape != (len(self.rles),):
            raise GsegError(f"{len(self.rles)} masks but scores of shape {tuple(self.scores.shape)}")
        if not self.extra:
            object.__setattr__(self, "extra", [{} for _ in self.rles])
        if len(self.extra) != len(self.rles):
            raise GsegError(f"{len(self.rles)} masks but {len(self.extra)} records of extra values")
        for rle in self.rles:
            if list(rle.get("size", [])) != [self.height, self.width]:
                raise GsegError(f"a mask of size {rle.get('size')} in an image of size [{self.height}, {self.width}]")

    def __len__(self) -> int:
        return len(self.rles)

    @classmethod
    def from_arrays(
        cls,
        masks: Tensor | np.ndarray,
        scores: Tensor | np.ndarray | Sequence[float] | None = None,
        extra: Sequence[Mapping[str, Any]] = (),
    ) -> MaskSet:
        """Encode dense masks.

        Args:
            masks: bool [M, H, W].
            scores: [M]; 1 for all where not given.
            extra: other values of each mask, M of them or none.
        """
        array = masks.detach().cpu().numpy() if isinstance(masks, Tensor) else np.asarray(masks)
        if array.ndim != 3:
            raise GsegError(f"masks of shape {array.shape}; needed [M, H, W]")
        values = torch.ones(len(array)) if scores is None else torch.as_tensor(scores, dtype=torch.float32).cpu()
        return cls(
            height=array.shape[1],
            width=array.shape[2],
            rles=[encode(mask != 0) for mask in array],
            scores=values,
            extra=[dict(record) for record in extra],
        )

    @classmethod
    def from_labels(cls, labels: Tensor, scores: Mapping[int, float] | None = None) -> MaskSet:
        """One mask a label of a label map; 0 is no mask.

        Args:
            labels: integer [H, W].
            scores: score of each label; 1 for those not in it.

        Raises:
            GsegError: there are more labels, or changes of label, than an image of masks has.
        """
        height, width = labels.shape
        starts, values = stretches_of(labels.cpu().numpy(), _MOST_STRETCHES)
        order = np.argsort(values, kind="stable")
        ids, first = np.unique(values[order], return_index=True)
        if len(ids) > MOST_LABELS:
            raise GsegError(f"{len(ids)} labels in one image, which has at most {MOST_LABELS} masks")
        stops = np.append(starts[1:], height * width)
        rles = {
            int(label): encode_stretches(starts[rows], stops[rows], height, width)
            for label, rows in zip(ids, np.split(order, first[1:]), strict=True)
            if label != 0
        }
        return cls(
            height=height,
            width=width,
            rles=list(rles.values()),
            scores=torch.tensor([(scores or {}).get(i, 1.0) for i in rles], dtype=torch.float32),
            extra=[{"id": i} for i in rles],
        )

    @cached_property
    def _runs(self) -> list[np.ndarray]:
        return [rle_counts(rle) for rle in self.rles]

    @property
    def runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs of pixels of all masks, one mask after the other.

        Returns:
            where those of each mask begin, int64 [M + 1]; first column-major pixel of each run, int64 [R]; one past
            its last, int64 [R].
        """
        ends = [np.cumsum(runs) for runs in self._runs]
        none = np.zeros(0, dtype=np.int64)
        first = np.cumsum([0, *(len(one) // 2 for one in ends)])
        starts = np.concatenate([none, *(one[0::2][: len(one) // 2] for one in ends)])
        return first, starts, np.concatenate([none, *(one[1::2] for one in ends)])

    @cached_property
    def areas(self) -> Tensor:
        """int64 [M], pixels of each mask."""
        return torch.tensor([int(runs[1::2].sum()) for runs in self._runs], dtype=torch.int64)

    @cached_property
    def bboxes(self) -> Tensor:
        """int64 [M, 4], COCO's x, y, width, height; zeros for an empty mask."""
        boxes = np.zeros((len(self), 4), dtype=np.int64)
        for index, runs in enumerate(self._runs):
            ends = np.cumsum(runs)
            start, length = ends[0::2][: len(runs) // 2], runs[1::2]
            start, length = start[length > 0], length[length > 0]
            if len(start) == 0:
                continue
            stop = start + length - 1
            left, right = start.min() // self.height, stop.max() // self.height
            # A run that goes on into the next column touches both the bottom row and the top row.
            wraps = bool((start // self.height != stop // self.height).any())
            top = 0 if wraps else (start % self.height).min()
            bottom = self.height - 1 if wraps else (stop % self.height).max()
            boxes[index] = (left, top, right - left + 1, bottom - top + 1)
        return torch.from_numpy(boxes)

    def decode(self) -> Tensor:
        """Bool [M, H, W]."""
        masks = np.zeros((len(self), self.width, self.height), dtype=bool)
        for index, runs in enumerate(self._runs):
            masks[index] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(self.width, self.height)
        return torch.from_numpy(np.ascontiguousarray(masks.transpose(0, 2, 1)))

    @cached_property
    def _stretches(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column-major stretches of pixels that the same masks cover, found from the ends of all runs at once.

        The work is that of sorting these ends, whatever the size of the image and of its masks.

        Returns:
            first pixel of each, int64 [S]; which of R sets of masks covers it, int32 [S]; a stretch of each set, int64
            [R], of sets by their first stretch. Set 0 is the empty one, whose stretch may be empty.
        """
        pixels, count = self.height * self.width, max(len(self), 1)
        ends = [np.cumsum(runs)[:-1] * count + index for index, runs in enumerate(self._runs)]
        keys = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *ends]))
        keys = keys[: np.searchsorted(keys, pixels * count)]
        # A set is known by the exclusive or of a random word of each of its masks, which each end of a run puts in or
        # takes out. That two of a million sets have one word happens to one image in 10^7.
        words = np.random.default_rng().integers(1, 2**63, size=count, dtype=np.int64)
        inside = np.bitwise_xor.accumulate(words[keys % count])
        keys //= count
        last = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)) if len(keys) else np.zeros(0, dtype=np.int64)
        starts = np.concatenate([[0], keys[last]])
        _, first, which = np.unique(np.concatenate([[0], inside[last]]), return_index=True, return_inverse=True)
        # In order of appearance, so that the empty set, which the first stretch has, is number 0.
        order = np.argsort(first)
        rank = np.empty(len(order), dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return starts, rank[which.reshape(-1)], first[order]

    @property
    def table_size(self) -> int:
        """Bytes that the table of `regions` takes: one a region and mask."""
        # Each end of a run begins at most one region: usually that is little enough.
        most = len(self) * min(1 + sum(map(len, self._runs)), self.height * self.width + 1)
        return most if most <= MOST_TABLE else len(self) * len(self._stretches[2])

    @cached_property
    def partition(self) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """What `regions` says, without an image: regions by column-major stretches of pixels.

        Returns:
            first pixel of each stretch, int64 [S]; its region, int32 [S]; members as of `regions`.

        Raises:
            GsegError: so many masks cut the image into so many regions that the table would fill memory.
        """
        starts, which, first = self._stretches
        if len(self) * len(first) > MOST_TABLE:
            raise GsegError(f"{len(self)} masks that cut their image into {len(first)} regions are too many")
        members = np.zeros((len(first), len(self)), dtype=bool)
        places = starts[first]
        for index, runs in enumerate(self._runs):
            ends = np.searchsorted(places, np.cumsum(runs))
            changes = np.bincount(ends[0::2], minlength=len(first) + 1)
            changes -= np.bincount(ends[1::2], minlength=len(first) + 1)
            members[:, index] = np.cumsum(changes[:-1]) > 0
        members[0] = False  # its stretch may be empty, and another one begin there
        # In the order of binary numbers, in which a later mask is a larger digit.
        packed = np.packbits(members[:, ::-1], axis=1)
        order = np.argsort(packed.view(f"S{packed.shape[1]}")[:, 0]) if len(self) else np.zeros(1, dtype=np.int64)
        number = np.empty(len(order), dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        for index in range(len(self)):
            members[:, index] = members[order, index]
        return starts, number[which], torch.from_numpy(members)

    @cached_property
    def regions(self) -> tuple[Tensor, Tensor]:
        """The partition of the image by its masks.

        Returns:
            region of each pixel, int32 [H, W]; members bool [R, M]: which masks cover a region. Region 0 is what no
            mask covers (it may be empty).

        Raises:
            GsegError: so many masks cut the image into so many regions that the table would fill memory.
        """
        starts, region, members = self.partition
        return torch.from_numpy(draw_stretches(starts, region, self.height, self.width)), members

    def region_at(self, pixels: Tensor) -> Tensor:
        """The region of some pixels: int64 [P] on the CPU, of flat indices y * width + x, int64 [P] on the CPU."""
        if "regions" in self.__dict__ or len(pixels) * _SEARCHED > self.height * self.width:
            return self.regions[0].flatten()[pixels].long()
        starts, region, _ = self.partition
        places = (pixels % self.width * self.height + pixels // self.width).numpy()
        return torch.from_numpy(region[np.searchsorted(starts, places, side="right") - 1].astype(np.int64))

    def at(self, pixels: Tensor) -> Tensor:
        """Which masks cover these pixels.

        Args:
            pixels: int64 [P], flat indices y * width + x.

        Returns:
            bool [P, M], on the device of `pixels`.
        """
        return self.partition[2][self.region_at(pixels.cpu())].to(pixels.device)

    @property
    def granularities(self) -> list[str | None]:
        """`whole`, `part` or `subpart` of each mask, where its source says."""
        return [record.get("granularity") for record in self.extra]

    def select(self, index: Tensor | Sequence[int]) -> MaskSet:
        """The masks of a bool mask [M] or of indices, in their order."""
        index = torch.as_tensor(index)
        chosen = torch.nonzero(index).flatten() if index.dtype == torch.bool else index.long()
        positions = [int(i) for i in chosen]
        return MaskSet(
            height=self.height,
            width=self.width,
            rles=[self.rles[i] for i in positions],
            scores=self.scores[chosen],
            extra=[self.extra[i] for i in positions],
        )

    def remap(self, source: Tensor) -> MaskSet:
        """Masks of another image whose pixels come from this one's: resizing, undistortion.

        Args:
            source: int64 [H', W'], flat index y * width + x of the pixel to take; -1 takes none (no mask there).

        Returns:
            as many masks, of size [H', W']; some may have become empty.
        """
        region, members = self.regions
        height, width = source.shape
        # Region 0 is in no mask.
        starts, taken = stretches_of(torch.where(source < 0, 0, region.flatten()[source.clamp(min=0)]).numpy())
        bounds = np.append(starts, height * width)
        rles = []
        for member in np.ascontiguousarray(members.numpy().T):
            inside = member[taken]
            ends = bounds[np.flatnonzero(np.diff(inside, prepend=False, append=False))]
            rles.append(encode_stretches(ends[0::2], ends[1::2], height, width))
        return MaskSet(height=height, width=width, rles=rles, scores=self.scores, extra=self.extra)

    def resize(self, height: int, width: int) -> MaskSet:
        """Nearest-neighbour resize; pixel centres correspond."""
        if (height, width) == (self.height, self.width):
            return self
        return self.remap(nearest_index(self.height, self.width, height, width))


def nearest_index(from_height: int, from_width: int, height: int, width: int) -> Tensor:
    """Flat index of the source pixel that holds the centre of each pixel of the resized image.

    Returns:
        int64 [height, width].
    """
    rows = (torch.arange(height) * 2 + 1) * from_height // (2 * height)
    columns = (torch.arange(width) * 2 + 1) * from_width // (2 * width)
    return rows[:, None] * from_width + columns[None, :]
