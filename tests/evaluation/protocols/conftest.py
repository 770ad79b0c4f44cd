from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save() -> Callable[[Path, np.ndarray], None]:
    """Write an image; bool arrays become masks of 0 and 255."""

    def write(path: Path, array: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if array.dtype == bool:
            array = array.astype(np.uint8) * 255
        Image.fromarray(array).save(path)

    return write
