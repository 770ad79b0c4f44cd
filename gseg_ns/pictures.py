"""Pictures for people: overlays of label maps, captions, contact sheets, films."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.palette import colors
from gseg_ns.reading import check_memory, reading

_PIXEL_MEMORY = 32
"""Bytes a pixel while a picture is read: four of its own, and floats twice."""


def outlines(labels: Tensor) -> Tensor:
    """Pixels whose right or lower neighbour has another label: bool [H, W] from int [H, W]."""
    edge = torch.zeros_like(labels, dtype=torch.bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def overlay(rgb: Tensor, labels: Tensor, tint: float = 0.45) -> Tensor:
    """Tint a picture with its groups' colors and draw their outlines in white.

    Args:
        rgb: [H, W, 3] in [0, 1].
        labels: [H, W] integer; 0 stays untinted.
        tint: share of the group's color.

    Returns:
        [H, W, 3] in [0, 1].
    """
    color = colors(labels).to(rgb) / 255
    tinted = torch.where((labels > 0)[..., None], rgb * (1 - tint) + color * tint, rgb)
    return torch.where(outlines(labels)[..., None], torch.ones_like(rgb), tinted)


def captioned(picture: Tensor, text: str, color: Sequence[int], size: int = 14) -> Tensor:
    """A picture with a line of text under it, behind a swatch of a color.

    Args:
        picture: [H, W, 3] in [0, 1].
        text: cut where it does not fit.
        color: red, green, blue in 0..255.
        size: of the letters, in pixels.

    Returns:
        [H + about 1.5 size, W, 3] in [0, 1].
    """
    height, width = picture.shape[:2]
    bar = round(1.5 * size)
    image = Image.new("RGB", (width, height + bar), "white")
    image.paste(Image.fromarray(to_bytes(picture)), (0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height + 2, bar - 5, height + bar - 2), fill=tuple(color))
    font = ImageFont.load_default(size)
    if draw.textlength(text, font) > width - bar:
        while text and draw.textlength(text + "…", font) > width - bar:
            text = text[:-1]
        text += "…"
    draw.text((bar, height + bar // 2), text, "black", font, anchor="lm")
    return torch.from_numpy(np.array(image)).float() / 255


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """A picture [H, W, 3] of floats at another size, each pixel the mean of what it covers: [height, width, 3]."""
    if picture.shape[:2] == (height, width):
        return picture
    return F.interpolate(picture.permute(2, 0, 1)[None], (height, width), mode="area")[0].permute(1, 2, 0)


def to_bytes(picture: Tensor) -> np.ndarray[Any, Any]:
    """A picture [H, W, 3] in [0, 1] as uint8."""
    return (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def write_png(path: Path, picture: Tensor) -> None:
    """Write a picture [H, W, 3] in [0, 1].

    Raises:
        GsegError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(to_bytes(picture)).save(temporary, format="PNG")


def read_png(path: Path) -> Tensor:
    """Read what `write_png` wrote: [H, W, 3] in [0, 1].

    Raises:
        GsegError: it cannot be read.
    """
    with reading(path, "a picture"), Image.open(path, formats=("PNG",)) as image:
        check_memory(path, image.width * image.height * _PIXEL_MEMORY, f"{image.width}x{image.height} pixels")
        return torch.from_numpy(np.array(image.convert("RGB"))).float() / 255


def write_mp4(path: Path, frames: Iterable[Tensor], rate: float = 30.0) -> None:
    """Write pictures [H, W, 3] in [0, 1], at least one and all of one size, as a film.

    They may be made as they are asked for: then a long film takes no more memory than a short one.

    Raises:
        GsegError: it cannot be written.
    """
    import cv2  # Nerfstudio's; it brings its own encoder

    pictures = iter(frames)
    first = next(pictures)
    height, width = first.shape[:2]
    with atomic_path(path) as temporary:
        film = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        if not film.isOpened():
            raise GsegError(f"Cannot write {path}: OpenCV has no MPEG-4 encoder here. The PNGs are there already.")
        written = 0
        for frame in chain([first], pictures):
            film.write(np.ascontiguousarray(to_bytes(frame)[..., ::-1]))
            written += 1
        film.release()
        # The encoder says nothing of a full disk.
        if (there := _frames_of(temporary)) != written:
            raise GsegError(f"Cannot write {path}: of {written} pictures {there} can be read. Check free space.")


def _frames_of(path: Path) -> int:
    """How many pictures of a film can be decoded."""
    import cv2

    film = cv2.VideoCapture(str(path))
    try:
        return next(number for number in count() if not film.grab())
    finally:
        film.release()


def contact_sheet(rows: Sequence[Sequence[Tensor]], gap: int = 4) -> Tensor:
    """Lay pictures out in rows on white.

    Args:
        rows: pictures [H, W, 3] in [0, 1]; they are scaled to the size of the first one.
        gap: pixels between them.

    Returns:
        [H', W', 3] in [0, 1].
    """
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    sheet = torch.ones((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            image = picture.detach().cpu().float()
            image = resized(image, height, width)
            top, left = y * (height + gap), x * (width + gap)
            sheet[top : top + height, left : left + width] = image
    return sheet
