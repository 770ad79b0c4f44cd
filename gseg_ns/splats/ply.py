"""Reading and writing 3DGS PLY files, the format that every splat tool shares.

Layout (Kerbl et al. 2023, reference code): one `vertex` element with `x y z nx ny nz f_dc_0..2 f_rest_* opacity
scale_0..2 rot_0..3`, all float. `f_rest` is channel-major: all coefficients of red, then green, then blue. Further
properties are kept as columns of `Splats.extra`: `name_0 .. name_k` become one column [N, k + 1], `red green blue`
become `rgb` [N, 3], any other property is a column [N].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.reading import check_ply_counts, reading
from gseg_ns.splats.container import SH_SIZES, Splats
from gseg_ns.splats.degenerate import FLAT_LOG_SCALE, bake_filter, mend

if TYPE_CHECKING:
    from plyfile import PlyData

_CORE = (
    *("x", "y", "z"),
    *(f"f_dc_{i}" for i in range(3)),
    "opacity",
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
)
_NORMALS = ("nx", "ny", "nz")
_RGB = ("red", "green", "blue")
_SH_C0 = 0.28209479177387814
_MODE_COMMENT = "rasterize_mode: antialiased"
_ANTIALIASED = r"(rasterize_mode|SplatRenderMode)\s*[:=]?\s*(antialiased|mip)"
"""Header comments, ours and Brush's, of splats that are to be drawn antialiased."""
_PLY_TYPES = {np.dtype(t) for t in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}


def read_ply(path: Path, drop_invalid: bool = False) -> Splats:
    """Read a 3DGS PLY: ASCII or binary of either byte order, SH degree 0 to 3.

    Colors are `f_dc` or, without, `red green blue` (`ns-export --ply-color-mode rgb`). Valid infinities are written as
    large finite numbers, surfels of two scales are flat Gaussians, Mip-Splatting's `filter_3D` is applied, and comments
    that ask for antialiasing set `rasterize_mode`.

    Args:
        path: the file.
        drop_invalid: leave out the Gaussians that `ns-export` does not write (see `Splats.exportable`).

    Returns:
        The Gaussians on the CPU, parameters as float32. Integer columns keep their type, unsigned 16- and 32-bit ones
        are widened to the next signed type.

    Raises:
        GsegError: the file is missing, damaged, truncated, or not a 3DGS PLY (the message names what it lacks).
    """
    from plyfile import PlyData

    with reading(path, "a PLY file", "It may be damaged or truncated."):
        check_ply_counts(path)
        ply = PlyData.read(path)
        splats = _meant(_splats(path, ply), ply)
    return splats.subset(splats.exportable()) if drop_invalid else splats


def _splats(path: Path, ply: PlyData) -> Splats:
    if "vertex" not in ply:
        raise GsegError(f"{path} has no `vertex` element, so it is not a 3DGS PLY.")
    if "chunk" in ply and any(p.name.startswith("packed_") for p in ply["vertex"].properties):
        raise GsegError(f"{path} is a compressed PLY. Convert it to a plain 3DGS PLY first.")
    data = ply["vertex"].data
    names = data.dtype.names or ()
    colored = all(name in names for name in _RGB) and not any(f"f_dc_{i}" in names for i in range(3))
    core = [name for name in _CORE if not (colored and name.startswith("f_dc_"))]
    missing = [name for name in core if name not in names]
    flat = missing == ["scale_2"]  # the surfels of 2D Gaussian splatting have no thickness
    if missing and not flat:
        raise GsegError(f"{path} is not a 3DGS PLY: it lacks the properties {', '.join(missing)}.")
    lists = [name for name in names if data.dtype[name].kind == "O"]
    if lists:
        raise GsegError(f"{path} is not a 3DGS PLY: {', '.join(lists)} holds lists, not one number a Gaussian.")

    rest = sum(re.fullmatch(r"f_rest_\d+", name) is not None for name in names)
    if rest % 3 or rest // 3 + 1 not in SH_SIZES:
        raise GsegError(f"{path} has {rest} f_rest properties; SH of degree 0, 1, 2, 3 have 0, 9, 24, 45.")
    rest_names = [f"f_rest_{i}" for i in range(rest)]
    if any(name not in names for name in rest_names):
        raise GsegError(f"{path}: the f_rest properties are not numbered 0 to {rest - 1}.")

    sh = torch.empty(len(data), 1 + rest // 3, 3)
    if colored:  # ns-export --ply-color-mode rgb
        top = 255.0 if data.dtype["red"].kind in "iu" else 1.0
        sh[:, 0] = (_columns(data, list(_RGB)) / top - 0.5) / _SH_C0
    else:
        sh[:, 0] = _columns(data, [f"f_dc_{i}" for i in range(3)])
    if rest:
        sh[:, 1:] = _columns(data, rest_names).reshape(len(data), 3, rest // 3).transpose(1, 2)
    return Splats(
        means=_columns(data, ["x", "y", "z"]),
        quats=_columns(data, [f"rot_{i}" for i in range(4)]),
        scales=F.pad(_columns(data, ["scale_0", "scale_1"]), (0, 1), value=FLAT_LOG_SCALE)
        if flat
        else _columns(data, [f"scale_{i}" for i in range(3)]),
        opacities=_columns(data, ["opacity"])[:, 0],
        sh=sh,
        extra=_read_extra(
            data, [name for name in names if name not in {*_CORE, *_NORMALS, *rest_names, *(_RGB if colored else ())}]
        ),
    )


def _meant(splats: Splats, ply: PlyData) -> Splats:
    """What the file means beyond its numbers: see `gseg_ns.splats.degenerate`, and how it says it is to be drawn."""
    splats = mend(splats)
    if "filter_3D" in splats.extra:
        size = splats.extra["filter_3D"]
        rest = {name: column for name, column in splats.extra.items() if name != "filter_3D"}
        splats = replace(bake_filter(splats, size), extra=rest)
    if any(re.fullmatch(_ANTIALIASED, comment.strip(), re.IGNORECASE) for comment in ply.comments):
        splats = replace(splats, rasterize_mode="antialiased")
    return splats


_ROWS = 1 << 14
"""Gaussians that are arranged at a time as a file has them: a table of all would take as much memory as the splat."""


def write_ply(
    path: Path,
    splats: Splats,
    properties: Mapping[str, Tensor | np.ndarray[Any, Any]] | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write a binary little-endian 3DGS PLY that SuperSplat, Blender add-ons, `plyfile` and Open3D read.

    Args:
        path: the file, written whole or not at all.
        splats: the Gaussians; columns of `extra` are written after the 3DGS properties.
        properties: further columns [N] or [N, k]. Integers stay integers (64-bit ones must fit 32 bits: PLY has no
            wider type), bool becomes uchar. `rgb` uint8 [N, 3] is written as `red green blue`.
        comments: header lines.

    Raises:
        GsegError: there is no Gaussian to write, a column does not fit, or the disk does not take the file.
    """
    from plyfile import PlyData, PlyElement

    count = len(splats)
    if count == 0:
        raise GsegError(f"There is no Gaussian to write to {path}.")
    parts: list[tuple[list[str], np.ndarray[Any, Any]]] = [
        (["x", "y", "z"], _float32(splats.means)),
        (list(_NORMALS), np.broadcast_to(np.float32(0), (count, 3))),
        ([f"f_dc_{i}" for i in range(3)], _float32(splats.sh[:, 0])),
    ]
    rest = 3 * (splats.sh.shape[1] - 1)
    if rest:
        # [N, K - 1, 3] -> channel-major [N, 3, K - 1], which becomes [N, 3 (K - 1)] as it is written.
        parts.append(([f"f_rest_{i}" for i in range(rest)], _float32(splats.sh[:, 1:].transpose(1, 2))))
    parts += [
        (["opacity"], _float32(splats.opacities)[:, None]),
        ([f"scale_{i}" for i in range(3)], _float32(splats.scales)),
        ([f"rot_{i}" for i in range(4)], _float32(splats.quats)),
    ]
    for name, column in {**splats.extra, **(properties or {})}.items():
        parts.append(_extra_part(path, name, column, count))

    names = [name for part in parts for name in part[0]]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise GsegError(f"Cannot write {path}: the properties {', '.join(twice)} would be written twice.")
    dtype = np.dtype([(name, array.dtype.newbyteorder("<")) for part_names, array in parts for name in part_names])
    comments = [*comments, *([_MODE_COMMENT] if splats.rasterize_mode == "antialiased" else [])]
    table = np.empty(min(count, _ROWS), dtype)
    header = PlyData([PlyElement.describe(table[:0], "vertex")], byte_order="<", comments=comments).header
    header = re.sub("^element vertex 0$", f"element vertex {count}", header, flags=re.MULTILINE)
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(header.encode("ascii") + b"\n")
        for first in range(0, count, _ROWS):
            rows = table[: count - first]
            for part_names, array in parts:
                columns = array[first : first + _ROWS].reshape(len(rows), -1)
                for i, name in enumerate(part_names):
                    rows[name] = columns[:, i]
            file.write(rows.tobytes())


def _columns(data: np.ndarray[Any, Any], names: list[str]) -> Tensor:
    """Columns of a structured array as one float32 tensor [N, len(names)]."""
    out = np.empty((len(data), len(names)), np.float32)
    with np.errstate(over="ignore"):  # a double too large for a float is infinite, as others are that were written so
        for i, name in enumerate(names):
            out[:, i] = data[name]
    return torch.from_numpy(out)


def _float32(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _read_extra(data: np.ndarray[Any, Any], names: list[str]) -> dict[str, Tensor]:
    """Group the further properties into columns, in the order of the file."""
    vectors: dict[str, list[str]] = {}
    for name in names:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        key = "rgb" if name in _RGB and all(c in names for c in _RGB) else match[1] if match else name
        vectors.setdefault(key, []).append(name)
    extra: dict[str, Tensor] = {}
    for key, members in vectors.items():
        ordered = list(_RGB) if key == "rgb" else [f"{key}_{i}" for i in range(len(members))]
        if sorted(ordered) != sorted(members):
            # Numbered with gaps, or a scalar: every property is a column of its own.
            extra.update({name: _integer_safe(data[name]) for name in members})
            continue
        extra[key] = torch.stack([_integer_safe(data[name]) for name in ordered], dim=1)
    return extra


def _integer_safe(column: np.ndarray[Any, Any]) -> Tensor:
    """A column as a tensor of a type that torch computes with."""
    wider = {"u2": np.int32, "u4": np.int64}.get(column.dtype.str[1:])
    native = wider or column.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(column, dtype=native, order="C"))


def _extra_part(
    path: Path, name: str, column: Tensor | np.ndarray[Any, Any], count: int
) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Property names and an array [N, k] of a type that PLY has, for one further column."""
    array = column.detach().cpu().numpy() if isinstance(column, Tensor) else np.asarray(column)
    if array.ndim not in (1, 2) or array.shape[0] != count:
        raise GsegError(f"Cannot write {path}: column {name} has shape {array.shape}, expected ({count},) or 2-D.")
    if not re.fullmatch(r"[^\s]+", name):
        raise GsegError(f"Cannot write {path}: {name!r} is not a PLY property name (no spaces).")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    elif array.dtype in (np.dtype(np.int64), np.dtype(np.uint64)):
        if array.size and (array.min() < -(2**31) or array.max() >= 2**31):
            raise GsegError(f"Cannot write {path}: column {name} holds integers that do not fit 32 bits.")
        array = array.astype(np.int32)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype not in _PLY_TYPES:
        raise GsegError(f"Cannot write {path}: column {name} is of type {array.dtype}, which PLY does not have.")
    if array.ndim == 1:
        return [name], array[:, None]
    if name == "rgb" and array.shape[1] == 3:
        return list(_RGB), array
    return [f"{name}_{i}" for i in range(array.shape[1])], array
