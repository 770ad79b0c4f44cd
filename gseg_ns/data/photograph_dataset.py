"""Photographs and their photometric masks, in whatever way files hold pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image

from gseg_ns.captures.photographs import FORMATS
from gseg_ns.masks.images import read_image
from gseg_ns.reading import check_memory, reading

_PIXEL_MEMORY = 8
"""Bytes a pixel while a photograph is read: Pillow has four, the array up to four; twice that where it is
transparent."""
_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")


class PhotographDataset(InputDataset):
    """Nerfstudio's dataset, which takes indices of a palette for grey and inks for transparency.

    Of a run whose photographs are gone the viewer is shown grey pictures; whoever needs the pixels gets a message.
    """

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        """Read a photograph: [H, W, 3 or 4] uint8, the fourth where it is transparent.

        Raises:
            GsegError: the file is missing or damaged.
        """
        path = Path(self.image_filenames[image_idx])
        with reading(path, "a photograph", "Save it again or remove its frame."):
            with Image.open(path, formats=FORMATS) as image:
                alpha = image.mode in _ALPHA or "transparency" in image.info
                wanted = image.width * image.height * _PIXEL_MEMORY * (2 if alpha else 1)
                check_memory(path, wanted, f"{image.width}x{image.height} pixels")
                pixels = np.asarray(image.convert("RGBA")) if alpha else None
        if pixels is None:
            pixels = read_image(path)
        if self.scale_factor != 1.0:
            height, width = pixels.shape[:2]
            size = int(width * self.scale_factor), int(height * self.scale_factor)
            pixels = np.asarray(Image.fromarray(pixels).resize(size, resample=Image.Resampling.BILINEAR))
        return np.array(pixels)

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """A photograph, and its photometric mask [H, W, 1] bool where the scene has any.

        Raises:
            GsegError: a file is missing or damaged.
        """
        read = self.get_image_float32 if image_type == "float32" else self.get_image_uint8
        data: dict[str, Any] = {"image_idx": image_idx, "image": read(image_idx)}
        masks = self._dataparser_outputs.mask_filenames
        if masks is not None:
            data["mask"] = self._mask(masks[image_idx], tuple(data["image"].shape[:2]))
        return data | self.get_metadata(data)

    def _mask(self, path: Path | None, size: tuple[int, int]) -> torch.Tensor:
        """What of a photograph is trained on; all of it where the scene has no mask for it."""
        if path is None:
            return torch.ones((*size, 1), dtype=torch.bool)
        with reading(path, "a mask", "Save it again or remove its mask_path."):
            with Image.open(path, formats=FORMATS) as image:
                check_memory(path, image.width * image.height * _PIXEL_MEMORY, f"{image.width}x{image.height} pixels")
                grey = image if image.mode in ("1", "L", "I", "I;16") else image.convert("L")
                small = grey.resize(size[::-1], resample=Image.Resampling.NEAREST)
                return torch.from_numpy(np.asarray(small) != 0)[..., None]

    def __getitem__(self, image_idx: int) -> dict[str, Any]:
        """What Nerfstudio's viewer shows of a view."""
        if not Path(self.image_filenames[image_idx]).is_file():
            camera = self.cameras[image_idx]
            return {"image_idx": image_idx, "image": torch.full((int(camera.height), int(camera.width), 3), 0.5)}
        return self.get_data(image_idx)
