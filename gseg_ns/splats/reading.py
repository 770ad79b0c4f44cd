"""Reading a splat of any format that is read, by its suffix."""

from __future__ import annotations

from pathlib import Path

from gseg_ns.errors import GsegError
from gseg_ns.splats.container import Splats
from gseg_ns.splats.ply import read_ply
from gseg_ns.splats.spz import read_spz

SUFFIXES = (".ply", ".spz")
"""Of splats that are read."""


def read_splats(path: Path) -> Splats:
    """Read a 3DGS PLY or an SPZ file.

    Raises:
        GsegError: the file is missing, damaged, or of another format.
    """
    suffix = path.suffix.lower()
    if suffix == ".spz":
        return read_spz(path)
    if suffix == ".ply":
        return read_ply(path)
    raise GsegError(f"{path} is no splat that is read: convert it to a 3DGS PLY or SPZ (SuperSplat exports both)")
