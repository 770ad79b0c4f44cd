"""What options let one choose from, in a module light enough for the command line to import."""

from __future__ import annotations

from typing import Literal

SplatFormat = Literal["ply", "spz", "glb", "usd", "usdz"]
"""`ply`: 3DGS PLY, exact, with an integer `label` a splat. `spz`: a tenth of the size, lossy. `glb`: glTF with
KHR_gaussian_splatting, exact, a node an object. `usd`: OpenUSD, exact, a stage that refers to a layer an object;
`usdz`: the same in one file."""

ExportFormat = Literal["ply", "spz", "glb", "usd", "usdz", "html"]
"""Those, and `html`: a page to look at, with all objects in one file."""

ProxyKind = Literal["box", "hull", "pieces", "mesh"]
"""What stands for an object where it has to be touched: its oriented box, its convex hull, several convex pieces, or a
closed mesh of its surface."""

MaskSourceName = Literal["sam", "sam2", "sam3", "grounded", "video", "sam3-video", "entity", "classical"]
"""Where masks come from, see `gseg_ns.masks.sources.registry`."""

UpAxis = Literal["y", "z", "y-down"]
"""Which way is up in a file; `y-down` is what 3DGS writes and its viewers expect of a PLY."""

EditKind = Literal[
    "recolor", "opacity", "transform", "duplicate", "swap", "remove", "hide", "isolate", "show", "show-all"
]
"""What an edit does to Gaussians."""
