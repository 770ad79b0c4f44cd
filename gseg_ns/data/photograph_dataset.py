"""The photographs of a scene as training reads them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from nerfstudio.data.datasets.base_dataset import InputDataset

from gseg_ns.captures.photographs import image_size
from gseg_ns.reading import check_memory, reading

_REMEDY = "Save this photograph again or remove its frame."
_PIXEL_MEMORY = 8
"""Bytes a pixel while Nerfstudio reads a photograph: Pillow has four, the array up to four."""


class PhotographDataset(InputDataset):
    """Nerfstudio's `InputDataset`, which says which photograph is damaged."""

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        """The image, uint8 [H, W, 3 or 4].

        Raises:
            GsegError: the file is missing, damaged, or claims more pixels than it can have.
        """
        path = self._dataparser_outputs.image_filenames[image_idx]
        with reading(path, "a photograph", _REMEDY):
            height, width = image_size(path)
            check_memory(path, height * width * _PIXEL_MEMORY, f"{width}x{height} pixels")
            return super().get_numpy_image(image_idx)

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """As upstream's: image, photometric mask, and what else there is.

        Raises:
            GsegError: as `get_numpy_image`; or the mask is missing, damaged, or of another size.
        """
        with reading(self._dataparser_outputs.image_filenames[image_idx], "a photograph with its mask"):
            return super().get_data(image_idx, image_type)
