"""Reading and writing SPZ, a compressed web format for splats (github.com/nianticlabs/spz): a tenth of a PLY's size."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import torch

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.files import atomic_path
from gseg_ns.reading import check_memory, read_bytes, reading
from gseg_ns.splats.container import SH_SIZES, Splats
from gseg_ns.splats.degenerate import mend
from gseg_ns.splats.placement import Placement

_MAX_BITS = 20
_POSITION_LIMIT = 2**23
"""Positions are 24-bit signed fixed point."""
_MAGIC = 0x5053474E
_GAUSSIAN = 19
"""Bytes of a Gaussian without harmonics, at least."""
_LARGEST_GAUSSIAN = 20 + 3 * 24
"""With harmonics, of the largest degree that any version has."""
_CHUNK = 2**22
_LARGEST_FILE = 2**33


def spz_placement(placement: Placement) -> Placement:
    """Where Gaussians lie in an SPZ file: its axes are right, up, back, and metres where their length is known."""
    return placement.with_up("y").in_meters()


def write_spz(path: Path, splats: Splats, placement: Placement | None = None) -> None:
    """Write an SPZ file of version 3 (gzip, smallest-three quaternions), which all SPZ readers know.

    SPZ holds what is seen and nothing else: columns of `extra` are not written. It is lossy: 8 bits for color,
    opacity, log scale (range -10 to 5.9) and SH (range -1 to 1), 10 bits for rotation; positions get as many fractional
    bits as the extent of the splats leaves.

    Args:
        path: the file, written whole or not at all.
        splats: the Gaussians, of any SH degree; those that `Splats.exportable` rejects are left out.
        placement: where they lie; see `spz_placement` for what is made of it.

    Raises:
        GsegError: the package `gsply` is not installed, nothing can be written, the positions reach beyond 4 million
            units, or the disk does not take the file.
    """
    try:
        from gsply import GSData
        from gsply import write_spz as write
    except ImportError as error:
        raise missing_extra("SPZ needs the package gsply", "spz") from error

    splats = splats.to("cpu")
    splats = spz_placement(placement or Placement()).of(splats.subset(splats.exportable()))
    if len(splats) == 0:
        raise GsegError(f"There is no Gaussian to write to {path}.")
    reach = float(splats.means.abs().max())
    bits = min(_MAX_BITS, math.floor(math.log2((_POSITION_LIMIT - 1) / max(reach, 1e-6))))
    if bits < 1:
        raise GsegError(
            f"Cannot write {path}: positions reach {reach:.3g} units, SPZ holds 4 million. Scale the scene."
        )
    data = GSData(
        means=splats.means.numpy(),
        scales=splats.scales.numpy(),
        quats=torch.nn.functional.normalize(splats.quats, dim=-1).numpy(),
        opacities=splats.opacities.numpy(),
        sh0=splats.sh[:, 0].numpy(),
        shN=splats.sh[:, 1:].numpy(),
    )
    with atomic_path(Path(path)) as temporary:
        write(temporary, data, version=3, fractional_bits=bits)


def read_spz(path: Path) -> Splats:
    """Read an SPZ file of version 1 to 3, in the coordinates that it has (by the format: y up).

    Raises:
        GsegError: the package `gsply` is not installed, or the file is missing, damaged or none.
    """
    try:
        from gsply import read_spz as read
    except ImportError as error:
        raise missing_extra("SPZ needs the package gsply", "spz") from error

    with reading(path, "an SPZ file", "It may be damaged or truncated."):
        _check_header(path)
        data = read(path)
        count = len(data.means)
        sh = torch.from_numpy(np.array(data.sh0, np.float32)).reshape(count, 1, 3)
        if data.shN is not None and np.size(data.shN):
            sh = torch.cat([sh, torch.from_numpy(np.array(data.shN, np.float32))], dim=1)
        if sh.shape[1] not in SH_SIZES:
            raise ValueError(f"harmonics of {sh.shape[1]} coefficients")
        means, quats, scales = (
            torch.from_numpy(np.array(c, np.float32)) for c in (data.means, data.quats, data.scales)
        )
        opacities = torch.from_numpy(np.array(data.opacities, np.float32)).reshape(count)
        return mend(Splats(means, quats, scales, opacities, sh))


def _check_header(path: Path) -> None:
    """Refuse a file that claims more Gaussians than it can hold, before memory is taken for them.

    Raises:
        ValueError: it is no SPZ, or not of such a version.
        GsegError: it claims too many.
    """
    packed = read_bytes(path, _LARGEST_FILE)
    start = zlib.decompressobj(wbits=31).decompress(packed, 16)
    if len(start) < 16:
        raise ValueError("it has no header")
    magic, version, count = (int.from_bytes(start[i : i + 4], "little") for i in (0, 4, 8))
    if magic != _MAGIC or not 1 <= version <= 3:
        raise ValueError("its header is that of another format or version")
    check_memory(path, count * _GAUSSIAN * 12, f"{count:,} Gaussians")
    unpacked, left, most = zlib.decompressobj(wbits=31), packed, 16 + count * _LARGEST_GAUSSIAN
    while left and most >= 0:
        most -= len(unpacked.decompress(left, _CHUNK))
        left = unpacked.unconsumed_tail
    if most < 0:
        raise ValueError("it holds more than its Gaussians")
