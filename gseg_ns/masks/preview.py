"""A contact sheet: photographs with their masks drawn, to see at a glance whether masks are any good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.masks.folder import MaskFolder
from gseg_ns.masks.generate import coverage
from gseg_ns.masks.images import SceneImage, read_image
from gseg_ns.masks.load import load_masks
from gseg_ns.masks.mask_file import MaskFile
from gseg_ns.masks.paint import PaintOrder, paint, resize_labels
from gseg_ns.palette import colors

_GAP = 6
_CAPTION = 18


def draw(pixels: np.ndarray, labels: Tensor) -> np.ndarray:
    """A photograph with the labels over it: half color, dark outlines; unlabelled pixels stay grey.

    Args:
        pixels: uint8 [H, W, 3].
        labels: integer [H, W], 0 = none.

    Returns:
        uint8 [H, W, 3].
    """
    ids = labels.numpy()
    grey = pixels.astype(np.float32).mean(axis=2, keepdims=True)
    tinted = 0.45 * grey + 0.55 * colors(labels).numpy().astype(np.float32)
    drawn = np.where(ids[..., None] > 0, tinted, grey * 0.6)
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    drawn[edge] *= 0.3
    return drawn.astype(np.uint8)


def contact_sheet(
    images: Sequence[SceneImage],
    folder: Path,
    path: Path,
    count: int = 24,
    width: int = 320,
    orders: Sequence[PaintOrder] = ("confidence", "largest", "smallest"),
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write a sheet of evenly chosen images: the photograph, then its masks painted in each of `orders`.

    Args:
        images: the photographs of the scene.
        folder: their masks.
        path: the PNG to write.
        count: images on the sheet, at most.
        width: pixels of a thumbnail.
        orders: see `paint`. A scene of label maps has nothing to order and is drawn once.
        progress: called with the number of images drawn.

    Returns:
        how many images are on the sheet.

    Raises:
        GsegError: there are no masks for any image, or the sheet cannot be written.
    """
    from PIL import Image, ImageDraw

    masks = MaskFolder(folder, strict=False)
    pairs = [(image, file) for image in images if (file := masks.find(image.name)) is not None]
    if not pairs:
        raise GsegError(f"{folder} has no masks for any of the {len(images)} images: nothing to draw.")
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int))]
    if all(file.is_label_map for _, file in chosen):
        orders = orders[:1]
    strips = []
    for done, (image, file) in enumerate(chosen):
        progress(done)
        try:
            strips.append(_strip(image, file, width, orders))
        except GsegError as error:
            strips.append((np.zeros((width * 3 // 4, width, 3), np.uint8), f"{image.name}: {error}"))
    progress(len(chosen))
    cell_width = max(strip.shape[1] for strip, _ in strips)
    cell_height = max(strip.shape[0] for strip, _ in strips) + _CAPTION
    # As square as the strips allow.
    columns = max(1, min(len(strips), round((len(strips) * cell_height / cell_width) ** 0.5)))
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * (cell_width + _GAP) + _GAP, rows * (cell_height + _GAP) + _GAP), (24, 24, 24))
    pen = ImageDraw.Draw(sheet)
    for index, (strip, caption) in enumerate(strips):
        x = _GAP + index % columns * (cell_width + _GAP)
        y = _GAP + index // columns * (cell_height + _GAP)
        sheet.paste(Image.fromarray(strip), (x, y + _CAPTION))
        pen.text((x, y + 2), caption[: cell_width // 6], fill=(230, 230, 230))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return len(strips)


def _strip(image: SceneImage, file: MaskFile, width: int, orders: Sequence[PaintOrder]) -> tuple[np.ndarray, str]:
    from PIL import Image

    pixels = read_image(image.path)
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    masks = load_masks(file)
    tiles = [draw(small, resize_labels(paint(masks, order, min_score=0.0), height, width)) for order in orders]
    caption = f"{image.name}: {len(masks)} masks, {coverage(masks):.0%} covered ({', '.join(orders)} on top)"
    return np.concatenate([small, *tiles], axis=1), caption
