"""Writing the `tileset.json` of 3D Tiles 1.1 around a glTF file: one tile, which is what a captured scene fits in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from gseg_ns.files import atomic_path


def write_tileset(path: Path, content: str, low: torch.Tensor, high: torch.Tensor) -> None:
    """Write a tileset of one tile.

    It says nothing of a place on Earth, which a captured scene does not know: whoever shows it gives the tileset a
    `modelMatrix`.

    Args:
        path: the file.
        content: the GLB, relative to the tileset.
        low: [3] least corner of what the GLB shows, in its own coordinates (+Y up).
        high: [3] greatest corner.

    Raises:
        GsegError: the file cannot be written.
    """
    # The coordinates of tiles have z up, and runtimes turn the content of glTF: (x, y, z) becomes (x, -z, y).
    (x, y, z), (a, b, c) = ((low + high).double() / 2).tolist(), ((high - low).double() / 2).clamp_min(1e-6).tolist()
    box = [x, -z, y, a, 0, 0, 0, c, 0, 0, 0, b]
    tile: dict[str, Any] = {
        "boundingVolume": {"box": box},
        "geometricError": 0,
        "refine": "REPLACE",
        "content": {"uri": content},
    }
    # As large as the scene: it is shown as soon as it would cover a few pixels.
    error = 2 * math.hypot(a, b, c)
    document = {"asset": {"version": "1.1", "generator": "gseg-ns"}, "geometricError": error, "root": tile}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
