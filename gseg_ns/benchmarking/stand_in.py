"""Image embeddings for `saga-v1` on scenes whose masks came without SAM.

They say what SAM's encoder says only in the crudest way: near and alike pixels have near features. They let the method
run and its loss terms be compared; they say nothing about what SAM's guidance is worth.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from gseg_ns.files import atomic_path
from gseg_ns.masks import MaskFolder
from gseg_ns.masks.images import read_image, scene_images

CHANNELS = 256
GRID = 64
"""Cells of the embedding on the image's longer side; both are those of SAM."""

_SPREAD = 4.0
"""Frequencies: colors or places that differ by about 1 / 4 of the range have unlike features."""


def embedding_options(scene: Path, masks: str, output: Path) -> tuple[str, ...]:
    """Options of `ns-train saga-v1` for its embeddings: none where the scene has them, else stand-ins are written.

    Args:
        scene: its folder.
        masks: mask folder within it.
        output: where stand-ins are written, in a folder named after scene and masks.

    Raises:
        GsegError: an image or mask cannot be read.
    """
    place = (scene / masks).resolve()
    folder = MaskFolder(place)
    if place.with_name(f"{place.name}_embeddings").is_dir():
        return ()
    # Other scenes may have the same name, and masks may lie anywhere.
    output = output.resolve() / f"{scene.resolve().name}-{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"
    for image in scene_images(scene):
        mask = folder.find(image.path)
        if mask is None:
            continue
        path = output / f"{mask.key}.npz"
        if not path.is_file():
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                np.savez(stream, embedding=stand_in(read_image(image.path)).astype(np.float16))
    return "--pipeline.model.embeddings-dir", str(output)


def stand_in(pixels: np.ndarray) -> np.ndarray:
    """Random Fourier features of color and place.

    Args:
        pixels: uint8 [H, W, 3].

    Returns:
        float32 [CHANNELS, h, w], the same for the same image.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    rows, columns = (max(1, round(GRID * side / max(height, width))) for side in (height, width))
    small = np.asarray(Image.fromarray(pixels).resize((columns, rows)), np.float32) / 255
    y, x = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    values = np.concatenate([small, np.stack([x, y], axis=-1)], axis=-1)
    directions = _SPREAD * np.random.default_rng(0).normal(size=(5, CHANNELS))
    return np.cos(values @ directions).transpose(2, 0, 1).astype(np.float32)
