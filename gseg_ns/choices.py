"""What options let one choose from, in a module light enough for the command line to import."""

from __future__ import annotations

from typing import Literal

SplatFormat = Literal["ply", "spz", "glb"]
"""`ply`: 3DGS PLY, exact, with an integer `label` and the group's color a splat. `spz`: a tenth of the size, lossy.
`glb`: glTF with KHR_gaussian_splatting, exact."""

EditKind = Literal["recolor", "opacity", "transform", "duplicate", "swap", "remove", "hide", "isolate", "show-all"]
"""What an edit does to Gaussians."""
