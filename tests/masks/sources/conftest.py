from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def tiny_capture(tmp_path: Path) -> Path:
    """Five photographs whose cameras stand in a row, called in another order."""
    import json

    places = {0: 0.0, 1: 3.0, 2: 1.0, 3: 4.0, 4: 2.0}
    frames = []
    for name, x in places.items():
        pose = np.eye(4)
        pose[0, 3] = x
        pixels = np.random.default_rng(name).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        frames.append({"file_path": f"images/{name}.png", "transform_matrix": pose.tolist()})
    camera = {"fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48}
    (tmp_path / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    return tmp_path
