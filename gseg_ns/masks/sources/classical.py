"""Masks without any weights: Felzenszwalb segments, merged over their adjacency graph, cut at several granularities.

No substitute for SAM: it knows colors and textures, not objects.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.mask_set import GRANULARITIES, MaskSet
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult

# Lightness changes with shading, hue hardly: differences of lightness count less.
_LAB_WEIGHTS = np.array([0.7, 1.3, 1.3], dtype=np.float32)
_COLORS = 24
# Lab distance at which two entries of the color book count as e-fold less alike.
_COLOR_BLUR = 12.0
# Radii of the windows whose colors are compared across an edge, as fractions of the image's diagonal.
_RADII = (0.012, 0.03)
# A region grown by merging into something this much more costly is looked at for its stability.
_STABILITY_STEP = 1.15


@dataclass
class ClassicalConfig:
    """Felzenszwalb segments merged by edge strength, color and shape. Needs no weights; no substitute for SAM."""

    name: ClassVar[str] = "classical"
    embeds: ClassVar[bool] = False

    levels: tuple[float, float, float] = (0.19, 0.26, 0.35)
    """Largest cost of a merge for the granularities subpart, part and whole: higher gives fewer, larger masks."""
    granularity: Literal["all", "subpart", "part", "whole"] = "all"
    """Which of them to keep."""
    work_side: int = 640
    """Segment at this size of the longer side, at most; masks are as large as the photograph all the same."""
    scale: float = 20.0
    """Felzenszwalb's scale of the first segments: higher gives larger ones."""
    min_area: float = 0.0005
    """Leave out masks of less than this fraction of the image."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return False

    def settings(self) -> dict[str, Any]:
        """All options."""
        return {
            "levels": list(self.levels),
            "granularity": self.granularity,
            "work_side": self.work_side,
            "scale": self.scale,
            "min_area": self.min_area,
        }

    def setup(self, device: str) -> MaskSource:
        """Check the options; there is nothing to load, and it runs on the CPU."""
        if not 0 < self.levels[0] <= self.levels[1] <= self.levels[2]:
            raise GsegError(f"The levels of classical are {self.levels}; they must be above 0 and rise.")
        if self.work_side < 16 or self.scale <= 0 or self.min_area < 0:
            raise GsegError("classical needs work_side of 16 or more, scale above 0 and min_area of 0 or more.")
        return ClassicalSource(self)


class ClassicalSource:
    """See `ClassicalConfig`."""

    def __init__(self, config: ClassicalConfig) -> None:
        self.config = config

    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """Masks in falling order of score; each says its coarsest granularity."""
        height, width = photo.pixels.shape[:2]
        pixels = self._work_image(photo.pixels)
        segments = _Segments(pixels, self.config.scale)
        tree = _MergeTree(segments)
        wanted = GRANULARITIES if self.config.granularity == "all" else (self.config.granularity,)
        # Coarsest first, so that a region that several levels share is kept once, as the coarsest.
        regions: dict[int, tuple[str, float]] = {}
        for name in reversed(GRANULARITIES):
            level = self.config.levels[GRANULARITIES.index(name)]
            for node in tree.cut(level) if name in wanted else ():
                if tree.area[node] >= max(1.0, self.config.min_area * segments.labels.size):
                    regions.setdefault(node, (name, level))
        nodes = np.array(list(regions), dtype=np.int64)
        members = tree.members(nodes)
        edge = segments.edge_strength(members)
        stable = np.array([tree.stability(node, level) for node, (_, level) in regions.items()])
        scores = 0.5 + 0.5 * np.sqrt(edge * stable)
        masks = MaskSet.from_arrays(
            members[:, segments.labels],
            scores.astype(np.float32),
            [
                {"stability_score": round(float(value), 6), "granularity": granularity}
                for value, (granularity, _) in zip(stable, regions.values(), strict=True)
            ],
        )
        masks = masks.select(torch.argsort(masks.scores, descending=True, stable=True))
        return SourceResult(masks.resize(height, width))

    def _work_image(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        longest = max(height, width)
        if longest <= self.config.work_side:
            return pixels
        from PIL import Image

        size = [max(1, round(side * self.config.work_side / longest)) for side in (width, height)]
        return np.asarray(Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.BOX))


class _Segments:
    """Felzenszwalb's segments, what they look like, and how strong the edges between them are."""

    def __init__(self, pixels: np.ndarray, scale: float) -> None:
        from scipy import ndimage
        from skimage import color, segmentation

        height, width = pixels.shape[:2]
        smooth = ndimage.gaussian_filter(pixels.astype(np.float32) / 255, (0.8, 0.8, 0))
        labels = segmentation.felzenszwalb(
            smooth, scale=scale, sigma=0.0, min_size=max(8, height * width // 5000), channel_axis=2
        )
        self.labels = np.unique(labels, return_inverse=True)[1].reshape(height, width)
        """int [H, W], 0 ... S-1."""
        count = int(self.labels.max()) + 1
        flat = self.labels.ravel()
        lab = color.rgb2lab(smooth).astype(np.float32) * _LAB_WEIGHTS
        entry, likeness = _color_book(lab)
        self.area = np.bincount(flat, minlength=count).astype(np.float64)
        self.histogram = np.stack(
            [np.bincount(flat, likeness[entry, k].ravel(), count) for k in range(_COLORS)], axis=1
        )
        """float [S, colors], summed over pixels."""
        rows, columns = np.divmod(np.arange(flat.size), width)
        self.box = np.zeros((count, 4))
        """float [S, 4]: top, left, bottom, right; the last two exclusive."""
        for axis, values in enumerate((rows, columns)):
            self.box[:, axis] = np.inf
            np.minimum.at(self.box[:, axis], flat, values)
            np.maximum.at(self.box[:, axis + 2], flat, values + 1)
        self._find_borders(lab, likeness[entry])

    def _find_borders(self, lab: np.ndarray, soft: np.ndarray) -> None:
        """Pairs of segments that touch, the length of their border, and its strength summed over that length."""
        contrast = _texture_contrast(soft)
        # The step itself, saturated: beyond this Lab difference an edge is an edge.
        step = [np.minimum(np.sqrt((np.diff(lab, axis=axis) ** 2).sum(axis=2)) / 12, 1) for axis in (0, 1)]
        ones = [self.labels[:-1], self.labels[:, :-1]]
        others = [self.labels[1:], self.labels[:, 1:]]
        differ = [one != other for one, other in zip(ones, others, strict=True)]
        one = np.concatenate([label[where] for label, where in zip(ones, differ, strict=True)])
        other = np.concatenate([label[where] for label, where in zip(others, differ, strict=True)])
        count = len(self.area)
        pairs, index = np.unique(np.minimum(one, other) * count + np.maximum(one, other), return_inverse=True)
        self.first, self.second = pairs // count, pairs % count
        self.length = np.bincount(index, minlength=len(pairs)).astype(np.float64)
        strengths = [np.concatenate([v[w] for v, w in zip(values, differ, strict=True)]) for values in (contrast, step)]
        self.contrast, self.step = (np.bincount(index, strength, len(pairs)) for strength in strengths)

    def edge_strength(self, members: np.ndarray) -> np.ndarray:
        """How clearly regions stand out along their outline, 0 to 1; 0 for one that has no outline.

        Args:
            members: bool [R, S].

        Returns:
            float [R].
        """
        outline = members[:, self.first] != members[:, self.second]
        length = np.maximum(outline @ self.length, 1)
        return np.clip(np.sqrt((outline @ self.contrast) * (outline @ self.step)) / length / 0.5, 0, 1)


def _color_book(lab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce an image to a few colors of its own (k-means from farthest points, so without any chance).

    Returns:
        entry of each pixel int [H, W]; how much each entry counts as each other one, float32 [colors, colors], rows
        sum to 1.
    """
    flat = lab.reshape(-1, 3)
    sample = flat[:: max(1, len(flat) // 4000)].astype(np.float64)
    centres = sample[:1]
    distance = np.full(len(sample), np.inf)
    for _ in range(_COLORS - 1):
        distance = np.minimum(distance, ((sample - centres[-1]) ** 2).sum(axis=1))
        centres = np.concatenate([centres, sample[distance.argmax()][None]])
    for _ in range(10):
        nearest = _nearest(sample, centres)
        size = np.bincount(nearest, minlength=_COLORS)
        sums = np.stack([np.bincount(nearest, sample[:, axis], _COLORS) for axis in range(3)], axis=1)
        centres = np.where(size[:, None] > 0, sums / np.maximum(size, 1)[:, None], centres)
    apart = np.sqrt(((centres[:, None] - centres[None]) ** 2).sum(axis=2))
    likeness = np.exp(-apart / _COLOR_BLUR)
    likeness /= likeness.sum(axis=1, keepdims=True)
    return _nearest(flat, centres.astype(np.float32)).reshape(lab.shape[:2]), likeness.astype(np.float32)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    # One centre at a time: no [points, centres, 3] array, and sums in an order that no thread count changes.
    best = np.full(len(points), np.inf, dtype=points.dtype)
    index = np.zeros(len(points), dtype=np.int64)
    x, y, z = np.ascontiguousarray(points.T)
    for position, centre in enumerate(centres):
        distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        closer = distance < best
        best[closer] = distance[closer]
        index[closer] = position
    return index


def _texture_contrast(soft: np.ndarray) -> list[np.ndarray]:
    """How much the colors of two windows on either side of each pixel boundary differ, 0 to 1.

    Compares distributions, so that the stripes of one surface are no edge but its outline is (the idea of the texture
    gradient of Martin, Fowlkes and Malik 2004, with boxes for half discs).

    Args:
        soft: float32 [H, W, colors], what each pixel counts as.

    Returns:
        float32 [H-1, W], of boundaries between rows, and [H, W-1], between columns.
    """
    from scipy import ndimage

    diagonal = float(np.hypot(*soft.shape[:2]))
    total = [np.zeros([n - (i == axis) for i, n in enumerate(soft.shape[:2])], dtype=np.float32) for axis in (0, 1)]
    for fraction in _RADII:
        radius = max(2, round(fraction * diagonal))
        for color in range(soft.shape[2]):
            box = ndimage.uniform_filter(soft[..., color], size=2 * radius + 1, mode="nearest")
            for axis, sums in enumerate(total):
                length = soft.shape[axis]
                before = np.clip(np.arange(length - 1) - radius, 0, length - 1)
                after = np.clip(np.arange(length - 1) + 1 + radius, 0, length - 1)
                sums += np.abs(box.take(after, axis) - box.take(before, axis))
    return [sums / (2 * len(_RADII)) for sums in total]


class _MergeTree:
    """Segments merged two by two, the cheapest merge first, until one is left.

    A merge costs more the stronger the common edge, the more the colors differ, the less the two fill their common
    box (Selective Search, Uijlings et al. 2013: things that lie inside each other belong together), and the larger the
    smaller of the two.

    Nodes 0 ... S-1 are the segments; each later node is the union of two earlier ones.
    """

    def __init__(self, segments: _Segments) -> None:
        count = len(segments.area)
        total = 2 * count - 1
        self.segments = segments
        self.area = np.zeros(total)
        self.cost = np.zeros(total)
        """Largest cost of the merges that made a node."""
        self.parent = np.full(total, -1)
        self.children = np.full((total, 2), -1)
        self._histogram = np.zeros((total, _COLORS))
        self._box = np.zeros((total, 4))
        self.area[:count] = segments.area
        self._histogram[:count] = segments.histogram
        self._box[:count] = segments.box
        self.count = count
        self._merge_all()

    def _costs(self, node: int, others: list[int], borders: np.ndarray) -> np.ndarray:
        """Cost of merging a node with each of its neighbours; borders [n, 2]: length and summed contrast."""
        image = self.segments.labels.size
        areas = self.area[others]
        mine = self._histogram[node] / self.area[node]
        colors = 0.5 * np.abs(self._histogram[others] / areas[:, None] - mine).sum(axis=1)
        sides = np.maximum(self._box[others, 2:], self._box[node, 2:]) - np.minimum(
            self._box[others, :2], self._box[node, :2]
        )
        gap = np.clip((sides.prod(axis=1) - areas - self.area[node]) / image, 0, 1)
        size = (np.minimum(areas, self.area[node]) / image) ** 0.25
        return (borders[:, 1] / borders[:, 0] + colors + 3 * gap) * size

    def _merge_all(self) -> None:
        segments = self.segments
        borders: list[dict[int, tuple[float, float]]] = [{} for _ in range(len(self.area))]
        values = (segments.first, segments.second, segments.length, segments.contrast)
        for one, other, length, contrast in zip(*(array.tolist() for array in values), strict=True):
            borders[one][other] = borders[other][one] = (length, contrast)
        queue: list[tuple[float, int, int]] = []
        for node in range(self.count):
            later = [other for other in borders[node] if other > node]
            if later:
                costs = self._costs(node, later, np.array([borders[node][other] for other in later]))
                queue.extend((cost, node, other) for cost, other in zip(costs.tolist(), later, strict=True))
        heapq.heapify(queue)
        alive = np.zeros(len(self.area), dtype=bool)
        alive[: self.count] = True
        highest = 0.0
        for merged in range(self.count, len(self.area)):
            cost, one, other = heapq.heappop(queue)
            while not (alive[one] and alive[other]):
                cost, one, other = heapq.heappop(queue)
            highest = max(highest, cost)
            alive[[one, other]] = False
            alive[merged] = True
            self.parent[[one, other]] = merged
            self.children[merged] = one, other
            self.cost[merged] = highest
            self.area[merged] = self.area[one] + self.area[other]
            self._histogram[merged] = self._histogram[one] + self._histogram[other]
            self._box[merged, :2] = np.minimum(self._box[one, :2], self._box[other, :2])
            self._box[merged, 2:] = np.maximum(self._box[one, 2:], self._box[other, 2:])
            joined: dict[int, tuple[float, float]] = {}
            for part in (one, other):
                for neighbour, (length, contrast) in borders[part].items():
                    if neighbour not in (one, other):
                        before = joined.get(neighbour, (0.0, 0.0))
                        joined[neighbour] = (before[0] + length, before[1] + contrast)
                borders[part] = {}
            borders[merged] = joined
            for neighbour, border in joined.items():
                borders[neighbour].pop(one, None)
                borders[neighbour].pop(other, None)
                borders[neighbour][merged] = border
            if joined:
                neighbours = list(joined)
                costs = self._costs(merged, neighbours, np.array([joined[n] for n in neighbours]))
                for value, neighbour in zip(costs.tolist(), neighbours, strict=True):
                    heapq.heappush(queue, (value, merged, neighbour))

    def cut(self, level: float) -> list[int]:
        """The partition of the image by all merges of at most this cost."""
        above = np.where(self.parent >= 0, self.cost[self.parent], np.inf) > level
        return np.flatnonzero((self.cost <= level) & above).tolist()

    def members(self, nodes: np.ndarray) -> np.ndarray:
        """The segments that each node is made of: bool [len(nodes), S]."""
        found = np.zeros((len(nodes), self.count), dtype=bool)
        for row, node in enumerate(nodes.tolist()):
            stack = [node]
            while stack:
                top = stack.pop()
                if top < self.count:
                    found[row, top] = True
                else:
                    stack.extend(self.children[top].tolist())
        return found

    def stability(self, node: int, level: float) -> float:
        """IoU of a region with what it becomes at a laxer level and with what is left of it at a stricter one.

        The counterpart of SAM's stability score.
        """
        larger = node
        while self.parent[larger] >= 0 and self.cost[self.parent[larger]] <= level * _STABILITY_STEP:
            larger = int(self.parent[larger])
        smaller = node
        while smaller >= self.count and self.cost[smaller] > level / _STABILITY_STEP:
            one, other = self.children[smaller].tolist()
            smaller = one if self.area[one] >= self.area[other] else other
        return float(self.area[smaller] / self.area[larger])
