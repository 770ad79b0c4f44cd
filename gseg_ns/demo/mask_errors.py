"""True masks made as bad as a segmenter's: per view, inconsistent, overlapping, scored.

The kinds of error are those that Segment Anything's automatic masks show on real photographs: objects missed, two
neighbours in one mask, one object in two, wandering and ragged borders, holes, and whole objects found only in parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gseg_ns.masks import MaskSet

MaskErrorLevel = Literal["none", "mild", "hard"]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskErrors:
    """How often masks go wrong; all but `jitter` and `min_area` are probabilities for each mask.

    Attributes:
        drop: the mask is missing.
        merge: it covers a touching neighbour as well.
        split: it comes in two pieces.
        whole_missed: an object of several parts has only its parts' masks.
        fragment: of a mask cut into islands by something in front, only the largest island is found.
        ragged: its border frays.
        hole: it has a hole.
        jitter: standard deviation of its border's displacement, pixels of a 256 pixel wide image.
        min_area: smaller masks are not found, as a fraction of the image.
    """

    drop: float = 0.0
    merge: float = 0.0
    split: float = 0.0
    whole_missed: float = 0.0
    fragment: float = 0.0
    ragged: float = 0.0
    hole: float = 0.0
    jitter: float = 0.0
    min_area: float = 4e-4

    def as_dict(self) -> dict[str, float]:
        """The rates by name."""
        return asdict(self)


MASK_ERRORS: dict[MaskErrorLevel, MaskErrors] = {
    "none": MaskErrors(),
    "mild": MaskErrors(0.05, 0.03, 0.05, 0.05, 0.3, 0.12, 0.03, 0.35, 6e-4),
    "hard": MaskErrors(0.12, 0.08, 0.12, 0.12, 0.6, 0.4, 0.10, 0.8, 1e-3),
}
"""The presets."""


@dataclass(frozen=True)
class _Mask:
    """A mask in the making: what it should be, and what it has become."""

    truth: BoolArray
    found: BoolArray
    granularity: str


def _window(mask: BoolArray, margin: int) -> tuple[slice, slice]:
    """The mask's bounding box, `margin` pixels wider, inside the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian noise of unit deviation whose values hang together over `sigma` pixels."""
    from scipy.ndimage import zoom

    coarse = rng.standard_normal([int(n / sigma) + 4 for n in shape])
    noise = zoom(coarse, sigma, order=1)[: shape[0], : shape[1]]
    return noise / max(float(noise.std()), 1e-9)


def _redraw_border(mask: BoolArray, jitter: float, ragged: bool, pixel: float, rng: np.random.Generator) -> BoolArray:
    """The mask with its border moved in and out: by a constant, slowly along it and, if `ragged`, from pixel to pixel.

    Args:
        mask: [H, W].
        jitter: deviation of the displacement in pixels.
        ragged: whether the border frays.
        pixel: how many pixels one pixel of a 256 pixel wide image is.
        rng: the randomness.
    """
    from scipy.ndimage import distance_transform_edt

    window = _window(mask, int(6 * pixel) + 4)
    local = np.pad(mask[window], 1, mode="edge")
    inside = distance_transform_edt(local)
    distance = np.where(local, inside - 0.5, 0.5 - distance_transform_edt(~local))[1:-1, 1:-1]
    shift = 0.4 * jitter * rng.standard_normal() + 0.8 * jitter * _smooth_noise(distance.shape, 6 * pixel, rng)
    if ragged:
        shift = shift + 1.3 * pixel * _smooth_noise(distance.shape, 1.5 * pixel, rng)
    # A shift beyond the thickest place would erase a thin mask altogether.
    limit = 0.6 * float(inside.max())
    result = np.zeros_like(mask)
    result[window] = distance > np.clip(shift, -limit, limit)
    return result


def _halves(mask: BoolArray, rng: np.random.Generator) -> list[BoolArray]:
    """The mask cut in two along a line through about its middle."""
    rows, columns = np.nonzero(mask)
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    side = along > np.quantile(along, rng.uniform(0.3, 0.7))
    pieces = []
    for chosen in (side, ~side):
        piece = np.zeros_like(mask)
        piece[rows[chosen], columns[chosen]] = True
        pieces.append(piece)
    return pieces


def _largest_island(mask: BoolArray) -> BoolArray:
    from scipy.ndimage import label

    islands, count = label(mask, structure=np.ones((3, 3)))
    return mask if count < 2 else islands == 1 + int(np.argmax(np.bincount(islands.reshape(-1))[1:]))


def _with_hole(mask: BoolArray, rng: np.random.Generator) -> BoolArray:
    """The mask without a disc of up to a tenth of its area."""
    rows, columns = np.nonzero(mask)
    at = int(rng.integers(len(rows)))
    radius = np.sqrt(rng.uniform(0.02, 0.1) * len(rows) / np.pi)
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return mask & (np.hypot(y - rows[at], x - columns[at]) > radius)


def _neighbour(instances: NDArray[np.int32], instance: int, num_objects: int, rng: np.random.Generator) -> int | None:
    """An object whose pixels touch the object's in the image."""
    from scipy.ndimage import binary_dilation

    window = _window(instances == instance, 2)
    local = instances[window]
    around = np.unique(local[binary_dilation(local == instance) & (local != instance)])
    around = around[(around > 0) & (around <= num_objects)]
    return int(rng.choice(around)) if len(around) else None


def simulate_masks(
    parts: NDArray[np.int32],
    instance_of: Sequence[int] | NDArray[np.int32],
    num_objects: int,
    errors: MaskErrors,
    rng: np.random.Generator,
) -> MaskSet:
    """What a segmenter would find in one view: objects, their parts and the room's surfaces, shuffled.

    Args:
        parts: [H, W], the part that each pixel sees.
        instance_of: [P], the instance of each part; 1..`num_objects` are objects, larger ones the room's surfaces.
        num_objects: how many objects there are.
        errors: how often what goes wrong.
        rng: the randomness; its state decides everything.

    Returns:
        overlapping masks in random order. Scores are near the masks' true IoU, a whole object's above its parts'.
    """
    height, width = parts.shape
    pixel = width / 256
    smallest = max(errors.min_area * height * width, 12.0)
    instances = np.asarray(instance_of, dtype=np.int32)[parts]
    part_ids, part_areas = np.unique(parts, return_counts=True)
    masks: list[_Mask] = []

    def add(truth: BoolArray, granularity: str, merged: BoolArray | None = None) -> None:
        if rng.uniform() < errors.drop:
            return
        found = truth if merged is None else truth | merged
        if rng.uniform() < errors.fragment:
            found = _largest_island(found)
        pieces = _halves(found, rng) if rng.uniform() < errors.split else [found]
        for piece in pieces:
            if errors.jitter > 0:
                piece = _redraw_border(piece, errors.jitter * pixel, rng.uniform() < errors.ragged, pixel, rng)
            if piece.any() and rng.uniform() < errors.hole:
                piece = _with_hole(piece, rng)
            if piece.sum() >= smallest:
                masks.append(_Mask(truth, piece, granularity))

    for instance in np.unique(instances):
        whole = instances == instance
        if whole.sum() < smallest:
            continue
        own = [(p, a) for p, a in zip(part_ids, part_areas, strict=True) if instance_of[p] == instance]
        visible = [p for p, area in own if area >= smallest]
        if len(own) > 1:
            for part in visible:
                add(parts == part, "part")
        if len(visible) > 1 and rng.uniform() < errors.whole_missed:
            continue
        neighbour = None
        if instance <= num_objects and rng.uniform() < errors.merge:
            neighbour = _neighbour(instances, int(instance), num_objects, rng)
        add(whole, "whole", None if neighbour is None else instances == neighbour)

    if not masks:
        return MaskSet(height, width)
    records: list[dict[str, Any]] = []
    scores = []
    for mask in masks:
        iou = float((mask.truth & mask.found).sum() / (mask.truth | mask.found).sum())
        best = 0.97 if mask.granularity == "whole" else 0.92
        # A segmenter's own estimate flatters: half of what the mask lost, and noise.
        score = best - 0.5 * (1 - iou) + 0.015 * rng.standard_normal()
        scores.append(round(float(np.clip(score, 0.5, 0.995)), 4))
        records.append(
            {
                "stability_score": round(float(np.clip(score + 0.01 * rng.standard_normal(), 0.5, 1)), 4),
                "granularity": mask.granularity,
            }
        )
    order = rng.permutation(len(masks))
    return MaskSet.from_arrays(
        np.stack([masks[k].found for k in order]),
        [scores[k] for k in order],
        [records[k] for k in order],
    )


def faulty_track(
    maps: Sequence[NDArray[np.int32]], instance: int, part: float, rng: np.random.Generator
) -> list[BoolArray]:
    """What a tracker answers that follows one object through pictures, and goes wrong in some of them.

    Args:
        maps: [H, W] of each picture, the instance that each pixel sees; 0 = none.
        instance: the object.
        part: of the pictures, rounded up, in which it goes wrong: it loses the object, takes a neighbour along, jumps
            to another object or keeps half of it, all with the border and the holes of hard masks.
        rng: the randomness.

    Returns:
        a mask [H, W] a picture.
    """
    wrong = set(rng.permutation(len(maps))[: int(np.ceil(part * len(maps)))].tolist())
    return [
        _gone_wrong(labels, instance, rng) if number in wrong else labels == instance
        for number, labels in enumerate(maps)
    ]


def _gone_wrong(labels: NDArray[np.int32], instance: int, rng: np.random.Generator) -> BoolArray:
    """The mask of an object [H, W] as it is in a picture in which a tracker goes wrong."""
    errors, found = MASK_ERRORS["hard"], labels == instance
    kind = rng.choice(["drop", "merge", "jump", "split"])
    if kind == "drop" or not found.any():
        return np.zeros_like(found)
    if kind == "split":
        found = _halves(found, rng)[0]
    else:
        neighbour = _neighbour(labels, instance, int(labels.max()), rng)
        other = labels == (0 if neighbour is None else neighbour)
        found = other if kind == "jump" else found | other
    pixel = labels.shape[1] / 256
    found = _redraw_border(found, errors.jitter * pixel, bool(rng.uniform() < errors.ragged), pixel, rng)
    return _with_hole(found, rng) if found.any() and rng.uniform() < errors.hole else found
