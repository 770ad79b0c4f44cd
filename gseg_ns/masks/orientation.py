"""Whether a mask can belong to a photograph, by its size, and photographs that are stored lying on their side.

Cameras store the sensor's pixels and note in EXIF how to turn them. Nerfstudio and COLMAP take the pixels as stored;
OpenCV and most viewers turn them, so that masks made with those lie on an upright copy. Mostly the size tells. Where it
cannot (upside down, mirrored, square), borders of masks lie on edges of the photograph one way and not the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.captures.photographs import FORMATS, exif_of
from gseg_ns.errors import GsegError
from gseg_ns.masks.images import read_image
from gseg_ns.masks.mask_set import nearest_index
from gseg_ns.reading import reading

Size = tuple[int, int]
"""Height and width."""

AS_STORED = 1
_ORIENTATION_TAG = 0x0112
_ASKED = 12
"""Photographs that are looked at where sizes do not tell."""
_LOOKED_AT = 400
"""Longer side of them in pixels."""
_CLEAR = 1.1
"""How many times stronger the edges below the borders of masks must be one way than the other to decide."""
_NO_EDGE = 0.01
"""Strength below which an edge is none: drawn pictures have places without any."""
_ON_ITS_SIDE = (5, 6, 7, 8)
_MEANING = {
    2: "mirrored",
    3: "upside down",
    4: "mirrored upside down",
    5: "on its side, mirrored",
    6: "on its left side",
    7: "on its side, mirrored",
    8: "on its right side",
}


def exif_orientation(path: Path) -> int:
    """How a photograph has to be turned to be upright: EXIF's 1 (it is upright) to 8; 1 where nothing is said."""
    from PIL import Image

    value: Any = AS_STORED
    with suppress(GsegError), reading(path, "a photograph"), Image.open(path, formats=FORMATS) as image:
        value = exif_of(image, path).get(_ORIENTATION_TAG, AS_STORED)
    return value if isinstance(value, int) and value in _MEANING else AS_STORED


def upright_index(size: Size, orientation: int) -> Tensor:
    """Where each stored pixel of a photograph lies in its upright copy.

    Args:
        size: of the upright copy.
        orientation: EXIF's.

    Returns:
        int64 of the stored size, flat indices into the upright copy.
    """
    upright = np.arange(size[0] * size[1]).reshape(size)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright.T, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    return torch.from_numpy(np.ascontiguousarray(stored))


def same_proportions(mask: Size, image: Size) -> bool:
    """Whether one is a smaller or larger copy of the other, but for a pixel of rounding."""
    return abs(mask[0] * image[1] - mask[1] * image[0]) <= max(*mask, *image)


def fits_upright_alone(mask: Size, image: Size, orientation: int) -> bool:
    """Whether a mask has the proportions of the upright photograph and not those of the stored one.

    One such mask in a folder shows that whatever made them turned the photographs (see `lie_upright`).
    """
    return (
        orientation in _ON_ITS_SIDE
        and not same_proportions(mask, image)
        and same_proportions(mask, (image[1], image[0]))
    )


@dataclass(frozen=True)
class MaskOfPhotograph:
    """What there is to see of how the masks of a photograph lie on it."""

    size: Size
    """Of the masks."""
    photograph: Path
    photograph_size: Size
    """As stored."""
    labels: Callable[[], Tensor]
    """Gives their label map, integer of `size`."""
    outlined: bool = True
    """Whether things end where labels do: scribbles lie anywhere on them."""


def lie_upright(masks: Iterable[MaskOfPhotograph], tell: Callable[[str], None] = lambda text: None) -> bool:
    """Whether the masks of a folder lie on upright copies of their photographs.

    Args:
        masks: of all photographs that have some.
        tell: is told where that cannot be known.
    """
    open_ones: list[tuple[MaskOfPhotograph, int]] = []
    stored = False
    for mask in masks:
        orientation = exif_orientation(mask.photograph)
        if orientation == AS_STORED:
            continue
        if fits_upright_alone(mask.size, mask.photograph_size, orientation):
            return True
        if same_proportions(mask.size, _turned(mask.photograph_size, orientation)):
            open_ones.append((mask, orientation))
        elif same_proportions(mask.size, mask.photograph_size):
            stored = True
    if stored or not open_ones:
        return False
    step = -(-len(open_ones) // _ASKED)
    as_stored, upright = 0.0, 0.0
    for mask, orientation in open_ones[::step]:
        if not mask.outlined:
            continue
        one, other = border_strengths(read_image(mask.photograph), mask.labels(), orientation)
        as_stored, upright = as_stored + one, upright + other
    ratio = (upright + _NO_EDGE) / (as_stored + _NO_EDGE)
    if abs(math.log(ratio)) < math.log(_CLEAR):
        tell(
            f"{len(open_ones)} photographs, such as {open_ones[0][0].photograph.name}, are to be turned by their EXIF "
            "tags, and it does not show whether their masks lie on turned copies: they are taken to lie on the pixels "
            "as stored."
        )
    return ratio >= _CLEAR


def border_strengths(photograph: np.ndarray, labels: Tensor, orientation: int) -> tuple[float, float]:
    """How strong a photograph's edges are below the borders of labels, as a multiple of their mean; 0 without borders.

    Args:
        photograph: uint8 [H, W, 3] as stored.
        labels: [h, w], which lie on it as stored or on its upright copy.
        orientation: EXIF's.

    Returns:
        if they lie on the pixels as stored, and if on the upright copy.
    """
    import cv2

    height, width = photograph.shape[:2]
    scale = min(1.0, _LOOKED_AT / max(height, width))
    height, width = max(2, round(height * scale)), max(2, round(width * scale))
    grey = cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32).mean(axis=2)
    edges = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    if not edges.any():
        return 0.0, 0.0
    found = []
    for turn in (AS_STORED, orientation):
        turned = labels.cpu().flatten()[upright_index((labels.shape[0], labels.shape[1]), turn)]
        small = turned.flatten()[nearest_index(turned.shape[0], turned.shape[1], height, width)].numpy()
        border = np.zeros(small.shape, dtype=bool)
        border[:-1] |= small[:-1] != small[1:]
        border[:, :-1] |= small[:, :-1] != small[:, 1:]
        found.append(float(edges[border].mean() / edges.mean()) if border.any() else 0.0)
    return found[0], found[1]


def mask_index(source: Path | str, mask: Size, image: Size, orientation: int, upright: bool = False) -> Tensor | None:
    """Which pixel of a mask each pixel of its photograph is.

    Args:
        source: what to call the mask in a message.
        mask: its size.
        image: the photograph's size as stored.
        orientation: the photograph's, see `exif_orientation`.
        upright: other masks of its folder lie on upright copies (`lie_upright`), so that this one does, too, where its
            size does not tell.

    Returns:
        int64 [H, W] of the photograph, flat indices into the mask; None where they are the same pixels.

    Raises:
        GsegError: the mask has other proportions than the photograph, however that is turned.
    """
    fits = same_proportions(mask, image)
    turned = fits_upright_alone(mask, image, orientation)
    if upright and orientation != AS_STORED and same_proportions(mask, _turned(image, orientation)):
        turned = True
    if not fits and not turned:
        hint = ": it belongs to another picture, or is cropped"
        if same_proportions(mask, (image[1], image[0])):
            hint = ": it is turned, and the photograph has no EXIF tag that says which way"
        raise GsegError(
            f"{source} is {mask[1]}x{mask[0]}, but its photograph {image[1]}x{image[0]}{hint}. "
            "Make it again from the photograph as it is stored."
        )
    if not turned:
        return None if mask == image else nearest_index(*mask, *image)
    index = upright_index(mask, orientation)
    if tuple(index.shape) != image:
        index = index.flatten()[nearest_index(index.shape[0], index.shape[1], *image)]
    return index


def _turned(image: Size, orientation: int) -> Size:
    return (image[1], image[0]) if orientation in _ON_ITS_SIDE else image
